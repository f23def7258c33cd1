"""Sets of coordinates as bytes, close to the log2 C(D, K) bits of a uniform set or below them where the set has structure.

An index set is one byte for its coding and a body; D and K are known where it is read. A gap is the number of coordinates
between an index and the one before (or the start):

    0          raw       K integers of the fewest of 1, 2, 4, 8 bytes that hold D - 1, ascending
    1          bitmap    ceil(D / 8) bytes, bit i of byte j is coordinate 8 j + i
    2          gaps      squeezed (`squeeze.py`): a byte min(gap, 255) for each index, then each gap of 255 or more as an
                         integer of 4 bytes, or of 8 where D exceeds 2^32
    3          squeezed  the bitmap, squeezed
    64 + r     Rice      gap >> r in unary (as many 0 bits and a 1), padded to a byte, then the low r bits of all gaps,
                         packed (`bits.py`)

Rice codes (Rice 1979; Golomb 1966) suit a uniform set: at most 1.4 % above the bound up to K = D / 10 and 2.4 % up to
D / 5, beyond which the bitmap takes over. Keeping the unary and the low bits apart lets numpy write and read them without a
loop. The empty set is not coded at all.

Shapes: D = coordinates, K = indices, S = sampled ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.errors import RemoteProtocolError
from saddlebag.proto.coding.rice import BLOCK, best_rice, encode_rice, gaps, ones, read_rice
from saddlebag.proto.coding.squeeze import squeeze, unsqueeze

if TYPE_CHECKING:
    from saddlebag.compression.payload import Index
    from saddlebag.proto.reader import Reader

__all__ = ["decode_index", "encode_index"]

RAW, BITMAP, GAPS, SQUEEZED = range(4)
RICE = 64
_ESCAPE = 255
_RUN = 2048  # consecutive indices of a sample
_RUNS, _DENSE_RUNS = 8, 32  # how many; a frame of 16 KB or more tells the ratio within about 2 %
_LEAST_SQUEEZED = 64  # indices below which a frame's own bytes outweigh what it could save
_SQUEEZABLE, _DENSE = 32, 8  # bitmaps are worth squeezing from K = D / 32, and are short compared to K from D / 8
_RICE_HANDICAP = 1.005  # of sampled sizes: where they are equal the bitmap is faster


def encode_index(dimension: int, index_K: Index) -> bytes:
    """The shortest coding of K >= 0 strictly ascending coordinates below `dimension`; by a sample where K is large."""
    count = len(index_K)
    if not count:
        return b""
    runs = _DENSE_RUNS if count * _DENSE >= dimension else _RUNS
    if count > runs * _RUN:
        coding = _choose(dimension, index_K, runs)
        return bytes((coding,)) + _body(coding, dimension, index_K)
    rest, num_bytes = best_rice(dimension, gaps(index_K))
    sizes = {RAW: count * _index_type(dimension).itemsize, BITMAP: -(-dimension // 8), RICE + rest: num_bytes}
    codings = [min(sizes, key=sizes.__getitem__)]
    if count >= _LEAST_SQUEEZED:
        codings += (GAPS, SQUEEZED) if count * _SQUEEZABLE >= dimension else (GAPS,)
    return min((bytes((coding,)) + _body(coding, dimension, index_K) for coding in codings), key=len)


def _choose(dimension: int, index_K: Index, runs: int) -> int:
    """The coding that is shortest on runs of consecutive indices spread over the set."""
    starts = np.linspace(0, len(index_K) - _RUN, runs).astype(np.int64).tolist()
    gap_S = np.concatenate([gaps(index_K, start, start + _RUN) for start in starts])
    rest, rice_bytes = best_rice(dimension, gap_S)
    scale = len(index_K) / len(gap_S)
    within_S = np.cumsum(gap_S + 1) - 1
    sizes = {
        BITMAP: dimension / 8,
        RICE + rest: _RICE_HANDICAP * scale * rice_bytes,
        GAPS: scale * len(squeeze(_gap_bytes(dimension, within_S))),
    }
    if len(index_K) * _SQUEEZABLE >= dimension:
        sizes[SQUEEZED] = scale * len(squeeze(_bitmap(int(within_S[-1]) + 1, within_S)))
    return min(sizes, key=sizes.__getitem__)


def _body(coding: int, dimension: int, index_K: Index) -> bytes:
    if coding == RAW:
        return index_K.astype(_index_type(dimension)).tobytes()
    if coding == BITMAP:
        return _bitmap(dimension, index_K)
    if coding == GAPS:
        return squeeze(_gap_bytes(dimension, index_K))
    if coding == SQUEEZED:
        return squeeze(_bitmap(dimension, index_K))
    return encode_rice(index_K, coding - RICE)


def _index_type(dimension: int) -> np.dtype[Any]:
    return np.min_scalar_type(max(dimension - 1, 0)).newbyteorder("<")


def _escape_type(dimension: int) -> np.dtype[Any]:
    return np.dtype("<u4" if dimension <= 2**32 else "<u8")


def _bitmap(dimension: int, index_K: Index) -> bytes:
    member_D = np.zeros(dimension, np.uint8)
    member_D[index_K] = 1
    return np.packbits(member_D, bitorder="little").tobytes()


def _gap_bytes(dimension: int, index_K: Index) -> bytes:
    byte_K = np.empty(len(index_K), np.uint8)
    escaped: list[bytes] = []
    for start in range(0, len(index_K), BLOCK):
        gap_K = gaps(index_K, start, start + BLOCK)
        escaped.append(gap_K[gap_K >= _ESCAPE].astype(_escape_type(dimension)).tobytes())
        byte_K[start : start + BLOCK] = np.minimum(gap_K, _ESCAPE, out=gap_K)
    return b"".join((byte_K.data, *escaped))


def decode_index(reader: Reader, dimension: int, count: int) -> Index:
    """The `count` coordinates here, int64, strictly ascending in [0, dimension).

    Raises:
        RemoteProtocolError: the bytes are no such set.
    """
    if not count:
        return np.empty(0, np.int64)
    coding = reader.byte()
    if coding == RAW:
        index_K = reader.array(count, _index_type(dimension)).astype(np.int64)
        if (index_K[1:] <= index_K[:-1]).any() or not 0 <= index_K[0] <= index_K[-1] < dimension:
            raise RemoteProtocolError(f"indices must ascend strictly within [0, {dimension})")
        return index_K
    if coding == BITMAP:
        return _members(reader.take(-(-dimension // 8)), dimension, count)
    if coding == SQUEEZED:
        return _members(unsqueeze(reader, -(-dimension // 8), -(-dimension // 8)), dimension, count)
    if coding == GAPS:
        return _bounded(_read_gaps(reader, dimension, count), dimension)
    if RICE <= coding < RICE + dimension.bit_length():
        return _bounded(read_rice(reader, dimension, count, coding - RICE), dimension)
    raise RemoteProtocolError(f"unknown index coding {coding}")


def _members(packed: Any, dimension: int, count: int) -> Index:
    index_K = ones(packed, count + 1)
    if len(index_K) != count or index_K[-1] >= dimension:
        held = "more" if len(index_K) > count else len(index_K)
        raise RemoteProtocolError(f"a bitmap of {count} of {dimension} coordinates holds {held}")
    return index_K


def _bounded(index_K: Index, dimension: int) -> Index:
    """The same indices, sums of non-negative gaps plus one: they ascend unless a sum exceeds 63 bits."""
    if index_K[-1] >= dimension or (len(index_K) * dimension >= 2**62 and index_K.min() < 0):
        raise RemoteProtocolError(f"an index exceeds the {dimension} coordinates")
    return index_K


def _read_gaps(reader: Reader, dimension: int, count: int) -> Index:
    dtype = _escape_type(dimension)
    data = unsqueeze(reader, count, count * (1 + dtype.itemsize))
    step_K = np.frombuffer(data, np.uint8, count).astype(np.int64)
    escaped = np.flatnonzero(step_K == _ESCAPE)
    if len(data) != count + len(escaped) * dtype.itemsize:
        raise RemoteProtocolError(
            f"{len(escaped)} long gaps take {len(escaped) * dtype.itemsize} bytes, got {len(data) - count}"
        )
    long = np.frombuffer(data, dtype, offset=count)
    if len(long) and not long.max() < dimension:
        raise RemoteProtocolError(f"a gap of {long.max()} exceeds the {dimension} coordinates")
    step_K[escaped] = long
    step_K += 1
    np.cumsum(step_K, out=step_K)
    step_K -= 1
    return step_K
