"""The inner loops compiled with numba: the same results as the numpy forms, bit for bit. Imported by `loader.py` only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.compression.kernels.compiled_draws import strata
from saddlebag.compression.kernels.jit import jit
from saddlebag.compression.kernels.plain import check_within
from saddlebag.compression.kernels.vectors import LANES, at_least, load, trailing_zeros

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from saddlebag.compression.kernels.plain import Piece

__all__ = ["strata"]

_BLOCK = 1 << 16  # float64: half a usual second-level cache
_WORD = 64  # coordinates whose hits are found in one word: fewer mispredicted ends of loops


@jit
def _collect(bits_D: Any, low: Any, mask: Any, index_N: Any, magnitude_N: Any) -> Any:
    count, room, d = 0, len(index_N), len(bits_D)
    start = 0
    while start + _WORD <= d and count + _WORD <= room:
        hits = at_least(bits_D, start, low)
        for part in range(1, _WORD // LANES):
            hits |= at_least(bits_D, start + LANES * part, low) << np.uint64(LANES * part)
        while hits:
            place = start + np.int64(trailing_zeros(hits))
            index_N[count] = place
            magnitude_N[count] = bits_D[place] & mask
            count += 1
            hits &= hits - np.uint64(1)
        start += _WORD
    for rest in range(start, d):
        magnitude = bits_D[rest] & mask
        if magnitude >= low:
            if count == room:
                return -1
            index_N[count] = rest
            magnitude_N[count] = magnitude
            count += 1
    return count


@jit
def _keep(index_N: Any, magnitude_N: Any, threshold: Any, tied: Any) -> Any:
    count = 0
    for place in range(len(index_N)):
        index_N[count] = index_N[place]
        equal = magnitude_N[place] == threshold
        count += (magnitude_N[place] > threshold) | (equal & (tied > 0))
        tied -= equal
    return count


@jit
def _add_sparse(
    out_D: Any,
    start_M: Any,
    index_M: Any,
    value_M: Any,
    length_M: Any,
    index_like: Any,
    value_like: Any,
    fresh: Any,
    divisor: Any,
    factor: Any,
) -> Any:
    place_M = np.zeros(len(length_M), np.int64)
    for low in range(0, len(out_D), _BLOCK):
        high = min(low + _BLOCK, len(out_D))
        if fresh:
            out_D[low:high] = 0.0
        for m in range(len(length_M)):
            place, length, start = place_M[m], length_M[m], start_M[m]
            while place < length:
                coordinate = start + np.int64(load(index_M[m], place, index_like))
                if coordinate >= high:
                    break
                out_D[coordinate] += load(value_M[m], place, value_like)
                place += 1
            place_M[m] = place
        if divisor != 1.0 and factor != 0.0:
            out_B = out_D[low:high]
            for i in range(len(out_B)):
                out_B[i] *= factor
        elif divisor != 1.0:
            out_B = out_D[low:high]
            for i in range(len(out_B)):
                out_B[i] /= divisor


def collect(bits_D: Any, low: int, index_N: Any, magnitude_N: Any) -> int:
    """`select.collect`, compiled."""
    kind = bits_D.dtype.type
    return int(_collect(bits_D, kind(low), kind(np.iinfo(kind).max), index_N, magnitude_N))


def keep(index_N: Any, magnitude_N: Any, threshold: int, tied: int) -> int:
    """`select.keep`, compiled."""
    return int(_keep(index_N, magnitude_N, magnitude_N.dtype.type(threshold), tied))


def add_sparse(out_D: Any, pieces: Sequence[Piece], *, fresh: bool, divisor: int) -> None:
    """`plain.add_sparse`, compiled."""
    check_within(len(out_D), pieces)
    index_type = _common([piece.index_K for piece in pieces], np.int32, np.int64)
    value_type = _common([piece.value_K for piece in pieces], np.float32, np.float64)
    index_M = [np.ascontiguousarray(piece.index_K, index_type) for piece in pieces]
    value_M = [np.ascontiguousarray(piece.value_K, value_type) for piece in pieces]
    starts = [piece.start for piece in pieces]
    arrays = [[array.ctypes.data for array in arrays] for arrays in (index_M, value_M)]
    lengths = [len(index_K) for index_K in index_M]
    numbers = [np.array(row, np.int64) for row in (starts, *arrays, lengths)]
    factor = 1.0 / divisor if divisor & (divisor - 1) == 0 else 0.0  # of a power of two: the same quotient, and sooner
    _add_sparse(out_D, *numbers, index_type(0), value_type(0), fresh, float(divisor), factor)


def _common(arrays: Sequence[npt.NDArray[Any]], short: type[np.generic], long: type[np.generic]) -> Any:
    """The short type if all arrays have it, so that none is copied; else the long one."""
    return short if {array.dtype for array in arrays} == {np.dtype(short)} else long
