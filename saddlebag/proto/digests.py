"""The digest of a file of states: the SHA-256 of every byte of it, kept in its own facts.

A safetensors file begins with the length of its header and the header, JSON; our facts are JSON inside that. Among them stands
`"sha256"`: the digest of the file as it is with 64 zeros in that place. So no byte is left out, not even the header's blanks.
"""

from __future__ import annotations

import hashlib
from typing import IO, TYPE_CHECKING

from saddlebag.proto.pieces import at_once, pieces

if TYPE_CHECKING:
    from collections.abc import Sequence

    from saddlebag.proto.pieces import Pause
    from saddlebag.proto.reader import Buffer

__all__ = ["DIGEST", "PLACE", "Reading", "with_digest"]

DIGEST = "sha256"
"""Name of the fact."""
PLACE = "0" * 64
"""Its value while the digest is computed."""
_BEFORE = f'\\"{DIGEST}\\": \\"'.encode()  # as JSON inside JSON reads
_LENGTH = 8
_MOST_HEADER = 100_000_000  # bytes: the format's own limit


def with_digest(data: Sequence[Buffer], pause: Pause = at_once) -> list[Buffer]:
    """A file whose facts hold `PLACE`, with its digest there; the first buffer is the head, the others are not copied."""
    head, *rest = data
    at = _place(bytes(head))
    digest = hashlib.sha256()
    for piece in pieces(data, pause):
        digest.update(piece)
    whole = memoryview(head)
    return [whole[:at], digest.hexdigest().encode(), whole[at + len(PLACE) :], *rest]


class Reading:
    """A file that is read from its beginning, once, and its digest meanwhile.

    Attributes:
        head: the length of the header and the header.

    Raises:
        ValueError: it has no head, or one without a digest.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        size = file.read(_LENGTH)
        if len(size) < _LENGTH or (length := int.from_bytes(size, "little")) > _MOST_HEADER:
            raise ValueError("it has no header, or one that is too long")
        self.head = size + file.read(length)
        if len(self.head) < _LENGTH + length:
            raise ValueError("its header is cut short")
        at, place = _place(self.head), PLACE.encode()
        self._told = self.head[at : at + len(place)]
        self._hasher = hashlib.sha256(self.head[:at] + place + self.head[at + len(place) :])

    @staticmethod
    def head_length(data: bytes | bytearray) -> int:
        """How many bytes of a file in memory are its head, if it has one."""
        return min(len(data), _LENGTH + int.from_bytes(data[:_LENGTH], "little"))

    def into(self, room: memoryview) -> None:
        """Read the next bytes to where they are to be; ValueError where there are fewer."""
        at = 0
        while at < len(room):
            count = self._file.readinto(room[at:])  # type: ignore[attr-defined]  # files and BytesIO have it
            if not count:
                raise ValueError("it is cut short")
            at += count
        self.see(room)

    def see(self, piece: Buffer) -> None:
        """Count bytes that were read in some other way."""
        self._hasher.update(piece)

    def end(self) -> None:
        """Compare, after the last byte.

        Raises:
            ValueError: the file holds another digest than its own.
        """
        if self._hasher.hexdigest().encode() != self._told:
            raise ValueError("its digest differs")


def _place(head: bytes) -> int:
    at = head.rfind(_BEFORE)
    if at < 0:
        raise ValueError("it has no digest; releases before protocol version 2 wrote none")
    return at + len(_BEFORE)
