"""The journal of a service: every call is on disk before it is answered, so a killed service resumes where it was.

A checkpoint with number c holds the state after c calls; a journal with number c begins there. A file, little-endian:

    20 bytes   "saddlebag journal 2" and a line feed
    u64, u32   its number, and the CRC-32 of the 28 bytes before
    records    u32 length of a body, u32 CRC-32 of the body, u32 CRC-32 of these 8 bytes and the record's place in the file;
               the body: u8 kind, u64 client, the bytes of the request

A record that a crash cut short was never answered, and is dropped: the file ends within it (or in zeros, which a power cut
can leave). Anything else that does not fit, a length included, is damage, and is refused by name: no answered call is dropped.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from typing import IO, TYPE_CHECKING, NamedTuple

from saddlebag.errors import LocalProtocolError, StateError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["FEEDBACK", "MAX_BODY", "PARTIAL", "PREDICT", "Call", "Journal"]

PREDICT, FEEDBACK, PARTIAL = 1, 2, 3
MAX_BODY = 1 << 24
"""Bytes of a record's body: what a connection may send (1 MiB and a little), with room; more is a damaged length."""
_MAGIC = b"saddlebag journal 2\n"
_ANY_MAGIC = b"saddlebag journal "
_HEAD = struct.Struct("<20sQ")
_CRC = struct.Struct("<I")
_RECORD = struct.Struct("<II")
_PLACE = struct.Struct("<IIQ")
_BODY = struct.Struct("<BQ")
_FIRST = _HEAD.size + _CRC.size
_WHOLE = _RECORD.size + _CRC.size


class Call(NamedTuple):
    """A call on record."""

    kind: int
    owner: int
    request: bytes


