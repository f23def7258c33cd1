"""Rounding: from numbers to the few levels that travel, at random (unbiased) or to the nearest (contractive).

Every map here is a function of the vector and of given random words, so tests can enumerate the draws. Quantisers round
against the scale that travels, a float32 that is rounded up: a magnitude never exceeds the highest level, and the law holds
for the values that the receiver computes.

Shapes: D = coordinates, B = blocks of consecutive coordinates that share a scale.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from saddlebag.compression.kernels.loader import rounding_for
from saddlebag.errors import NotFiniteError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from saddlebag.compression.flat import Vector
    from saddlebag.compression.stream import Stream

Scales = npt.NDArray[np.float32]
LevelVector = npt.NDArray[np.signedinteger[Any]]
Words32 = npt.NDArray[np.uint32]

_PIECE = 1 << 15  # coordinates of one step: its temporaries stay in the second-level cache
_SHORT = 512  # coordinates of a block below which halving it is faster than numpy's maximum of a row
_WORD = 2.0**-32
_MANTISSA = 52  # stored bits of a float64's mantissa


def words32(stream: Stream, count: int) -> Words32:
    """The next `count` words of 32 bits: halves of the stream's words, the low half first."""
    return stream.words(-(-count // 2)).astype("<u8", copy=False).view("<u4")[:count]


def piecewise(d: int) -> Iterator[slice]:
    """Runs of coordinates small enough for the cache, each but the last a multiple of eight long."""
    return (slice(start, min(start + _PIECE, d)) for start in range(0, d, _PIECE))


def peaks(x_D: Vector, block: int) -> Vector:
    """The largest magnitude of each block, float64, shape (ceil(D / block),)."""
    d = len(x_D)
    if d == 0:
        return np.empty(0)
    if (fast := rounding_for(x_D)) is not None:
        return fast.peaks(x_D, block)  # type: ignore[no-any-return]
    if block >= d:
        return np.abs(np.array([max(x_D.max(initial=0.0), -x_D.min(initial=0.0))], np.float64))
    peak_B: Vector = np.empty(-(-d // block))
    step = max(1, _PIECE // block)  # blocks of a piece
    for first in range(0, d // block, step):
        last = min(first + step, d // block)
        peak_B[first:last] = _largest(np.abs(x_D[first * block : last * block]), block)
    if d % block:
        peak_B[-1] = np.abs(x_D[d // block * block :]).max()
    return peak_B


def _largest(magnitude_S: Vector, block: int) -> Vector:
    """The maximum of each block; short ones are halved first, since numpy takes rows one by one."""
    while block % 2 == 0 and block < _SHORT:
        magnitude_S = np.maximum(magnitude_S[::2], magnitude_S[1::2])
        block //= 2
    peak_S: Vector = magnitude_S.reshape(-1, block).max(axis=1)
    return peak_S


def scales(peak_B: Vector, levels: int) -> Scales:
    """The smallest float32 scales with `levels * scale >= peak`, shape (B,).

    Raises:
        NotFiniteError: a scale overflows float32.
    """
    with np.errstate(over="ignore"):
        scale_B = (peak_B / levels).astype(np.float32)
        low_B = scale_B.astype(np.float64) * levels < peak_B  # the product is exact: 24 and at most 15 bits
        scale_B[low_B] = np.nextafter(scale_B[low_B], np.float32(np.inf))
    if not np.isfinite(scale_B).all():
        raise NotFiniteError(f"a compressor's input overflows float32: largest magnitude {peak_B.max():g}")
    return scale_B


def levels_at(x_D: Vector, scale_B: Scales, block: int, word_D: Words32, dtype: npt.DTypeLike = np.int8) -> LevelVector:
    """Round x / scale at random to one of the two nearest whole numbers, given 32 random bits for each entry.

    The level is floor(x / scale + word 2^-32) with x / scale cut to a multiple of 2^-32, so over all words its mean is
    x / scale to 2^-32 of a level.
    """
    return _at_words(x_D, _units(scale_B), block, lambda where: word_D[where], np.empty(len(x_D), dtype))


def random_levels(x_D: Vector, scale_B: Scales, block: int, stream: Stream, dtype: npt.DTypeLike = np.int8) -> LevelVector:
    """`levels_at` with the stream's words, which are drawn piece by piece."""
    level_D: LevelVector = np.empty(len(x_D), dtype)
    if (fast := rounding_for(x_D)) is not None:
        fast.random_levels(x_D, _units(scale_B), block, stream, level_D)
        return level_D
    supply = _Supply(stream, len(x_D))
    return _at_words(x_D, _units(scale_B), block, lambda where: supply.take(where.stop - where.start), level_D)


def _units(scale_B: Scales) -> Vector:
    """2^-32 of each scale, exact: one division gives x / scale in units of 2^-32."""
    return np.where(scale_B > 0, scale_B, 1.0).astype(np.float64) * _WORD


def _at_words(x_D: Vector, unit_B: Vector, block: int, words: Callable[[slice], Words32], level_D: LevelVector) -> LevelVector:
    size = min(_PIECE, len(x_D))
    ratio_S, level_S, word_S = np.empty(size), np.empty(size, np.int64), np.empty(size, np.int64)
    for where, rows, unit in _pieces(len(x_D), block, unit_B):
        count = where.stop - where.start
        ratio, level, word = ratio_S[:count], level_S[:count], word_S[:count]
        ratio[:] = x_D[where]
        np.divide(ratio.reshape(rows), unit, out=ratio.reshape(rows))
        np.copyto(level, ratio, casting="unsafe")
        word[:] = words(where)
        level += word
        level >>= 32
        level_D[where] = level
    return level_D


class _Supply:
    """The first `count` words of `words32`, handed out in runs of at most `_PIECE`, and drawn about as many at a time."""

    def __init__(self, stream: Stream, count: int) -> None:
        self._stream, self._undrawn = stream, count
        self._left = np.empty(0, np.uint32)

    def take(self, count: int) -> Words32:
        if count > len(self._left):
            fresh = words32(self._stream, min(_PIECE, self._undrawn))
            self._undrawn -= len(fresh)
            self._left = np.concatenate((self._left, fresh)) if len(self._left) else fresh
        taken, self._left = self._left[:count], self._left[count:]
        return taken


def ratios(x_D: Vector, scale_B: Scales, block: int) -> Vector:
    """X / scale, float64 (D,); 0 in blocks of zeros."""
    divisor_B, ratio_D = np.where(scale_B > 0, scale_B, 1.0).astype(np.float64), np.empty(len(x_D))
    for where, rows, divisor in _pieces(len(x_D), block, divisor_B):
        np.divide(x_D[where].reshape(rows), divisor, out=ratio_D[where].reshape(rows))
    return ratio_D


def nearest_levels(x_D: Vector, scale_B: Scales, block: int, dtype: npt.DTypeLike = np.int8) -> LevelVector:
    """Round x / scale to the nearest whole number, halves to the even one."""
    divisor_B = np.where(scale_B > 0, scale_B, 1.0).astype(np.float64)  # blocks of zeros have scale 0 and level 0
    level_D: LevelVector = np.empty(len(x_D), dtype)
    for where, rows, divisor in _pieces(len(x_D), block, divisor_B):
        ratio = np.divide(x_D[where].reshape(rows), divisor, dtype=np.float64)
        level_D[where].reshape(rows)[:] = np.rint(ratio, out=ratio)
    return level_D


def multiples(x_D: Vector, factor_B: Vector, block: int, *, dead: float = 0.5) -> npt.NDArray[np.int8]:
    """Round x times the factor of its block to the nearest whole number, halves to the even one; all must fit int8.

    Where `dead` is not 1/2, magnitudes are rounded up from that fraction on, itself included.
    """
    level_D = np.empty(len(x_D), np.int8)
    if dead != 0.5:
        for where, rows, factor in _pieces(len(x_D), block, factor_B):
            product = np.multiply(x_D[where].reshape(rows), factor, dtype=np.float64)
            level = np.floor(np.abs(product) + (1.0 - dead))
            level_D[where].reshape(rows)[:] = np.copysign(level, product, out=level)
        return level_D
    if (fast := rounding_for(x_D)) is not None:
        fast.multiples(x_D, factor_B, block, level_D)
        return level_D
    room_S = np.empty(min(_PIECE, len(x_D)))
    for where, rows, factor in _pieces(len(x_D), block, factor_B):
        product = room_S[: where.stop - where.start].reshape(rows)
        np.multiply(x_D[where].reshape(rows), factor, out=product)
        level_D[where].reshape(rows)[:] = np.rint(product, out=product)
    return level_D


def _pieces(d: int, block: int, divisor_B: Vector) -> Iterator[tuple[slice, tuple[int, ...], Any]]:
    """(coordinates, their shape, the divisor that fits it) for pieces in order."""
    if block >= _PIECE or block >= d:
        for number, start in enumerate(range(0, d, block)):
            end = min(start + block, d)
            for low in range(start, end, _PIECE):
                high = min(low + _PIECE, end)
                yield slice(low, high), (high - low,), divisor_B[number]
        return
    whole, step = d // block, max(1, _PIECE // block)
    for first in range(0, whole, step):
        last = min(first + step, whole)
        yield slice(first * block, last * block), (last - first, block), divisor_B[first:last, None]
    if whole * block < d:
        yield slice(whole * block, d), (d - whole * block,), divisor_B[whole]


def round_mantissa(magnitude_D: Vector, word_D: Words32, bits: int) -> Vector:
    """Round float64 magnitudes at random to `bits` stored bits of mantissa, given 32 random bits for each entry.

    Adding a random number to the bits that are dropped carries into the kept ones with the probability that makes the mean
    right, to 2^-32 of the step; the carry may run into the exponent, as it should. 0 bits give powers of two. At most 20
    bits; for normal float64 numbers and zero.

    Returns:
        float64, shape (D,).
    """
    dropped = _MANTISSA - bits
    pattern_D = magnitude_D.astype(np.float64).view(np.uint64)
    addend_D = word_D.astype(np.uint64)
    addend_D <<= np.uint64(dropped - 32)
    pattern_D += addend_D
    pattern_D &= np.uint64(2**64 - 2**dropped)
    return pattern_D.view(np.float64)
