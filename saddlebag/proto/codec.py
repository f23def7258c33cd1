"""Payloads as bytes, layout version 1.

A message is its parts one after the other; a part is one layout byte and a body whose length follows from the dimension
that the schema announces:

    1  Dense float32      4 D bytes, little-endian
    2  Dense float64      8 D bytes, little-endian
    3  PowersOfTwo        ceil(D / 8) bytes of signs (bit i of byte j is coordinate 8 j + i), D bytes of biased exponents
    4  Sparse             varint K, index set, then a part of layout 1 to 3 over K coordinates
    5  Seeded, own        varint K, then a part of layout 1 to 3 over K coordinates
    6  Seeded, common     the same; the support follows from (run seed, round, sender)

An index set is one byte for its coding and a body: 0 raw (K integers of the fewest of 1, 2, 4, 8 bytes that hold D - 1,
ascending), 1 bitmap (ceil(D / 8) bytes). Other codings take other numbers.

Any bytes decode or raise `RemoteProtocolError`; memory is bounded by the announced dimension.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from saddlebag.algorithms import Message
from saddlebag.compression import Dense, Draws, Flat, Payload, PowersOfTwo, Scope, Seeded, Sparse, Support, require_finite
from saddlebag.errors import LocalProtocolError, NotFiniteError, RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from saddlebag.compression.payload import Index

__all__ = [
    "Buffer",
    "LoopbackWire",
    "StreamDecoder",
    "assemble",
    "decode",
    "encode",
    "max_message_bytes",
    "read_varint",
    "varint",
]

Buffer: TypeAlias = bytes | memoryview

DENSE32, DENSE64, POWERS, SPARSE, SEEDED_OWN, SEEDED_COMMON = range(1, 7)
RAW, BITMAP = range(2)
_DENSE: dict[int, np.dtype[np.floating[Any]]] = {DENSE32: np.dtype("<f4"), DENSE64: np.dtype("<f8")}
_SCOPES = {SEEDED_OWN: Scope.OWN, SEEDED_COMMON: Scope.COMMON}
_OVERHEAD = 32  # bytes: layout, coding and K of a part, with room
_DENSEST = 16  # bytes per coordinate of the longest legal part: an 8-byte index and a float64


def varint(value: int) -> bytes:
    """Base-128, least significant group first (the encoding of Protocol Buffers)."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: Buffer, at: int) -> tuple[int, int]:
    """The value at `at` and the position after it; at most 64 bits."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise RemoteProtocolError("a number is cut short")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= 2**64:
                break
            return value, at
    raise RemoteProtocolError("a number exceeds 64 bits")


def max_message_bytes(sizes: tuple[int, ...]) -> int:
    """The length that no message with parts of these dimensions exceeds: what a receiver allocates at most."""
    return sum(_OVERHEAD + _DENSEST * size for size in sizes)


def encode(message: Message) -> list[Buffer]:
    """The message as buffers whose concatenation is its encoding; value arrays are not copied."""
    return [buffer for part in message.parts for buffer in _encode_part(part)]


def _encode_part(part: Payload) -> Iterator[Buffer]:
    match part:
        case Dense(value_D):
            layout = DENSE32 if value_D.dtype.itemsize == 4 else DENSE64
            yield bytes((layout,))
            yield np.ascontiguousarray(value_D, _DENSE[layout]).data.cast("B")
        case PowersOfTwo(value_D):
            bits_D = value_D.view(np.uint32)
            yield bytes((POWERS,))
            yield np.packbits((bits_D >> 31).astype(np.uint8), bitorder="little").tobytes()
            yield ((bits_D >> 23) & 0xFF).astype(np.uint8).tobytes()
        case Sparse(dimension, index_K, value):
            yield bytes((SPARSE,)) + varint(len(index_K)) + _encode_index(dimension, index_K)
            yield from _encode_part(value)
        case Seeded(support, _, value):
            yield bytes((SEEDED_OWN if support.scope is Scope.OWN else SEEDED_COMMON,)) + varint(support.size)
            yield from _encode_part(value)
        case _:
            raise LocalProtocolError(f"no layout for a payload of type {type(part).__name__}")


def _index_type(dimension: int) -> np.dtype[Any]:
    return np.min_scalar_type(max(dimension - 1, 0)).newbyteorder("<")


def _encode_index(dimension: int, index_K: Index) -> bytes:
    raw = _index_type(dimension)
    if len(index_K) * raw.itemsize <= -(-dimension // 8):
        return bytes((RAW,)) + index_K.astype(raw).tobytes()
    member_D = np.zeros(dimension, np.uint8)
    member_D[index_K] = 1
    return bytes((BITMAP,)) + np.packbits(member_D, bitorder="little").tobytes()


class _Reader:
    """A position in received bytes; every read is checked against what is there."""

    def __init__(self, data: Buffer) -> None:
        self.data, self.at = memoryview(data), 0

    def take(self, count: int) -> memoryview:
        if count > len(self.data) - self.at:
            raise RemoteProtocolError(f"a message is cut short: {count} bytes expected, {len(self.data) - self.at} left")
        self.at += count
        return self.data[self.at - count : self.at]

    def byte(self) -> int:
        return self.take(1)[0]

    def size(self, most: int, what: str) -> int:
        value, self.at = read_varint(self.data, self.at)
        if not 1 <= value <= most:
            raise RemoteProtocolError(f"{what} must lie in [1, {most}], got {value}")
        return value


def decode(data: Buffer, sizes: tuple[int, ...], draws: Draws) -> Message:
    """The message that `encode` gave, with parts of the announced dimensions, from the sender whose draws are given.

    Value arrays are views of `data`.

    Raises:
        RemoteProtocolError: the bytes are no such message, or hold a value that is not finite.
    """
    reader = _Reader(data)
    parts = tuple(_decode_part(reader, size, draws) for size in sizes)
    if reader.at != len(reader.data):
        raise RemoteProtocolError(f"a message has {len(reader.data) - reader.at} bytes too many")
    return Message(parts)


def _decode_part(reader: _Reader, dimension: int, draws: Draws) -> Payload:
    layout = reader.byte()
    if layout in (DENSE32, DENSE64, POWERS):
        return _decode_flat(reader, layout, dimension)
    if layout not in (SPARSE, *_SCOPES):
        raise RemoteProtocolError(f"unknown layout {layout}")
    count = reader.size(dimension, "the number of kept coordinates")
    if layout == SPARSE:
        index_K = _decode_index(reader, dimension, count)
        return Sparse(dimension, index_K, _decode_flat(reader, reader.byte(), count))
    value = _decode_flat(reader, reader.byte(), count)
    support = Support(dimension, count, _SCOPES[layout])
    return Seeded(support, support.index_K(draws), value)


def _decode_flat(reader: _Reader, layout: int, dimension: int) -> Flat:
    if layout in _DENSE:
        value_D = np.frombuffer(reader.take(dimension * _DENSE[layout].itemsize), _DENSE[layout])
        return Dense(_finite(value_D))
    if layout != POWERS:
        raise RemoteProtocolError(f"layout {layout} where values are expected")
    sign_D = np.unpackbits(np.frombuffer(reader.take(-(-dimension // 8)), np.uint8), count=dimension, bitorder="little")
    exponent_D = np.frombuffer(reader.take(dimension), np.uint8).astype(np.uint32)
    return PowersOfTwo(_finite((sign_D.astype(np.uint32) << 31 | exponent_D << 23).view(np.float32)))


def _finite(value_D: Any) -> Any:
    try:
        require_finite(value_D, "a received value")
    except NotFiniteError as error:
        raise RemoteProtocolError(str(error)) from error
    return value_D


def _decode_index(reader: _Reader, dimension: int, count: int) -> Index:
    coding = reader.byte()
    if coding == RAW:
        raw = _index_type(dimension)
        index_K = np.frombuffer(reader.take(count * raw.itemsize), raw).astype(np.int64)
        if (index_K[1:] <= index_K[:-1]).any() or not 0 <= index_K[0] <= index_K[-1] < dimension:
            raise RemoteProtocolError(f"indices must ascend strictly within [0, {dimension})")
        return index_K
    if coding != BITMAP:
        raise RemoteProtocolError(f"unknown index coding {coding}")
    packed = np.frombuffer(reader.take(-(-dimension // 8)), np.uint8)
    index_K = np.flatnonzero(np.unpackbits(packed, bitorder="little"))
    if len(index_K) != count or index_K[-1] >= dimension:
        raise RemoteProtocolError(f"a bitmap of {count} of {dimension} coordinates holds {len(index_K)}")
    return index_K


class StreamDecoder:
    """Decodes a message while its bytes arrive; slices of dense parts come out at once, other parts at the end.

    Holds the bytes from the first part that is not dense, so such parts should come last.
    """

    def __init__(self, sizes: tuple[int, ...], draws: Draws, total: int) -> None:
        if total > max_message_bytes(sizes):
            raise RemoteProtocolError(
                f"a message of {total} bytes exceeds the {max_message_bytes(sizes)} that its schema allows"
            )
        self._sizes, self._draws = sizes, draws
        self._missing = total
        self._part = 0  # index of the part that arrives
        self._dense: np.dtype[Any] | None = None  # its type while it is a dense one
        self._done = 0  # coordinates of it already given out
        self._held = bytearray()

    @property
    def complete(self) -> bool:
        """Whether every byte has arrived."""
        return self._missing == 0

    def feed(self, data: Buffer) -> Iterator[tuple[int, int, Payload]]:
        """Take the next bytes; yields (part, first coordinate, payload of the coordinates from there)."""
        if len(data) > self._missing:
            raise RemoteProtocolError(f"a message is {len(data) - self._missing} bytes longer than announced")
        self._missing -= len(data)
        if self.complete and not (self._part or self._dense or self._held):  # the usual case: all of it in one frame
            for part, payload in enumerate(decode(data, self._sizes, self._draws).parts):
                yield part, 0, payload
            return
        view = memoryview(data)
        if self._held and self._dense is None:  # a part that is not dense waits for the end, and so does what follows it
            self._held += view
            view = view[:0]
        elif self._held:  # the first bytes of a value
            view = memoryview(bytes(self._held) + view)
            self._held.clear()
        while len(view):
            if self._dense is None:
                if self._part < len(self._sizes) and view[0] in _DENSE:
                    self._dense, view = _DENSE[view[0]], view[1:]
                    continue
                break
            left = self._sizes[self._part] - self._done
            count = min(left, len(view) // self._dense.itemsize)
            if count:
                value_D = np.frombuffer(view[: count * self._dense.itemsize], self._dense)
                yield self._part, self._done, Dense(_finite(value_D))
                self._done, view = self._done + count, view[count * self._dense.itemsize :]
            if count < left:
                break
            self._part, self._dense, self._done = self._part + 1, None, 0
        self._held += view
        if self.complete:
            yield from self._rest()

    def _rest(self) -> Iterator[tuple[int, int, Payload]]:
        if self._dense is not None:
            raise RemoteProtocolError("a message is cut short in a dense part")
        rest = decode(bytes(self._held), self._sizes[self._part :], self._draws)
        self._held.clear()
        for offset, payload in enumerate(rest.parts):
            yield self._part + offset, 0, payload


def assemble(pieces: Iterable[tuple[int, int, Payload]], sizes: tuple[int, ...]) -> Message:
    """The message whose pieces a `StreamDecoder` gave out, in that order."""
    parts: list[Payload] = []
    for part, group in itertools.groupby(pieces, key=lambda piece: piece[0]):
        payloads = [payload for _, _, payload in group]
        if payloads[0].dimension == sizes[part]:
            parts.append(payloads[0])
        else:
            parts.append(Dense(np.concatenate([payload.value_D for payload in payloads if isinstance(payload, Dense)])))
    return Message(tuple(parts))


class LoopbackWire:
    """The wire of the in-process driver: encodes, counts, decodes."""

    def carry(self, message: Message, sizes: tuple[int, ...], draws: Draws) -> tuple[Message, int]:
        data = b"".join(encode(message))
        return decode(data, sizes, draws), len(data)
