"""Ternary quantisation (TernGrad): each entry becomes 0 or plus or minus its block's largest magnitude, at random."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from saddlebag.compression.compressors.quantisers.dithering import Dithering, check_block, max_norm_omega, num_blocks

if TYPE_CHECKING:
    from saddlebag.compression.draws import Draws
    from saddlebag.compression.payload import Levels, Vector

__all__ = ["Ternary"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ternary:
    """Q(x)_i = sign(x_i) max|x| with probability |x_i| / max|x|, else 0; omega = (sqrt(b) - 1) / 2 for blocks of b, attained.

    Source: Wen, Xu, Yan, Wu, Wang, Chen, Li 2017, "TernGrad", section 3.1; the constant is that of dithering with one level
    of the largest magnitude (`max_norm_omega`).

    Attributes:
        block: coordinates that share a scale; None for all.

    Example:
        >>> from saddlebag.compression import Ternary, Draws
        >>> compressor = Ternary()
        >>> compressor.omega(4)
        0.5
    """

    block: int | None = None

    reference = "Wen et al. 2017"

    def __post_init__(self) -> None:
        check_block(self.block, "ternary")

    def encode(self, x_D: Vector, draws: Draws) -> Levels:
        return Dithering(levels=1, norm="max", block=self.block).encode(x_D, draws)

    def bits(self, d: int) -> float:
        """At most d log2 3 + 32 for each scale: the bound for levels that are coded well; fewer where most are 0."""
        return d * math.log2(3.0) + 32.0 * num_blocks(d, self.block)

    def omega(self, d: int) -> float:
        return max_norm_omega(min(d, self.block or d), 1)
