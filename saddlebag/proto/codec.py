"""Payloads as bytes: a message is its parts one after the other; `docs/wire-format.md` has every layout.

A part is one layout byte and a body whose length follows from the dimension that the schema announces:

    1 to 3, 7 to 9, 16 to 18, 32 to 63, 96 to 127   flat (`flat_coding.py`)
    4                        Sparse: varint K, index set (`index_coding.py`), a flat part over K coordinates
    5, 6                     Seeded, subset, own or common: varint K, a flat part over K coordinates
    13, 14                   Seeded, strata, own or common: the same
    15                       Seeded, permutation: varint workers, a flat part over the sender's share
    10                       LowRank: varint C, varint K, P and Q as float32, row by row
    11                       Concat: varint n, then n times a varint dimension (the last one follows) and a part
    12                       Total: varint n, then n parts

Any bytes decode or raise `RemoteProtocolError`; memory is bounded by the announced dimension.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.algorithms import Message
from saddlebag.compression import Concat, Draws, LowRank, Payload, Scheme, Scope, Seeded, Sparse, Support, Total
from saddlebag.errors import LocalProtocolError, RemoteProtocolError
from saddlebag.proto.coding.flat import decode_flat, encode_flat, finite, is_flat
from saddlebag.proto.coding.indices import decode_index, encode_index
from saddlebag.proto.reader import Buffer, Reader, varint

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["LoopbackWire", "decode", "encode", "max_message_bytes"]

SPARSE, LOW_RANK, CONCAT, TOTAL, PERMUTATION = 4, 10, 11, 12, 15
_SUPPORTS = {
    5: (Scheme.SUBSET, Scope.OWN),
    6: (Scheme.SUBSET, Scope.COMMON),
    13: (Scheme.STRATA, Scope.OWN),
    14: (Scheme.STRATA, Scope.COMMON),
}
_SUPPORT_LAYOUTS = {key: layout for layout, key in _SUPPORTS.items()}
_F4 = np.dtype("<f4")

MOST_PARTS = 2**14
"""Parts within a part of a message, all in all: above the tensors of any model; each costs an object and microseconds."""
MOST_TERMS = 8
"""How often a coordinate may occur in nested sums: each occurrence may take a vector of memory."""
MOST_DEPTH = 4
"""Payloads within payloads within payloads; bounds the recursion."""
_MOST_WORKERS = 2**32
_OVERHEAD = 32  # bytes: layout, coding and counts of a part, with room
_DENSEST = 16  # bytes per coordinate of the longest legal part: two float64, or an 8-byte index and a float64


def max_message_bytes(sizes: tuple[int, ...]) -> int:
    """The length that no message with parts of these dimensions exceeds: what a receiver allocates at most."""
    return sum(_OVERHEAD * min(size + 1, MOST_PARTS) + _DENSEST * size for size in sizes)


def encode(message: Message) -> list[Buffer]:
    """The message as buffers whose concatenation is its encoding; arrays of `Dense` are not copied.

    Raises:
        LocalProtocolError: a payload has no layout, or nests deeper or is longer than a receiver accepts.
    """
    buffers: list[Buffer] = []
    for part in message.parts:
        encoded = list(_encode_part(part))
        num_bytes, most = sum(map(len, encoded)), max_message_bytes((part.dimension,))
        if num_bytes > most:
            raise LocalProtocolError(f"a payload of {part.dimension} coordinates takes {num_bytes} bytes; {most} are allowed")
        buffers += encoded
    return buffers


@dataclasses.dataclass
class _Count:
    parts: int = 0


@dataclasses.dataclass(frozen=True)
class _Limits:
    """What may still nest at some place of a part."""

    depth: int = MOST_DEPTH
    terms: int = MOST_TERMS
    count: _Count = dataclasses.field(default_factory=_Count)  # shared by the whole part

    def inside(self, parts: int, terms: int, error: type[Exception]) -> _Limits:
        """The limits of each of `parts` payloads inside one, `terms` of which cover the same coordinates."""
        self.count.parts += parts
        if self.depth == 0:
            raise error(f"payloads nest deeper than {MOST_DEPTH}")
        if self.count.parts > MOST_PARTS:
            raise error(f"a payload has more than {MOST_PARTS} parts")
        if terms > self.terms:
            raise error(f"a payload adds more than {MOST_TERMS} payloads at a coordinate")
        return _Limits(self.depth - 1, self.terms // terms, self.count)


def _encode_part(part: Payload, limits: _Limits | None = None) -> Iterator[Buffer]:
    match part:
        case Sparse(dimension, index_K, value):
            yield bytes((SPARSE,)) + varint(len(index_K)) + encode_index(dimension, index_K)
            yield from encode_flat(value)
        case Seeded(support, _, value):
            yield _encode_support(support)
            yield from encode_flat(value)
        case LowRank(_, p_RK, q_CK):
            yield bytes((LOW_RANK,)) + varint(len(q_CK)) + varint(q_CK.shape[1])
            yield from (factor.astype(_F4).tobytes() for factor in (p_RK, q_CK))
        case Concat(parts):
            inside = (limits or _Limits()).inside(len(parts), 1, LocalProtocolError)
            yield bytes((CONCAT,)) + varint(len(parts))
            for number, inner in enumerate(parts, 1):
                if number < len(parts):
                    yield varint(inner.dimension)
                yield from _encode_part(inner, inside)
        case Total(parts):
            inside = (limits or _Limits()).inside(len(parts), len(parts), LocalProtocolError)
            yield bytes((TOTAL,)) + varint(len(parts))
            for inner in parts:
                yield from _encode_part(inner, inside)
        case _:
            yield from encode_flat(part)  # type: ignore[arg-type]


def _encode_support(support: Support) -> bytes:
    if support.scheme is Scheme.PERMUTATION:
        return bytes((PERMUTATION,)) + varint(support.workers)
    return bytes((_SUPPORT_LAYOUTS[support.scheme, support.scope],)) + varint(support.size)


def decode(data: Buffer, sizes: tuple[int, ...], draws: Draws) -> Message:
    """The message that `encode` gave, with parts of the announced dimensions, from the sender whose draws are given.

    Arrays of `Dense` are views of `data`.

    Raises:
        RemoteProtocolError: the bytes are no such message, or hold a value that is not finite.
    """
    reader = Reader(data)
    parts = tuple(_decode_part(reader, size, draws) for size in sizes)
    if reader.left:
        raise RemoteProtocolError(f"a message has {reader.left} bytes too many")
    return Message(parts)


def _decode_part(reader: Reader, dimension: int, draws: Draws, limits: _Limits | None = None) -> Payload:
    layout = reader.byte()
    if is_flat(layout):
        return decode_flat(reader, layout, dimension)
    if layout == SPARSE:
        count = reader.size(0, dimension, "the number of kept coordinates")
        index_K = decode_index(reader, dimension, count)
        return Sparse(dimension, index_K, decode_flat(reader, reader.byte(), count))
    if layout in _SUPPORTS:
        count = reader.size(min(1, dimension), dimension, "the number of kept coordinates")
        value = decode_flat(reader, reader.byte(), count)
        scheme, scope = _SUPPORTS[layout]
        support = Support(dimension, count, scope, scheme)
        return Seeded(support, support.index_K(draws), value)
    if layout == PERMUTATION:
        return _decode_share(reader, dimension, draws)
    if layout == LOW_RANK:
        return _decode_low_rank(reader, dimension)
    if layout == CONCAT:
        return _decode_concat(reader, dimension, draws, limits)
    if layout == TOTAL:
        count = reader.size(1, MOST_TERMS, "the number of terms")
        inside = (limits or _Limits()).inside(count, count, RemoteProtocolError)
        return Total(tuple(_decode_part(reader, dimension, draws, inside) for _ in range(count)))
    raise RemoteProtocolError(f"unknown layout {layout}")


def _decode_share(reader: Reader, dimension: int, draws: Draws) -> Seeded:
    """A worker's share of a permutation; its size follows from D, the number of workers and the sender."""
    workers = reader.size(1, _MOST_WORKERS, "the workers of a permutation")
    if not 0 <= draws.worker < workers:
        raise RemoteProtocolError(f"sender {draws.worker} has no share of {dimension} coordinates dealt to {workers} workers")
    support = Support.share(dimension, workers, draws)
    value = decode_flat(reader, reader.byte(), support.size)
    return Seeded(support, support.index_K(draws), value)


