"""Grid: every entry goes to the nearest multiple of a step that is proportional to the largest magnitude."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from saddlebag.compression.compressors.quantisers.rounding import multiples, peaks
from saddlebag.compression.payload import Levels, Vector, require_finite
from saddlebag.errors import ConfigError, NotFiniteError

if TYPE_CHECKING:
    from saddlebag.compression.draws import Draws

__all__ = ["Grid"]

_COARSEST = 1.5  # beyond it the largest entry would move by half of itself
_FINEST = 0.01  # levels fit int8 with the rounding of the scale
_ROUNDING = 2.0**-8  # of bfloat16, relative
_DEADEST = 0.75
_AUTO = 0.5  # the step that is left to a method, with one that does not set it


def round_to_bfloat16(value_B: Vector) -> npt.NDArray[np.float32]:
    """The nearest numbers with 8 significant bits (bfloat16), ties to even, held as float32.

    Raises:
        NotFiniteError: a value overflows.
    """
    with np.errstate(over="ignore"):
        bits_B = value_B.astype(np.float32).view(np.uint32)
        bits_B = (bits_B + np.uint32(0x7FFF) + ((bits_B >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF_0000)
    rounded_B = bits_B.view(np.float32)
    if not np.isfinite(rounded_B).all():
        raise NotFiniteError(f"grid: a scale overflows bfloat16: {value_B.max():g}")
    return rounded_B


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid:
    """C(x)_i = c rint(x_i / c) with c = step max|x|, rounded to bfloat16: deterministic, contractive.

    With n = rint(1 / step), the largest entry moves by at most theta = |1 - step n| + 2^-8 step n times itself, any other by
    at most min(|x_i|, c / 2), so |C(x) - x|^2 / |x|^2 <= (theta^2 + a) / (1 + a) with a = (B - 1) step^2 (1 + 2^-8)^2 / 4 for
    B entries under one scale (the ratio grows with the error of the others, which is at most their norm), that is

        alpha = (1 - theta^2) / (1 + a),        for step = 1 about 4 / (B + 3).

    The worst case is one large entry among equal ones of half a step; on the bell-shaped innovations of `innovations`
    step 1 leaves about a third to a half of |x|^2 in 1.4 bits an entry. Entries whose scale underflows (below 1e-38)
    become 0. Levels are whole numbers, most of them 0, whose coding approaches their entropy.

    With `dead` above 1/2 a magnitude goes to the multiple above it only from that fraction of the way on: |x_i| < dead c
    becomes 0. That takes fewer bits for a larger error, where zeros are what most entries become. Above `dead` nothing moves by
    more than (1 - dead) c or dead c, so the bound holds with dead in the place of 1/2, and n = floor(1/step + 1 - dead).

    `fit` moves the scale from c towards the one of least error, <x, l>/|l|^2 for the levels l: c^(1 - fit) times that to the
    power of fit. The error is a parabola in the scale, so no scale in between is worse than c, and alpha holds for all of
    them (bfloat16 may add 2^-18 of |x|^2, less than what the bound leaves). A fitted scale is smaller where most of what is
    kept was rounded up: less error, but <C(x), x> falls below |x|^2, a lag.

    The proof is ours; max-norm uniform quantisation without dithering is old, e.g. Gray and Neuhoff 1998.

    Attributes:
        step: c as a fraction of the largest magnitude, 0.01 to 1.5; 1 gives levels -1, 0, 1. "auto": set from round to round,
            with the fit, by a method that can (`innovations`); elsewhere 0.5.
        block: entries that share a scale; None for all of them.
        fit: 0 to 1.
        dead: 0.5 to 0.75, and at most 0.99/step, so that the largest entry is never lost.

    Example:
        >>> from saddlebag.compression import Grid, Draws
        >>> compressor = Grid(step=0.5)
        >>> compressor.encode(np.array([3.0, -1.0, 0.5, 0.0]), Draws(0, 0)).dense().tolist()
        [3.0, -1.5, 0.0, 0.0]
    """

    step: float | str = 1.0
    block: int | None = None
    fit: float = 0.0
    dead: float = 0.5

    reference = "Gray and Neuhoff 1998"

    def __post_init__(self) -> None:
        if self.step != "auto" and (isinstance(self.step, str) or not _FINEST <= self.step <= _COARSEST):
            raise ConfigError(f"grid.step must lie in [{_FINEST}, {_COARSEST}], or be 'auto', got {self.step!r}")
        if not 0.0 <= self.fit <= 1.0:
            raise ConfigError(f"grid.fit must lie in [0, 1], got {self.fit!r}")
        if not 0.5 <= self.dead <= min(_DEADEST, 0.99 / self._step):
            raise ConfigError(f"grid.dead must lie in [0.5, {min(_DEADEST, 0.99 / self._step):g}], got {self.dead!r}")
        if self.block is not None and (not isinstance(self.block, int | np.integer) or self.block < 1):
            raise ConfigError(f"grid.block must be a whole number of at least 1, got {self.block!r}")

    @property
    def _step(self) -> float:
        return _AUTO if isinstance(self.step, str) else self.step

    @property
    def _largest_level(self) -> int:
        """The level of the largest entry, n = rint(1 / step), or floor(1 / step + 1 - dead)."""
        return round(1.0 / self._step) if self.dead == 0.5 else math.floor(1.0 / self._step + 1.0 - self.dead)

    @property
    def _largest_error(self) -> float:
        """Theta: of the largest entry, relative, whichever way the scale was rounded."""
        if self.dead == 0.5:
            reach = self._step * self._largest_level
            return abs(1.0 - reach) + _ROUNDING * reach
        scales = (self._step * (1.0 - _ROUNDING), self._step * (1.0 + _ROUNDING))
        levels = {math.floor(1.0 / scale + 1.0 - self.dead) for scale in scales}
        return max(abs(1.0 - scale * level) for scale in scales for level in levels)

    def encode(self, x_D: Vector, draws: Draws) -> Levels:
        del draws
        require_finite(x_D, "a compressor's input")
        block = max(1, len(x_D)) if self.block is None else self.block
        scale_B = round_to_bfloat16(self._step * peaks(x_D, block))
        inverse_B = np.divide(1.0, scale_B, out=np.zeros(len(scale_B)), where=scale_B > 0, dtype=np.float64)
        level_D = multiples(x_D, inverse_B, block, dead=self.dead)
        if self.fit:
            scale_B = _fitted(x_D, level_D.astype(np.float64), scale_B, np.arange(0, len(x_D), block), self.fit)
        return Levels(level_D, scale_B, block)

    def bits(self, d: int) -> float:
        """log2(2 n + 1) for each level and 16 for each scale: an upper bound, since levels are coded by their frequencies."""
        num_blocks = min(d, 1) if self.block is None else -(-d // self.block)
        return d * math.log2(2 * self._largest_level + 1) + 16.0 * num_blocks

    def alpha(self, d: int) -> float:
        size = d if self.block is None else min(self.block, d)
        theta = self._largest_error
        others = max(size - 1, 0) * (self._step * (1.0 + _ROUNDING) * self.dead) ** 2
        return (1.0 - theta**2) / (1.0 + others)


def _fitted(
    x_D: Vector, level_D: Vector, scale_B: npt.NDArray[np.float32], starts: npt.NDArray[np.int64], fit: float
) -> npt.NDArray[np.float32]:
    """Scales between those of the grid and the best ones for its levels, one for each block."""
    size_D = np.abs(x_D).astype(np.float64)
    unit_B = np.maximum.reduceat(size_D, starts)  # squares of what lies far from 1 would overflow
    size_D /= np.repeat(np.where(unit_B > 0, unit_B, 1.0), np.diff(np.append(starts, len(x_D))))
    count_D = np.abs(level_D)
    inner_B, square_B = np.add.reduceat(size_D * count_D, starts), np.add.reduceat(np.square(count_D), starts)
    best_B = unit_B * np.divide(inner_B, square_B, out=np.zeros(len(starts)), where=square_B > 0)
    kept_B = (scale_B > 0) & (best_B > 0)
    ratio_B = np.divide(best_B, scale_B, out=np.ones(len(starts)), where=kept_B)
    return round_to_bfloat16(scale_B * ratio_B**fit)
