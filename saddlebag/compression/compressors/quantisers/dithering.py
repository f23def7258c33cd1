"""Random dithering (QSGD): each entry is rounded at random to a multiple of its block's norm over s."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Literal

import numpy as np

from saddlebag.compression.compressors.quantisers.rounding import peaks, random_levels, scales
from saddlebag.compression.payload import Levels, Vector, require_finite
from saddlebag.compression.stream import Purpose
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.compression.draws import Draws

__all__ = ["Dithering"]

_MOST_LEVELS = 2**15 - 1
_INT8 = 127


def check_levels(levels: int, name: str, most: int = _MOST_LEVELS) -> None:
    """Raise `ConfigError` unless the number of levels can travel."""
    if not isinstance(levels, int | np.integer) or isinstance(levels, bool) or not 1 <= levels <= most:
        raise ConfigError(f"{name}.levels must be a whole number from 1 to {most}, got {levels!r}")


def check_block(block: int | None, name: str) -> None:
    """Raise `ConfigError` unless the number of coordinates that share a scale is None (all) or at least 1."""
    if block is not None and (not isinstance(block, int | np.integer) or isinstance(block, bool) or block < 1):
        raise ConfigError(f"{name}.block must be a whole number of at least 1, got {block!r}")


def whole_blocks(here: slice, d: int, block: int) -> bool:
    """Whether a run of `d` coordinates begins and ends where blocks of so many do."""
    return bool(here.start % block == 0 and (here.stop % block == 0 or here.stop == d))


def num_blocks(d: int, block: int | None) -> int:
    """How many scales travel."""
    return -(-d // block) if block else min(d, 1)


def level_bits(d: int, levels: int, block: int | None) -> float:
    """D levels from -s to s in whole bits each, and 32 bits for each scale."""
    return float(d * (2 * levels).bit_length() + 32 * num_blocks(d, block))


def euclidean(x_D: Vector) -> Vector:
    """The Euclidean norm of the whole vector, at least its largest magnitude, float64, shape (1,); of no vector (0,)."""
    peak_B = peaks(x_D, max(1, len(x_D)))
    if not len(peak_B) or peak_B[0] == 0.0 or not np.isfinite(peak_B[0]):
        return peak_B
    wide_D = x_D.astype(np.float64, copy=False)
    with np.errstate(over="ignore"):
        square = float(np.dot(wide_D, wide_D))
    norm = math.sqrt(square)
    if not 1e-290 < square < math.inf:  # squares underflow or overflow: divide first
        wide_D = wide_D / peak_B[0]
        norm = float(peak_B[0]) * math.sqrt(float(np.dot(wide_D, wide_D)))
    return np.array([max(float(peak_B[0]), norm)])


def max_norm_omega(d: int, levels: float) -> float:
    """Omega of s levels of the largest magnitude: (sqrt(1 + (d - 1) / s^2) - 1) / 2, attained.

    The largest entry is hit exactly. The others, r = |x_i| / scale, add at most r - r^2 each for r <= 1/2 and 1/4 beyond,
    a concave function of r^2, so all equal is worst, and (d - 1)(r - r^2) / (s^2 + (d - 1) r^2) is largest at
    r = s / (s + sqrt(s^2 + d - 1)).
    """
    return (math.sqrt(1.0 + max(d - 1, 0) / levels**2) - 1.0) / 2.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dithering:
    """Q(x)_i = scale * level, scale = norm / s, level = x_i / scale rounded at random to a neighbouring whole number.

    With the l2 norm omega = sqrt(d)/s - 1 for 2 s <= sqrt(d), attained by equal magnitudes, and d / (4 s^2) for more levels.
    Source: Alistarh, Grubic, Li, Tomioka, Vojnovic 2017, "QSGD", Lemma 3.1, min(d/s^2, sqrt(d)/s); the smaller constant here
    follows because an entry r = |x_i| / scale adds at most r - r^2 (r <= 1/2) or 1/4, a concave function of r^2. With the
    largest magnitude as the norm see `max_norm_omega`. Differs: the scale travels as a float32, rounded up; scales below
    2^-126 are too coarse for the constant.

    Attributes:
        levels: s, from 1 to 32767.
        norm: "l2", or "max", the largest magnitude.
        block: coordinates that share a scale, with norm "max"; None for all.

    Example:
        >>> from saddlebag.compression import Dithering, Draws
        >>> compressor = Dithering(levels=4)
        >>> compressor.omega(16)
        0.25
    """

    levels: int
    norm: Literal["l2", "max"] = "l2"
    block: int | None = None

    reference = "Alistarh et al. 2017"

    def __post_init__(self) -> None:
        check_levels(self.levels, "dithering")
        check_block(self.block, "dithering")
        if self.norm not in ("l2", "max"):
            raise ConfigError(f"dithering.norm must be 'l2' or 'max', got {self.norm!r}")
        if self.block is not None and self.norm != "max":
            raise ConfigError(f"dithering.block needs norm 'max', got {self.norm!r}")

    def encode(self, x_D: Vector, draws: Draws) -> Levels:
        require_finite(x_D, "a compressor's input")
        block = self.block or max(1, len(x_D))
        peak_B = euclidean(x_D) if self.norm == "l2" else peaks(x_D, block)
        scale_B = scales(peak_B, self.levels)
        dtype = np.int8 if self.levels <= _INT8 else np.int16
        return Levels(random_levels(x_D, scale_B, block, draws.own(Purpose.ROUNDING), dtype), scale_B, block)

    def bits(self, d: int) -> float:
        return level_bits(d, self.levels, self.block)

    def omega(self, d: int) -> float:
        if self.norm == "max":
            return max_norm_omega(min(d, self.block or d), self.levels)
        return math.sqrt(d) / self.levels - 1.0 if 4 * self.levels**2 <= d else d / (4.0 * self.levels**2)
