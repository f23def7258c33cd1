"""Block-wise quantisation to 8 or 4 bits: whole numbers times a float32 scale for each block of coordinates."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from saddlebag.compression.compressors.quantisers.dithering import (
    Dithering,
    check_block,
    level_bits,
    max_norm_omega,
    whole_blocks,
)
from saddlebag.compression.compressors.quantisers.rounding import nearest_levels, peaks, scales
from saddlebag.compression.payload import Levels, Vector, require_finite

if TYPE_CHECKING:
    from saddlebag.compression.base import Compressor
    from saddlebag.compression.draws import Draws

__all__ = ["BlockInt4", "BlockInt8", "NearestInt4", "NearestInt8"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Blocks:
    """Blocks with levels from -s to s.

    Attributes:
        block: coordinates that share a scale.
    """

    block: int = 512

    _levels = 127
    reference = "Alistarh et al. 2017"

    def __post_init__(self) -> None:
        check_block(self.block, type(self).__name__)

    @property
    def largest_level(self) -> int:
        """The level of the largest entry of a block."""
        return self._levels

    def bits(self, d: int) -> float:
        return level_bits(d, self._levels, self.block)


class _Random(_Blocks):
    """To one of the two nearest levels at random."""

    def encode(self, x_D: Vector, draws: Draws) -> Levels:
        return Dithering(levels=self._levels, norm="max", block=self.block).encode(x_D, draws)

    def omega(self, d: int) -> float:
        return max_norm_omega(min(d, self.block), self._levels)


class _Nearest(_Blocks):
    """To the nearest level."""

    def encode(self, x_D: Vector, draws: Draws) -> Levels:
        del draws
        require_finite(x_D, "a compressor's input")
        scale_B = scales(peaks(x_D, self.block), self._levels)
        return Levels(nearest_levels(x_D, scale_B, self.block), scale_B, self.block)

    def alpha(self, d: int) -> float:
        others = max(min(d, self.block) - 1, 0)
        return 4.0 * self._levels**2 / (4.0 * self._levels**2 + others)

    def part(self, here: slice, d: int) -> Compressor | None:
        """Itself, where the run ends where blocks do."""
        return self if whole_blocks(here, d, self.block) else None


class BlockInt8(_Random):
    """Q(x) = scale * level, levels -127 to 127 rounded at random; omega = (sqrt(1 + (b - 1)/127^2) - 1)/2 for blocks of b.

    0.8 % for b = 512: next to nothing is lost. Source: Alistarh et al. 2017, section 3.1, with buckets and the largest
    magnitude; the constant is that of `max_norm_omega`.

    Example:
        >>> from saddlebag.compression import BlockInt8, Draws
        >>> compressor = BlockInt8()
        >>> round(compressor.omega(512), 3)
        0.008
    """


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockInt4(_Random):
    """Q(x) = scale * level, levels -7 to 7 rounded at random; omega = (sqrt(1 + (b - 1)/49) - 1)/2 for blocks of b.

    0.26 for b = 64. Source: as `BlockInt8`.

    Example:
        >>> from saddlebag.compression import BlockInt4, Draws
        >>> compressor = BlockInt4()
        >>> round(compressor.omega(64), 2)
        0.26
    """

    block: int = 64

    _levels = 7


class NearestInt8(_Nearest):
    """C(x) = scale * level, levels -127 to 127, the nearest; alpha = 4 s^2 / (4 s^2 + b - 1), s = 127, attained.

    The largest entry of a block is hit; each other loses at most min(|x_i|, scale/2), so of b - 1 others at scale/2 each the
    share (b - 1) / (4 s^2 + b - 1) is lost, and no more. Source: Dettmers, Lewis, Shleifer, Zettlemoyer 2022, section 2, for
    blocks with linear levels; the constant is proved here. Differs: scales below 2^-126 are too coarse for it.

    Example:
        >>> from saddlebag.compression import NearestInt8, Draws
        >>> compressor = NearestInt8()
        >>> round(compressor.alpha(512), 3)
        0.992
    """

    reference = "Dettmers et al. 2022"


@dataclasses.dataclass(frozen=True, kw_only=True)
class NearestInt4(_Nearest):
    """C(x) = scale * level, levels -7 to 7, the nearest; alpha = 196 / (195 + b) for blocks of b. See `NearestInt8`.

    Example:
        >>> from saddlebag.compression import NearestInt4, Draws
        >>> compressor = NearestInt4()
        >>> round(compressor.alpha(64), 3)
        0.757
    """

    block: int = 64

    _levels = 7
    reference = "Dettmers et al. 2022"