class Journal:
    """The journals of one folder; at most one is open for writing.

    A write that fails is taken back at once. Where that fails, too, every later call is refused until it succeeds: no record
    ever follows a torn one. After a failed fsync nobody knows what is on the disk, so nothing more is recorded at all.

    Args:
        directory: the folder.
        sync: wait for the disk at every record, so that a power cut loses no answered call; a killed process loses none
            in either case.
        mode: permissions of new files.
    """

    def __init__(self, directory: Path, *, sync: bool = False, mode: int = 0o600) -> None:
        self._directory, self._sync, self._mode = directory, sync, mode
        self._file: int | None = None
        self._number = self._whole = 0  # of the open one, and its bytes of whole records
        self._torn = self._lost = False

    def path(self, number: int) -> Path:
        return self._directory / f"journal-{number:012d}.log"

    def numbers(self) -> list[int]:
        """The calls with which journals begin, ascending."""
        names = (path.name for path in self._directory.glob("journal-*.log")) if self._directory.is_dir() else ()
        return sorted(int(name[8:20]) for name in names if name[8:20].isdecimal())

    def begin(self, number: int) -> None:
        """Start the journal of the calls after the first `number`; one of that number that is not open is replaced.

        Raises:
            StateError: the folder cannot be written; the journal before is still the open one.
        """
        if self._file is not None and self._number == number and not self._lost:
            return
        head = _HEAD.pack(_MAGIC, number)
        head += _CRC.pack(zlib.crc32(head))
        file = None
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            file = os.open(self.path(number), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, self._mode)
            _write(file, head)
            if self._sync:
                os.fsync(file)
                _sync_folder(self._directory)
        except OSError as error:
            if file is not None:
                os.close(file)
                with contextlib.suppress(OSError):
                    self.path(number).unlink()
            raise StateError(f"cannot write {self.path(number)}: {error.strerror or error}") from error
        self.close()
        self._file, self._number, self._whole, self._torn, self._lost = file, number, len(head), False, False

    def append(self, kind: int, body: bytes, owner: int = 0) -> None:
        """Put a call on record.

        Raises:
            StateError: the disk is full, or worse; the call must not be applied.
            LocalProtocolError: the request is longer than a connection allows.
        """
        assert self._file is not None, "begin first"
        data = _BODY.pack(kind, owner) + body
        if len(data) > MAX_BODY:
            raise LocalProtocolError(f"a call on record has at most {MAX_BODY} bytes, got {len(data)}")
        self._mend()
        record = _RECORD.pack(len(data), zlib.crc32(data))
        record += _CRC.pack(_place(record, self._whole)) + data
        try:
            _write(self._file, record)
        except OSError as error:
            self._torn = True
            with contextlib.suppress(StateError):
                self._mend()
            raise StateError(f"cannot write the journal: {error.strerror or error}") from error
        if self._sync:
            try:
                os.fsync(self._file)
            except OSError as error:
                self._torn = self._lost = True
                raise StateError(f"cannot write the journal: {error.strerror or error}") from error
        self._whole += len(record)

    def _mend(self) -> None:
        """Take back what a failed write left."""
        if not self._torn:
            return
        assert self._file is not None
        if self._lost:
            raise StateError("the disk failed to keep the journal; start the service again")
        try:
            os.ftruncate(self._file, self._whole)
            os.lseek(self._file, self._whole, os.SEEK_SET)
        except OSError as error:
            raise StateError(f"the journal holds half a call that cannot be taken back: {error.strerror or error}") from error
        self._torn = False

    def read(self, number: int) -> Iterator[Call]:
        """The calls on record in one journal, up to one that was cut short.

        Raises:
            StateError: the file is no journal of this version and number, or damaged.
        """
        path = self.path(number)
        try:
            with path.open("rb") as file:
                yield from _calls(file, path, number)
        except OSError as error:
            raise StateError(f"cannot read {path}: {error.strerror or error}") from error

    def forget_before(self, number: int) -> None:
        """Remove journals that no kept checkpoint needs."""
        for old in self.numbers():
            if old < number:
                self.path(old).unlink(missing_ok=True)

    def close(self) -> None:
        """End writing."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _calls(file: IO[bytes], path: Path, number: int) -> Iterator[Call]:
    if not _begins(file, path, number):
        return
    at = _FIRST
    while header := file.read(_WHOLE):
        if len(header) < _WHOLE or (not any(header) and _only_zeros(file)):
            return
        length, checksum = _RECORD.unpack_from(header)
        if _CRC.unpack_from(header, _RECORD.size)[0] != _place(header[: _RECORD.size], at) or not 9 <= length <= MAX_BODY:
            raise _damaged(path, at)
        body = file.read(length)
        if len(body) < length:
            return
        if zlib.crc32(body) != checksum:
            if not any(body) and _only_zeros(file):
                return
            raise _damaged(path, at)
        kind, owner = _BODY.unpack_from(body)
        yield Call(kind, owner, body[_BODY.size :])
        at += _WHOLE + length


def _begins(file: IO[bytes], path: Path, number: int) -> bool:
    """Whether the file's head is whole and right; one that was cut short at its birth holds no call."""
    head = file.read(_FIRST)
    cut = len(head) < _FIRST and _HEAD.pack(_MAGIC, number).startswith(head[: _HEAD.size])
    if cut or (not any(head) and _only_zeros(file)):
        return False
    if head.startswith(_ANY_MAGIC) and not head.startswith(_MAGIC):
        version = head[len(_ANY_MAGIC) : head.find(b"\n")].decode(errors="replace")
        raise StateError(
            f"{path} is of version {version}, this release reads version 2; serve it with the release that wrote it, "
            "or give --out another folder"
        )
    if (
        not head.startswith(_MAGIC)
        or len(head) < _FIRST
        or _CRC.unpack_from(head, _HEAD.size)[0] != zlib.crc32(head[: _HEAD.size])
    ):
        raise StateError(f"{path} is no journal, or its head is damaged")
    if (told := _HEAD.unpack_from(head)[1]) != number:
        raise StateError(f"{path} is the journal that begins with call {told}: the file was renamed")
    return True


def _place(header: bytes, at: int) -> int:
    """The check of a record's header: of its numbers, and of where it stands."""
    return zlib.crc32(_PLACE.pack(*_RECORD.unpack(header), at))


def _only_zeros(file: IO[bytes]) -> bool:
    while chunk := file.read(1 << 20):
        if any(chunk):
            return False
    return True


def _damaged(path: Path, at: int) -> StateError:
    return StateError(f"{path} is damaged at byte {at}: restore the file; to give up the calls from there on, cut it there")


def _write(file: int, data: bytes) -> None:
    written = os.write(file, data)
    if written != len(data):
        raise OSError(0, f"only {written} of {len(data)} bytes were written")


def _sync_folder(directory: Path) -> None:
    folder = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
