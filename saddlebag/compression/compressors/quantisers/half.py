"""Casts to 16 bits: float16 or bfloat16, to the nearest; bfloat16 at random, which is unbiased."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

import numpy as np

from saddlebag.compression.compressors.quantisers.rounding import Words32, peaks, piecewise, round_mantissa, words32
from saddlebag.compression.kernels.loader import rounding_for
from saddlebag.compression.payload import Half, Vector, require_finite
from saddlebag.compression.stream import Purpose
from saddlebag.errors import ConfigError, NotFiniteError

if TYPE_CHECKING:
    from saddlebag.compression.draws import Draws

__all__ = ["Cast", "StochasticBfloat16"]

_LARGEST = 255 * 2.0**120  # of bfloat16
_STEP = 2.0**-133  # between bfloat16's numbers below 2^-126
_SMALLEST_NORMAL = 2.0**-126
_DROPPED = np.uint64(45)  # of a float64's 52 stored bits of mantissa, 7 stay
_HALF = np.uint64((1 << 44) - 1)  # with the lowest bit that stays: up beyond a half, and at a half from odd to even
_KEPT = np.uint64((1 << 64) - (1 << 45))
_SIGNIFICANT = {"float16": 11, "bfloat16": 8}


def nearest_bfloat16(x_D: Vector) -> Vector:
    """The nearest bfloat16, halves to the even one, as float32; from float64 rounded once, not by way of float32.

    Raises:
        NotFiniteError: an entry is not finite, or rounds to an infinity.
    """
    require_finite(x_D, "a compressor's input")
    value_D = np.empty(len(x_D), np.float32)
    with np.errstate(over="ignore"):
        for where in piecewise(len(x_D)):
            wide_D = x_D[where].astype(np.float64)
            tiny_D = np.abs(wide_D) < _SMALLEST_NORMAL
            if tiny_D.any():
                even_D = np.rint(wide_D[tiny_D] / _STEP) * _STEP
            pattern_D = wide_D.view(np.uint64)
            pattern_D += ((pattern_D >> _DROPPED) & np.uint64(1)) + _HALF
            pattern_D &= _KEPT
            value_D[where] = wide_D
            if tiny_D.any():
                value_D[where][tiny_D] = even_D
    require_finite(value_D, "a compressor's input as bfloat16")
    return value_D


def _require_range(largest: float) -> None:
    if largest > _LARGEST:
        raise NotFiniteError(f"bfloat16 holds magnitudes up to {_LARGEST:g}, got {largest:g}")


def bfloat16_at(x_D: Vector, word_D: Words32) -> Vector:
    """One of the two nearest bfloat16 at random, given 32 random bits for each entry, as float32.

    Raises:
        NotFiniteError: a magnitude exceeds the largest bfloat16, whatever its word.
    """
    magnitude_D = np.abs(x_D, dtype=np.float64)
    _require_range(magnitude_D.max(initial=0.0))
    value_D = round_mantissa(magnitude_D, word_D, 7)
    tiny_D = magnitude_D < _SMALLEST_NORMAL
    if tiny_D.any():
        value_D[tiny_D] = np.floor(magnitude_D[tiny_D] / _STEP + word_D[tiny_D] * 2.0**-32) * _STEP
    return np.copysign(value_D, x_D).astype(np.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cast:
    """C(x) = the nearest numbers of 16 bits; alpha = 1 - u^2 / (1 + u)^2, u = 2^-8 for bfloat16 and 2^-11 for float16.

    Source: Higham 2002, "Accuracy and stability of numerical algorithms", section 2.2: the relative error of one rounding.
    The constant holds for entries that are zero or normal numbers of the type: at least 2^-126, or 2^-14 for float16, whose
    range (6e-5 to 65504) gradients leave easily. Magnitudes beyond the range are refused.

    Attributes:
        dtype: "bfloat16" or "float16".

    Example:
        >>> from saddlebag.compression import Cast, Draws
        >>> compressor = Cast(dtype="float16")
        >>> compressor.bits(1000)
        16000.0
    """

    dtype: Literal["bfloat16", "float16"] = "bfloat16"

    reference = "Higham 2002"

    def __post_init__(self) -> None:
        if self.dtype not in _SIGNIFICANT:
            raise ConfigError(f"cast.dtype must be 'bfloat16' or 'float16', got {self.dtype!r}")

    def encode(self, x_D: Vector, draws: Draws) -> Half:
        del draws
        require_finite(x_D, "a compressor's input")
        if self.dtype == "bfloat16":
            return Half(nearest_bfloat16(x_D), self.dtype)
        with np.errstate(over="ignore"):
            value_D = x_D.astype(np.float16).astype(np.float32)
        require_finite(value_D, "a compressor's input as float16")
        return Half(value_D, self.dtype)

    def bits(self, d: int) -> float:
        return 16.0 * d

    def alpha(self, d: int) -> float:
        del d
        u = 2.0 ** -_SIGNIFICANT[self.dtype]
        return 1.0 - (u / (1.0 + u)) ** 2

    def part(self, here: slice, d: int) -> Cast:
        """Itself: it works coordinate by coordinate."""
        del here, d
        return self


@dataclasses.dataclass(frozen=True, kw_only=True)
class StochasticBfloat16:
    """Q(x) = one of the two nearest bfloat16 at random; omega = 2^-16 / (1 + 2^-7), the variance of one rounding.

    Of a number between n and n + 1 steps of 2^-7, n >= 2^7, the relative variance (r - n)(n + 1 - r) / r^2 is largest, at
    n = 2^7, with 1 / (4 n (n + 1)). Source: Gupta, Agrawal, Gopalakrishnan, Narayanan 2015, section 3, for the rounding; the
    constant is proved here and holds for entries that are zero or at least 2^-126.

    Example:
        >>> from saddlebag.compression import StochasticBfloat16, Draws
        >>> compressor = StochasticBfloat16()
        >>> compressor.bits(1000)
        16000.0
    """

    reference = "Gupta et al. 2015"

    def encode(self, x_D: Vector, draws: Draws) -> Half:
        require_finite(x_D, "a compressor's input")
        stream, value_D = draws.own(Purpose.ROUNDING), np.empty(len(x_D), np.float32)
        if (fast := rounding_for(x_D)) is not None:
            _require_range(peaks(x_D, len(x_D))[0])
            fast.bfloat16(x_D, stream, value_D)
            return Half(value_D, "bfloat16")
        for where in piecewise(len(x_D)):
            piece_D = x_D[where]
            value_D[where] = bfloat16_at(piece_D, words32(stream, len(piece_D)))
        return Half(value_D, "bfloat16")

    def bits(self, d: int) -> float:
        return 16.0 * d

    def omega(self, d: int) -> float:
        del d
        return 2.0**-16 / (1.0 + 2.0**-7)
