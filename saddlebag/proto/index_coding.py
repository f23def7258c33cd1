"""Sets of coordinates as bytes.

An index set is one byte for its coding and a body; D and K are known where it is read:

    0  raw       K integers of the fewest of 1, 2, 4, 8 bytes that hold D - 1, ascending
    1  bitmap    ceil(D / 8) bytes, bit i of byte j is coordinate 8 j + i

The empty set is not coded at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.errors import RemoteProtocolError

if TYPE_CHECKING:
    from saddlebag.compression.payload import Index
    from saddlebag.proto.reader import Reader

__all__ = ["decode_index", "encode_index"]

RAW, BITMAP = range(2)


def _index_type(dimension: int) -> np.dtype[Any]:
    return np.min_scalar_type(max(dimension - 1, 0)).newbyteorder("<")


def encode_index(dimension: int, index_K: Index) -> bytes:
    """The shortest coding of K >= 0 strictly ascending coordinates below `dimension`."""
    if not len(index_K):
        return b""
    raw = _index_type(dimension)
    if len(index_K) * raw.itemsize <= -(-dimension // 8):
        return bytes((RAW,)) + index_K.astype(raw).tobytes()
    member_D = np.zeros(dimension, np.uint8)
    member_D[index_K] = 1
    return bytes((BITMAP,)) + np.packbits(member_D, bitorder="little").tobytes()


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
    if coding != BITMAP:
        raise RemoteProtocolError(f"unknown index coding {coding}")
    packed = np.frombuffer(reader.take(-(-dimension // 8)), np.uint8)
    index_K = np.flatnonzero(np.unpackbits(packed, bitorder="little"))
    if len(index_K) != count or index_K[-1] >= dimension:
        raise RemoteProtocolError(f"a bitmap of {count} of {dimension} coordinates holds {len(index_K)}")
    return index_K
