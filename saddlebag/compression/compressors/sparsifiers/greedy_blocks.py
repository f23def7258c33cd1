"""Greedy block rules: whole blocks of consecutive coordinates, those along which a step gains the most."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.compression.compressors.quantisers.dithering import check_block, num_blocks
from saddlebag.compression.compressors.sparsifiers.top_k import top_k_index
from saddlebag.compression.payload import Dense, Sparse, Vector
from saddlebag.compression.values import cast, check_kept, kept, sparse_bits
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.compression.draws import Draws

__all__ = ["GreedyBlocks"]

_WIDEST = 1e30  # between the constants of one vector: wider ones would round alpha to 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class GreedyBlocks:
    """C(x) = the k blocks of largest |x_b|^2 / L_b, the others 0: the rule Gauss-Southwell-Lipschitz.

    A step of 1/L_b along the gradient's block b lowers a function by at least |g_b|^2 / (2 L_b), so with x = g the blocks are
    those of the largest sure gain. That step needs `damped`: the kept blocks are then multiplied by L_min / L_b, and
    z - C(g) / L_min moves each of them by g_b / L_b.

    Contractive, whatever x. Among kept blocks |x_b|^2 >= t L_b and among others |x_b|^2 <= t L_b for some t, so the share that
    is kept is least where all are equal and the kept ones are those of the smallest constants:

        alpha = (the sum of the k smallest L_b) / (the sum of all).

    `damped`, a kept block contributes w_b |x_b|^2 with w_b = f_b (2 - f_b), f_b = L_min / L_b. The share is a quotient of
    linear functions of the |x_b|^2, least at the same corner or along a ray, where x is the block of the largest constant:

        alpha = min{ (the sum of the k smallest w_b L_b) / (the sum of all L_b),  w of the largest L_b }.

    Source: Nutini, Schmidt, Laradji, Friedlander, Koepke 2015 (the rule); Nutini, Laradji, Schmidt 2017 (blocks). The constants
    of the contraction are derived here.

    Attributes:
        block: coordinates of a block; the last one may be shorter.
        k, fraction: how many blocks are kept; exactly one is given.
        lipschitz: L_b > 0 of each block in order, or one number for all: then those of the largest norm are kept. Only ratios
            matter. For a quadratic, the largest eigenvalue of the Hessian's block.
        damped: whether kept blocks are multiplied by L_min / L_b.

    Example:
        >>> from saddlebag.compression import Draws, GreedyBlocks
        >>> compressor = GreedyBlocks(block=2, k=1, lipschitz=[100.0, 1.0])
        >>> compressor.encode(np.array([3.0, -1.0, 0.5, 0.0]), Draws(0, 0)).dense().tolist()
        [0.0, 0.0, 0.5, 0.0]
        >>> round(compressor.alpha(4), 4)
        0.0099
    """

    block: int
    k: int | None = None
    fraction: float | None = None
    lipschitz: float | Sequence[float] = 1.0
    damped: bool = False

    reference = "Nutini et al. 2017"

    def __post_init__(self) -> None:
        check_block(self.block, "greedy_blocks")
        if self.block is None:
            raise ConfigError("greedy_blocks.block must be a whole number of at least 1, got None")
        check_kept(self.k, self.fraction, "greedy_blocks")
        if not isinstance(self.damped, bool):
            raise ConfigError(f"greedy_blocks.damped must be true or false, got {self.damped!r}")
        if isinstance(self.lipschitz, Sequence | np.ndarray):
            object.__setattr__(self, "lipschitz", tuple(self.lipschitz))  # a frozen dataclass is hashed by its fields
        each = self.lipschitz if isinstance(self.lipschitz, tuple) else (self.lipschitz,)
        for value in each:
            number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
            if not number or not 0 < value < math.inf:
                raise ConfigError(f"greedy_blocks.lipschitz must be a positive number, or one for each block, got {value!r}")
        if not each or max(each) > _WIDEST * min(each):
            raise ConfigError(f"greedy_blocks.lipschitz must lie within a factor of {_WIDEST:g}, got {self.lipschitz}")

    def encode(self, x_D: Vector, draws: Draws) -> Sparse:
        del draws
        d = len(x_D)
        value_D = cast(x_D)
        if d == 0:
            return Sparse(0, np.empty(0, np.int64), Dense(value_D))
        constant_B = self._constants(d)
        square_B = np.add.reduceat(np.square(x_D, dtype=np.float64), np.arange(0, d, self.block))
        chosen_K = top_k_index(square_B * (constant_B.min() / constant_B), self._kept(d))
        index_K = (chosen_K[:, None] * self.block + np.arange(self.block)).reshape(-1)
        index_K = index_K[index_K < d]
        if not self.damped:
            return Sparse(d, index_K, Dense(value_D[index_K]))
        factor_K = (constant_B.min() / constant_B)[index_K // self.block]
        return Sparse(d, index_K, Dense(cast(x_D[index_K] * factor_K)))

    def _constants(self, d: int) -> Vector:
        """L_b, float64 (B,).

        Raises:
            ConfigError: their number is not that of the blocks.
        """
        blocks = num_blocks(d, self.block)
        if not isinstance(self.lipschitz, tuple):
            return np.full(blocks, self.lipschitz, np.float64)
        if len(self.lipschitz) != blocks:
            raise ConfigError(
                f"greedy_blocks.lipschitz names {len(self.lipschitz)} constants, but d={d} with block={self.block} "
                f"makes {blocks} blocks; name one for each, or one number for all"
            )
        return np.array(self.lipschitz, np.float64)

    def _kept(self, d: int) -> int:
        """How many blocks."""
        return kept(self.k, self.fraction, num_blocks(d, self.block), "greedy_blocks")

    def bits(self, d: int) -> float:
        """As of so many coordinates anywhere; in runs, as these are, they take less."""
        return sparse_bits(d, self.num_kept(d)[1])

    def num_kept(self, d: int) -> tuple[float, int]:
        """How many coordinates travel: (in the mean, at most), counting whole blocks."""
        size = min(self._kept(d) * self.block, d)
        return float(size), size

    def alpha(self, d: int) -> float:
        if d == 0:
            return 1.0
        constant_B = self._constants(d)
        factor_B = constant_B.min() / constant_B if self.damped else np.ones(len(constant_B))
        part_B = np.sort(factor_B * (2.0 - factor_B) * constant_B)
        corner = float(part_B[: self._kept(d)].sum() / constant_B.sum())
        least = float(factor_B.min())
        return min(corner, least * (2.0 - least))
