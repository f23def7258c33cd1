"""Natural dithering: each entry is rounded at random to a norm times 1, 1/2, 1/4, ..., 2^(1 - s), or 0."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Literal

import numpy as np

from saddlebag.compression.compressors.quantisers.dithering import (
    check_block,
    check_levels,
    euclidean,
    level_bits,
    max_norm_omega,
)
from saddlebag.compression.compressors.quantisers.rounding import (
    Words32,
    peaks,
    piecewise,
    ratios,
    round_mantissa,
    scales,
    words32,
)
from saddlebag.compression.kernels.loader import rounding_for
from saddlebag.compression.payload import Levels, Spacing, Vector, require_finite
from saddlebag.compression.stream import Purpose
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    import numpy.typing as npt

    from saddlebag.compression.draws import Draws

__all__ = ["NaturalDithering"]

_MOST_LEVELS = 100  # 2^(1 - s) stays far from the end of float32's exponents
_BIAS, _MANTISSA = 1023, 52  # of float64


def dyadic_levels_at(x_D: Vector, scale: np.float32, levels: int, word_D: Words32) -> npt.NDArray[np.int8]:
    """Round |x| / scale at random to a power of two, or between 2^(1 - s) and 0, given 32 random bits for each entry.

    Returns:
        sign(x) (1 - exponent), so that level l stands for 2^(1 - l); 0 for 0; int8, shape (D,).
    """
    ratio_D = np.abs(x_D, dtype=np.float64)
    ratio_D /= np.float64(scale) if scale > 0 else 1.0
    smallest = 2.0 ** (1 - levels)
    power_D = round_mantissa(ratio_D, word_D, 0).view(np.int64)
    power_D >>= _MANTISSA
    level_D = np.subtract(_BIAS + 1, power_D, out=power_D).astype(np.int8)  # of the small ones any number, replaced below
    small_N = np.flatnonzero(ratio_D < smallest)
    level_D[small_N] = np.where(word_D[small_N] < ratio_D[small_N] * (2.0**32 / smallest), levels, 0)
    sign_D = np.signbit(x_D).view(np.int8)
    level_D ^= -sign_D  # minus a number is its complement plus 1
    level_D += sign_D
    return level_D


@dataclasses.dataclass(frozen=True, kw_only=True)
class NaturalDithering:
    """Q(x)_i = norm * sign * 2^(1 - level), unbiased between neighbouring levels; u = 2^(1 - s) is the smallest one.

    omega = 1/8 + min(sqrt(d) u, d u^2 / 4) with the l2 norm, and with the largest magnitude of b entries
    1/8 + (sqrt(1 + (b - 1) u^2) - 1) / 2. Seven levels with the sign and zero fill 4 bits; in blocks of 512 omega is 0.155.
    Source: Horvath, Ho, Horvath, Sahu, Canini, Richtarik 2022, "Natural compression for distributed deep learning",
    1/8 + sqrt(d) u min(1, sqrt(d) u); smaller here because an entry r below u adds r(u - r), at most r u and at most u^2 / 4.
    Differs: the norm travels as a float32, rounded up.

    Attributes:
        levels: s, from 1 to 100.
        norm: "l2", or "max", the largest magnitude.
        block: coordinates that share a scale, with norm "max"; None for all.

    Example:
        >>> from saddlebag.compression import NaturalDithering, Draws
        >>> compressor = NaturalDithering(levels=4)
        >>> round(compressor.omega(4), 4)
        0.1366
    """

    levels: int = 7
    norm: Literal["l2", "max"] = "max"
    block: int | None = None

    reference = "Horvath et al. 2022"

    def __post_init__(self) -> None:
        check_levels(self.levels, "natural_dithering", _MOST_LEVELS)
        if self.norm not in ("l2", "max"):
            raise ConfigError(f"natural_dithering.norm must be 'l2' or 'max', got {self.norm!r}")
        check_block(self.block, "natural_dithering")
        if self.block is not None and self.norm != "max":
            raise ConfigError(f"natural_dithering.block needs norm 'max', got {self.norm!r}")

    def encode(self, x_D: Vector, draws: Draws) -> Levels:
        require_finite(x_D, "a compressor's input")
        block = self.block or max(1, len(x_D))
        scale_B = scales(euclidean(x_D) if self.norm == "l2" else peaks(x_D, block), 1)
        scale = scale_B[0] if len(scale_B) else np.float32(1.0)
        if len(scale_B) > 1:
            x_D, scale = ratios(x_D, scale_B, block), np.float32(1.0)
        stream, level_D = draws.own(Purpose.ROUNDING), np.empty(len(x_D), np.int8)
        if (fast := rounding_for(x_D)) is not None:
            fast.dyadic_levels(x_D, scale if scale > 0 else 1.0, self.levels, stream, level_D)
            return Levels(level_D, scale_B, block, Spacing.DYADIC)
        for where in piecewise(len(x_D)):
            piece_D = x_D[where]
            level_D[where] = dyadic_levels_at(piece_D, scale, self.levels, words32(stream, len(piece_D)))
        return Levels(level_D, scale_B, block, Spacing.DYADIC)

    def bits(self, d: int) -> float:
        return level_bits(d, self.levels, self.block)

    def omega(self, d: int) -> float:
        smallest = 2.0 ** (1 - self.levels)
        if self.norm == "max":
            return 0.125 + max_norm_omega(min(d, self.block or d), 1.0 / smallest)
        return 0.125 + min(math.sqrt(d) * smallest, d * smallest**2 / 4.0)
