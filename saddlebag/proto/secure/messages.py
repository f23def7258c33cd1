"""What members and server tell each other in a round of secure aggregation, as bytes: fixed lengths, ranks as varints."""

from __future__ import annotations

import enum
import hashlib
from typing import TYPE_CHECKING

from saddlebag.errors import RemoteProtocolError
from saddlebag.proto.reader import Reader, varint
from saddlebag.proto.secure.primitives import KEY_BYTES, TAG_BYTES
from saddlebag.proto.secure.sharing import SHARE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from saddlebag.proto.reader import Buffer

__all__ = [
    "KEYS_BYTES",
    "SEALED_BYTES",
    "Step",
    "encode_ranks",
    "encode_rows",
    "encode_table",
    "read_ranks",
    "read_rows",
    "read_table",
    "round_context",
    "seals",
    "sliced",
]

KEYS_BYTES = 2 * KEY_BYTES
"""For sealing, and for masks."""
SEALED_BYTES = 2 * SHARE_BYTES + TAG_BYTES
"""The shares of both secrets for one member."""
MOST_MEMBERS = 1 << 16


class Step(enum.IntEnum):
    """Of a round, in order."""

    KEYS = 0
    SHARES = 1
    MASKED = 2
    UNMASK = 3


def encode_ranks(ranks: Iterable[int]) -> bytes:
    """Ascending ranks."""
    ordered = sorted(ranks)
    return varint(len(ordered)) + b"".join(map(varint, ordered))


def _ranks(reader: Reader) -> list[int]:
    count = reader.size(0, MOST_MEMBERS, "the number of members")
    ranks = [reader.size(0, 2**32, "a rank") for _ in range(count)]
    if ranks != sorted(set(ranks)):
        raise RemoteProtocolError("ranks must ascend")
    return ranks


def _end(reader: Reader) -> None:
    if reader.left:
        raise RemoteProtocolError(f"{reader.left} bytes too many")


def read_ranks(data: Buffer) -> tuple[int, ...]:
    """What `encode_ranks` wrote; `RemoteProtocolError` for anything else."""
    reader = Reader(data)
    ranks = _ranks(reader)
    _end(reader)
    return tuple(ranks)


def encode_table(rows: Mapping[int, bytes]) -> bytes:
    """For each rank as many bytes."""
    return encode_ranks(rows) + b"".join(rows[rank] for rank in sorted(rows))


def read_table(data: Buffer, row_bytes: int) -> dict[int, bytes]:
    """What `encode_table` wrote, with rows of this length; `RemoteProtocolError` for anything else."""
    reader = Reader(data)
    rows = dict.fromkeys(_ranks(reader), b"")
    for rank in rows:
        rows[rank] = bytes(reader.take(row_bytes))
    _end(reader)
    return rows


def encode_rows(rows: Mapping[int, bytes]) -> bytes:
    """For each rank some bytes, as many as there are."""
    return encode_ranks(rows) + b"".join(varint(len(rows[rank])) + rows[rank] for rank in sorted(rows))


def read_rows(data: Buffer) -> dict[int, bytes]:
    """What `encode_rows` wrote; `RemoteProtocolError` for anything else."""
    reader = Reader(data)
    rows = dict.fromkeys(_ranks(reader), b"")
    for rank in rows:
        rows[rank] = bytes(reader.take(reader.size(0, reader.left, "a row's length")))
    _end(reader)
    return rows


def sliced(data: Buffer, ranks: Iterable[int], row_bytes: int, head_bytes: int = 0) -> tuple[bytes, dict[int, bytes]]:
    """A head, and a row for each of these ranks, ascending; `RemoteProtocolError` for any other length."""
    reader, ordered = Reader(data), sorted(ranks)
    if reader.left != head_bytes + row_bytes * len(ordered):
        raise RemoteProtocolError(f"it must have {head_bytes + row_bytes * len(ordered)} bytes, got {reader.left}")
    head = bytes(reader.take(head_bytes))
    return head, {rank: bytes(reader.take(row_bytes)) for rank in ordered}


def round_context(recipe: str, epoch: int, round_: int) -> bytes:
    """What all keys of a round are bound to: the run's recipe, as canonical JSON, and the round."""
    return hashlib.sha256(f"saddlebag secure round 1\n{epoch}\n{round_}\n{recipe}".encode()).digest()


def seals(context: bytes, sender: int, receiver: int, *keys: bytes) -> bytes:
    """What a sealed pair of shares is for: of this round, from one member, for one other, with these public keys."""
    return b"saddlebag secure shares 2\n" + context + varint(sender) + varint(receiver) + b"".join(keys)
