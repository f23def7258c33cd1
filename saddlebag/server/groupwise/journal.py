"""The journal of a service: every call is on disk before it is answered, so a killed service resumes where it was.

A checkpoint with number c holds the state after c calls; the journal that begins with it holds the calls since. A file is a
header and records: length and CRC-32 of a body (little-endian, 32 bits each), and the body: one byte for its kind, then
the bytes of the request. A record that was cut short by a crash was never answered, and is dropped.
"""

from __future__ import annotations

import os
import struct
import zlib
from typing import TYPE_CHECKING

from saddlebag.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["FEEDBACK", "PARTIAL", "PREDICT", "Journal"]

PREDICT, FEEDBACK, PARTIAL = 1, 2, 3
_MAGIC = b"saddlebag journal 1\n"
_HEADER = struct.Struct("<II")


class Journal:
    """The journals of one folder; at most one is open for writing.

    Args:
        directory: the folder.
        sync: wait for the disk at every record, so that a power cut loses no answered call; a killed process loses none
            in either case.
    """

    def __init__(self, directory: Path, *, sync: bool = False) -> None:
        self._directory, self._sync = directory, sync
        self._file: int | None = None

    def path(self, number: int) -> Path:
        return self._directory / f"journal-{number:012d}.log"

    def numbers(self) -> list[int]:
        """The calls with which journals begin, ascending."""
        names = (path.name for path in self._directory.glob("journal-*.log")) if self._directory.is_dir() else ()
        return sorted(int(name[8:20]) for name in names if name[8:20].isdecimal())

    def begin(self, number: int) -> None:
        """Start the journal of the calls after the first `number`; an unfinished one of that number is replaced.

        Raises:
            StateError: the folder cannot be written.
        """
        self.close()
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path(number), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.write(self._file, _MAGIC)
        except OSError as error:
            raise StateError(f"cannot write {self.path(number)}: {error.strerror}") from error

    def append(self, kind: int, body: bytes) -> None:
        """Put a call on record.

        Raises:
            StateError: the disk is full, or worse; the call must not be applied.
        """
        assert self._file is not None, "begin first"
        data = bytes((kind,)) + body
        record = _HEADER.pack(len(data), zlib.crc32(data)) + data
        try:
            written = os.write(self._file, record)
            if written != len(record):
                raise OSError(0, f"only {written} of {len(record)} bytes were written")
            if self._sync:
                os.fsync(self._file)
        except OSError as error:
            raise StateError(f"cannot write the journal: {error.strerror or error}") from error

    def read(self, number: int) -> Iterator[tuple[int, bytes]]:
        """The (kind, request) of the calls on record in one journal, up to one that was cut short.

        Raises:
            StateError: the file is no journal, or a record before the last is damaged.
        """
        data = self.path(number).read_bytes()
        if not data.startswith(_MAGIC):
            if _MAGIC.startswith(data):  # cut short at its birth
                return
            raise StateError(f"{self.path(number)} is no journal")
        at = len(_MAGIC)
        while at + _HEADER.size <= len(data):
            length, checksum = _HEADER.unpack_from(data, at)
            body = data[at + _HEADER.size : at + _HEADER.size + length]
            end = at + _HEADER.size + length
            if end > len(data):
                return
            if not body or zlib.crc32(body) != checksum:
                if end == len(data):
                    return
                raise StateError(f"{self.path(number)} is damaged at byte {at}")
            yield body[0], body[1:]
            at = end

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
