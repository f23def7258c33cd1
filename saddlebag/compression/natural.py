"""Natural compression: each entry is rounded at random to one of the two nearest powers of two."""

from __future__ import annotations

import dataclasses

import numpy as np

from saddlebag.compression.draws import Draws, Purpose
from saddlebag.compression.payload import PowersOfTwo, Vector, require_finite
from saddlebag.errors import NotFiniteError

__all__ = ["Natural", "natural_at"]

_LARGEST = 2.0**127  # of float32's powers of two
_MIN_POWER = -126


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
    if magnitude_D.max(initial=0.0) > _LARGEST:
        raise NotFiniteError(f"natural compression needs magnitudes up to 2^127, got {magnitude_D.max():g}")
    mantissa_D, exponent_D = np.frexp(magnitude_D)  # |x| = mantissa 2^exponent, mantissa in [1/2, 1)
    power_D = exponent_D - 1 + (uniform_D < 2.0 * mantissa_D - 1.0)
    value_D: Vector = np.ldexp(1.0, power_D)
    tiny_D = exponent_D - 1 < _MIN_POWER
    if tiny_D.any():
        up_D = uniform_D < np.ldexp(magnitude_D, -_MIN_POWER)
        value_D = np.where(tiny_D, np.where(up_D, 2.0**_MIN_POWER, 0.0), value_D)
    value_D[x_D == 0] = 0.0
    return np.copysign(value_D, x_D).astype(np.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Natural:
    """Q(x) = random rounding to a power of two: omega = 1/8, 9 bits for each entry (sign and exponent).

    Source: Horvath, Ho, Horvath, Sahu, Canini, Richtarik 2022, "Natural compression for distributed deep learning",
    Theorem 1. Differs: subnormal numbers round to 0 or 2^-126, where the relative variance exceeds 1/8; the constant
    holds for entries that are zero or at least 2^-126.
    """

    reference = "Horvath et al. 2022"

    def encode(self, x_D: Vector, draws: Draws) -> PowersOfTwo:
        require_finite(x_D, "a compressor's input")
        return PowersOfTwo(natural_at(x_D, draws.own(Purpose.ROUNDING).uniforms(len(x_D))))

    def bits(self, d: int) -> float:
        return 9.0 * d

    def omega(self, d: int) -> float:
        del d
        return 0.125
