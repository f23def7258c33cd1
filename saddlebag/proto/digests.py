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

__all__ = ["DIGEST", "PLACE", "check_digest", "with_digest"]

DIGEST = "sha256"
"""Name of the fact."""
PLACE = "0" * 64
"""Its value while the digest is computed."""
_BEFORE = f'\\"{DIGEST}\\": \\"'.encode()  # as JSON inside JSON reads
_LENGTH = 8
_MOST_HEADER = 100_000_000  # bytes: the format's own limit
_PIECE = 1 << 20


def with_digest(data: Sequence[Buffer], pause: Pause = at_once) -> list[Buffer]:
    """A file whose facts hold `PLACE`, with its digest there; the first buffer is the head, the others are not copied."""
    head, *rest = data
    at = _place(bytes(head))
    digest = hashlib.sha256()
    for piece in pieces(data, pause):
        digest.update(piece)
    whole = memoryview(head)
    return [whole[:at], digest.hexdigest().encode(), whole[at + len(PLACE) :], *rest]


def check_digest(file: IO[bytes]) -> None:
    """Read a file from its beginning, and compare.

    Raises:
        ValueError: it holds no digest, or another one than its own.
    """
    size = file.read(_LENGTH)
    length = int.from_bytes(size, "little")
    if length > _MOST_HEADER:
        raise ValueError(f"its header would take {length} bytes")
    head = size + file.read(length)
    at = _place(head)
    told, place = head[at : at + len(PLACE)], PLACE.encode()
    digest = hashlib.sha256(head[:at] + place + head[at + len(place) :])
    while piece := file.read(_PIECE):
        digest.update(piece)
    if digest.hexdigest().encode() != told:
        raise ValueError("its digest differs")


def _place(head: bytes) -> int:
    at = head.rfind(_BEFORE)
    if at < 0:
        raise ValueError("it has no digest; releases before protocol version 2 wrote none")
    return at + len(_BEFORE)
