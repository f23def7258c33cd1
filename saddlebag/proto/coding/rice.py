"""Rice codes (Rice 1979; Golomb 1966) of the gaps of an index set, without a loop over the indices.

The high parts gap >> r stand first, in unary (so many 0 bits and a 1), padded to a byte; then the low r bits of all gaps,
packed (`bits.py`). The i-th 1 bit stands at (sum of the high parts up to gap i) + i, so numpy writes and reads the unary part
as a bitmap. Large sets are worked on in blocks that stay in cache; sets of a few indices in Python's whole numbers, where a
call of numpy costs more than an index.

Shapes: K = indices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.errors import RemoteProtocolError
from saddlebag.proto.coding.bits import pack, packed_bytes, unpack

if TYPE_CHECKING:
    from saddlebag.compression.payload import Index
    from saddlebag.proto.reader import Reader

__all__ = ["BLOCK", "FEW", "best_rice", "encode_rice", "gaps", "ones", "read_rice"]

BLOCK = 1 << 15
"""Indices or bytes that are worked on at a time, in cache; a multiple of 8."""
FEW = 40
"""Indices up to which whole numbers of Python are quicker."""


def gaps(index_K: Index, start: int = 0, stop: int | None = None) -> Index:
    """The gaps before the indices from `start` to `stop`."""
    part_K = index_K[start:stop]
    gap_K = np.empty_like(part_K)
    gap_K[0] = part_K[0] - (index_K[start - 1] + 1 if start else 0)
    np.subtract(part_K[1:], part_K[:-1], out=gap_K[1:])
    gap_K[1:] -= 1
    return gap_K


def best_rice(dimension: int, gap_K: Index) -> tuple[int, int]:
    """The best number of low bits for these gaps, and the bytes of their coding with it."""
    count = len(gap_K)
    few = gap_K.tolist() if count <= FEW else None
    mean = (int(gap_K.sum()) if few is None else sum(few)) // count
    guess = max(mean.bit_length() - 1, 0)
    best = (0, 0)
    for rest in range(max(guess - 2, 0), min(guess + 1, max(dimension.bit_length() - 1, 0)) + 1):
        high = int((gap_K >> rest).sum()) if few is None else sum([gap >> rest for gap in few])
        num_bytes = -(-(high + count) // 8) + packed_bytes(count, rest)
        if not best[1] or num_bytes < best[1]:
            best = (rest, num_bytes)
    return best


def encode_rice(index_K: Index, rest: int) -> bytes:
    """The gaps' high and low parts."""
    if len(index_K) <= FEW:
        return _encode_few(gaps(index_K).tolist(), rest)
    unary: list[bytes] = []
    low_K = np.empty(len(index_K), np.uint8 if rest <= 8 else np.uint64)
    begun = np.empty(0, np.uint8)  # the bits of a byte that the next block completes
    for start in range(0, len(index_K), BLOCK):
        gap_K = gaps(index_K, start, start + BLOCK)
        low_K[start : start + BLOCK] = gap_K & ((1 << rest) - 1)
        gap_K >>= rest
        gap_K += 1
        np.cumsum(gap_K, out=gap_K)
        bits = np.zeros(len(begun) + int(gap_K[-1]), np.uint8)
        bits[: len(begun)] = begun
        gap_K += len(begun) - 1
        bits[gap_K] = 1
        whole = len(bits) // 8 * 8 if start + BLOCK < len(index_K) else len(bits)
        unary.append(np.packbits(bits[:whole], bitorder="little").tobytes())
        begun = bits[whole:]
    return b"".join((*unary, pack(low_K, rest)))


def _encode_few(gap_K: list[int], rest: int) -> bytes:
    place = unary = top = 0
    whole, mask = rest // 8 * 8, (1 << rest) - 1
    for number, gap in enumerate(gap_K):
        place += gap >> rest
        unary |= 1 << place
        place += 1
        top |= (gap & mask) >> whole << number * (rest - whole)
    planes = b"".join(bytes([gap >> shift & 0xFF for gap in gap_K]) for shift in range(0, whole, 8))
    return unary.to_bytes(-(-place // 8), "little") + planes + top.to_bytes(-(-len(gap_K) * (rest - whole) // 8), "little")


def ones(packed: Any, most: int) -> Index:
    """Where the first `most` 1 bits stand."""
    raw = np.frombuffer(packed, np.uint8)
    if len(raw) <= BLOCK:
        return np.flatnonzero(np.unpackbits(raw, bitorder="little").view(bool))[:most]
    place_K = np.empty(min(most, 8 * len(raw)), np.int64)
    filled = 0
    for start in range(0, len(raw), BLOCK):
        found = np.flatnonzero(np.unpackbits(raw[start : start + BLOCK], bitorder="little").view(bool))
        found = found[: most - filled]
        np.add(found, 8 * start, out=place_K[filled : filled + len(found)])
        filled += len(found)
        if filled == most:
            break
    return place_K[:filled]


def read_rice(reader: Reader, dimension: int, count: int, rest: int) -> Index:
    """Gap sums: the i-th 1 bit stands at (sum of the high parts up to gap i) + i."""
    window = min(-(-(count + (dimension >> rest)) // 8), reader.left)  # bytes that hold `count` ones in any legal set
    one_K = ones(reader.data[reader.at : reader.at + window], count)
    if len(one_K) < count:
        raise RemoteProtocolError(f"{count} gaps are cut short: {len(one_K)} end within {window} bytes")
    reader.take(int(one_K[-1]) // 8 + 1)
    if count <= FEW:
        return _read_few(reader, dimension, one_K.tolist(), rest)
    low_K = unpack(reader.take(packed_bytes(count, rest)), count, rest)
    place_K = np.arange(min(count, BLOCK))
    low_sum = 0
    for start in range(0, count, BLOCK):
        part_K = one_K[start : start + BLOCK]
        place_K = place_K[: len(part_K)]
        part_K -= place_K + start
        part_K <<= rest
        part_K += place_K
        sum_K = np.cumsum(low_K[start : start + BLOCK], dtype=np.int64)
        sum_K += low_sum + start
        part_K += sum_K
        low_sum = int(sum_K[-1]) - start
    return one_K


def _read_few(reader: Reader, dimension: int, ones: list[int], rest: int) -> Index:
    count, whole = len(ones), rest // 8 * 8
    planes = [(shift, reader.take(count)) for shift in range(0, whole, 8)]
    width = rest - whole
    top, mask = int.from_bytes(reader.take(-(-count * width // 8)), "little"), (1 << width) - 1
    indices, low_sum = [], 0
    for number, one in enumerate(ones):
        low_sum += (top >> number * width & mask) << whole
        for shift, plane in planes:
            low_sum += plane[number] << shift
        indices.append(((one - number) << rest) + low_sum + number)
    if indices[-1] >= dimension:
        raise RemoteProtocolError(f"an index exceeds the {dimension} coordinates")
    return np.array(indices, np.int64)