def _decode_low_rank(reader: Reader, dimension: int) -> LowRank:
    least = min(1, dimension)  # no vector is a matrix of 0 x 0
    columns = reader.size(least, dimension, "the columns of a matrix")
    rows = -(-dimension // max(columns, 1))
    rank = reader.size(least, min(rows, columns), "the rank of a matrix")
    p_RK, q_CK = (finite(reader.array(lines * rank, _F4)).reshape(lines, rank) for lines in (rows, columns))
    return LowRank(dimension, p_RK, q_CK)


def _decode_concat(reader: Reader, dimension: int, draws: Draws, limits: _Limits | None) -> Concat:
    count = reader.size(1, MOST_PARTS, "the number of parts")
    inside = (limits or _Limits()).inside(count, 1, RemoteProtocolError)
    parts: list[Payload] = []
    for left in range(count - 1, -1, -1):
        size = reader.size(0, dimension, "the dimension of a part") if left else dimension
        parts.append(_decode_part(reader, size, draws, inside))
        dimension -= size
    return Concat(tuple(parts))


class LoopbackWire:
    """The wire of the in-process driver: encodes, counts, decodes."""

    def carry(self, message: Message, sizes: tuple[int, ...], draws: Draws) -> tuple[Message, int]:
        data = b"".join(encode(message))
        return decode(data, sizes, draws), len(data)
