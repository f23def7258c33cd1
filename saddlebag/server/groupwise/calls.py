"""The file of a journal: a head, and a record for every call.

A checkpoint with number c holds the state after c calls; a journal with number c begins there. A file, little-endian:

    20 bytes   "saddlebag journal 2" and a line feed
    u64, u32   its number, and the CRC-32 of the 28 bytes before
    records    u32 length of a body, u32 CRC-32 of the body, u32 CRC-32 of these 8 bytes and the record's place in the file;
               the body: u8 kind, u64 client, the bytes of the request

A record that a crash cut short was never answered, and is dropped: the file ends within it (or in zeros, which a power cut
can leave). Anything else that does not fit, a length included, is damage, and is refused by name: no answered call is dropped.
"""

from __future__ import annotations

import struct
import zlib
from typing import IO, TYPE_CHECKING, NamedTuple

from saddlebag.errors import LocalProtocolError, StateError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["FEEDBACK", "GROW", "PARTIAL", "PREDICT"]

PREDICT, FEEDBACK, PARTIAL, GROW = 1, 2, 3, 4
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


def head_of(number: int) -> bytes:
    """The head of the journal that begins after so many calls."""
    head = _HEAD.pack(_MAGIC, number)
    return head + _CRC.pack(zlib.crc32(head))


def record_of(kind: int, request: bytes, owner: int, at: int) -> bytes:
    """The record of a call, to be written at this byte of the file.

    Raises:
        LocalProtocolError: the request is longer than a connection allows.
    """
    begin = _BODY.pack(kind, owner)
    length = len(begin) + len(request)
    if length > MAX_BODY:
        raise LocalProtocolError(f"a call on record has at most {MAX_BODY} bytes, got {length}")
    checksum = zlib.crc32(request, zlib.crc32(begin))
    place = zlib.crc32(_PLACE.pack(length, checksum, at))
    return b"".join((_RECORD.pack(length, checksum), _CRC.pack(place), begin, request))  # one copy of a long request


def number_in(file: IO[bytes]) -> int:
    """The number that a head says, right or not; the file stands at its beginning, before and after."""
    number = int.from_bytes(file.read(_HEAD.size)[len(_MAGIC) :], "little")
    file.seek(0)
    return number


def calls_in(file: IO[bytes], path: Path, number: int) -> Iterator[Call]:
    """The calls on record, up to one that was cut short; `StateError` for any other damage."""
    if not begins(file, path, number):
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


def begins(file: IO[bytes], path: Path, number: int) -> bool:
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
