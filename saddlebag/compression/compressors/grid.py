"""Grid: every entry goes to the nearest multiple of a step that is proportional to the largest magnitude."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from saddlebag.compression.compressors.rounding import multiples, peaks
from saddlebag.compression.payload import Levels, Vector, require_finite
from saddlebag.errors import ConfigError, NotFiniteError

if TYPE_CHECKING:
    from saddlebag.compression.draws import Draws

__all__ = ["Grid", "round_to_bfloat16"]

_COARSEST = 1.5  # beyond it the largest entry would move by half of itself
_FINEST = 0.01  # levels fit int8 with the rounding of the scale
_ROUNDING = 2.0**-8  # of bfloat16, relative


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

    The proof is ours; max-norm uniform quantisation without dithering is old, e.g. Gray and Neuhoff 1998.

    Attributes:
        step: c as a fraction of the largest magnitude, 0.01 to 1.5; 1 gives levels -1, 0, 1.
        block: entries that share a scale; None for all of them.

    Example:
        >>> from saddlebag.compression import Grid, Draws
        >>> compressor = Grid(step=0.5)
        >>> compressor.encode(np.array([3.0, -1.0, 0.5, 0.0]), Draws(0, 0)).dense().tolist()
        [3.0, -1.5, 0.0, 0.0]
    """

    step: float = 1.0
    block: int | None = None

    reference = "Gray and Neuhoff 1998"

    def __post_init__(self) -> None:
        if not _FINEST <= self.step <= _COARSEST:
            raise ConfigError(f"grid.step must lie in [{_FINEST}, {_COARSEST}], got {self.step!r}")
        if self.block is not None and (not isinstance(self.block, int | np.integer) or self.block < 1):
            raise ConfigError(f"grid.block must be a whole number of at least 1, got {self.block!r}")

    @property
    def _largest_level(self) -> int:
        """The level of the largest entry, n = rint(1 / step)."""
        return round(1.0 / self.step)

    def encode(self, x_D: Vector, draws: Draws) -> Levels:
        del draws
        require_finite(x_D, "a compressor's input")
        block = max(1, len(x_D)) if self.block is None else self.block
        scale_B = round_to_bfloat16(self.step * peaks(x_D, block))
        inverse_B = np.divide(1.0, scale_B, out=np.zeros(len(scale_B)), where=scale_B > 0, dtype=np.float64)
        return Levels(multiples(x_D, inverse_B, block), scale_B, block)

    def bits(self, d: int) -> float:
        """log2(2 n + 1) for each level and 16 for each scale: an upper bound, since levels are coded by their frequencies."""
        num_blocks = min(d, 1) if self.block is None else -(-d // self.block)
        return d * math.log2(2 * self._largest_level + 1) + 16.0 * num_blocks

    def alpha(self, d: int) -> float:
        reach, size = self.step * self._largest_level, d if self.block is None else min(self.block, d)
        theta = abs(1.0 - reach) + _ROUNDING * reach
        others = max(size - 1, 0) * (self.step * (1.0 + _ROUNDING) / 2.0) ** 2
        return (1.0 - theta**2) / (1.0 + others)
