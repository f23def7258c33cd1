"""Natural compression: each entry is rounded at random to one of the two nearest powers of two."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.compression.compressors.quantisers.rounding import peaks, piecewise
from saddlebag.compression.kernels.loader import rounding_for
from saddlebag.compression.payload import PowersOfTwo, Vector, require_finite
from saddlebag.compression.stream import Purpose
from saddlebag.errors import NotFiniteError

if TYPE_CHECKING:
    from saddlebag.compression.draws import Draws

__all__ = ["Natural"]

_LARGEST = 2.0**127  # of float32's powers of two
_SMALLEST = 2.0**-126
_MANTISSA, _ONE = np.uint64(2**52 - 1), np.uint64(0x3FF << 52)  # of float64: the stored bits, and the number 1


def natural_at(x_D: Vector, uniform_D: Vector) -> Vector:
    """Round to a power of two given one uniform per entry: up to 2^(e+1) if u < |x| / 2^e - 1, else 2^e, e = floor(log2 |x|).

    Magnitudes below 2^-126 go to 2^-126 with probability |x| / 2^-126 and else to 0, so the map stays unbiased and within
    float32's normal exponents.

    Returns:
        float32, shape (D,).

    Raises:
        NotFiniteError: a magnitude exceeds 2^127, whatever its uniform.
    """
    magnitude_D = np.abs(x_D, dtype=np.float64)
    _require_range(magnitude_D.max(initial=0.0))
    pattern_D = magnitude_D.view(np.uint64)
    fraction_D = ((pattern_D & _MANTISSA) | _ONE).view(np.float64) - 1.0  # |x| / 2^e - 1, exact
    power_D = pattern_D & ~_MANTISSA
    power_D += (uniform_D < fraction_D).astype(np.uint64) << np.uint64(52)
    value_D: Vector = power_D.view(np.float64)
    tiny_D = magnitude_D < _SMALLEST
    if tiny_D.any():
        value_D[tiny_D] = np.where(uniform_D[tiny_D] < magnitude_D[tiny_D] / _SMALLEST, _SMALLEST, 0.0)
    return np.copysign(value_D, x_D).astype(np.float32)


def _require_range(largest: float) -> None:
    if largest > _LARGEST:
        raise NotFiniteError(f"natural compression needs magnitudes up to 2^127, got {largest:g}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Natural:
    """Q(x) = random rounding to a power of two: omega = 1/8, 9 bits for each entry (sign and exponent).

    Source: Horvath, Ho, Horvath, Sahu, Canini, Richtarik 2022, "Natural compression for distributed deep learning",
    Theorem 1. Differs: subnormal numbers round to 0 or 2^-126, where the relative variance exceeds 1/8; the constant
    holds for entries that are zero or at least 2^-126.

    Example:
        >>> from saddlebag.compression import Natural, Draws
        >>> compressor = Natural()
        >>> compressor.omega(4)
        0.125
    """

    reference = "Horvath et al. 2022"

    def encode(self, x_D: Vector, draws: Draws) -> PowersOfTwo:
        require_finite(x_D, "a compressor's input")
        stream, value_D = draws.own(Purpose.ROUNDING), np.empty(len(x_D), np.float32)
        if (fast := rounding_for(x_D)) is not None:
            _require_range(peaks(x_D, len(x_D))[0])
            fast.powers(x_D, stream, value_D)
            return PowersOfTwo(value_D)
        for where in piecewise(len(x_D)):
            value_D[where] = natural_at(x_D[where], stream.uniforms(where.stop - where.start))
        return PowersOfTwo(value_D)

    def bits(self, d: int) -> float:
        return 9.0 * d

    def omega(self, d: int) -> float:
        del d
        return 0.125
