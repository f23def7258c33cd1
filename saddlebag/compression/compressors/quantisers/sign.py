"""Scaled sign: one bit for each entry, times the mean magnitude."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.compression.compressors.quantisers.dithering import check_block, num_blocks
from saddlebag.compression.payload import Levels, Vector, require_finite
from saddlebag.errors import NotFiniteError

if TYPE_CHECKING:
    from saddlebag.compression.draws import Draws

__all__ = ["ScaledSign"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScaledSign:
    """C(x) = (|x|_1 / b) sign(x) for each block of b; alpha = 1/b, and for one vector |x|_1^2 / (b |x|^2), its density.

    Source: Karimireddy, Rebjock, Stich, Jaggi 2019, "Error feedback fixes SignSGD", Lemma 8. The worst case is a vector with
    one entry; entries of equal magnitude lose nothing. sign(0) = 0, which loses no more.

    Attributes:
        block: coordinates that share a scale; None for all.

    Example:
        >>> from saddlebag.compression import ScaledSign, Draws
        >>> compressor = ScaledSign()
        >>> compressor.encode(np.array([3.0, -1.0, 0.5, 0.0]), Draws(0, 0)).dense().tolist()
        [1.125, -1.125, 1.125, 0.0]
    """

    block: int | None = None

    reference = "Karimireddy et al. 2019"

    def __post_init__(self) -> None:
        check_block(self.block, "scaled_sign")

    def encode(self, x_D: Vector, draws: Draws) -> Levels:
        del draws
        require_finite(x_D, "a compressor's input")
        block = self.block or max(1, len(x_D))
        start_B = np.arange(0, len(x_D), block)
        length_B = np.minimum(block, len(x_D) - start_B)
        with np.errstate(over="ignore"):
            mean_B = np.add.reduceat(np.abs(x_D, dtype=np.float64), start_B) / length_B if len(x_D) else np.zeros(0)
            scale_B = mean_B.astype(np.float32)
        if not np.isfinite(scale_B).all():
            raise NotFiniteError(f"a compressor's input overflows float32: mean magnitude {mean_B.max():g}")
        return Levels((x_D > 0).view(np.int8) - (x_D < 0).view(np.int8), scale_B, block)

    def bits(self, d: int) -> float:
        """One bit for each entry, where none is zero, and 32 for each scale."""
        return d + 32.0 * num_blocks(d, self.block)

    def alpha(self, d: int) -> float:
        return 1.0 / max(1, min(d, self.block or d))
