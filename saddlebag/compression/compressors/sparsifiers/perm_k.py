"""Perm-k: every coordinate of a common random permutation goes to one worker, so the mean of equal vectors is exact."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.compression.compressors.sparsifiers.rand_k import rand_k_at
from saddlebag.compression.payload import Dense, Seeded, Support, Vector, require_finite
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.compression.draws import Draws

__all__ = ["PermK"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PermK:
    """Q_m(x) = M / c times the coordinates that a common permutation deals to worker m, c workers holding each of them.

    With d >= M each coordinate has c = 1 owner, uniformly distributed, whether or not M divides d; with d < M each worker
    holds one coordinate, and c is M/d rounded down or up. The mean at a coordinate is the average over its owners, so

        E|mean Q_m(x_m)|^2 <= mean|x_m|^2,  with equality for d >= M;   E|mean Q_m(x_m) - xbar|^2 <= mean|x_m|^2 - |xbar|^2:

    the noise is the spread of the workers' vectors (`mean_noise` = (1, 1)), not omega / M of their size. Alone each Q_m is
    unbiased with omega = M - 1, or M mean(1/c) - 1 for d < M. Only for uplinks of exactly M workers.

    Source: Szlendak, Tyurin, Richtarik 2022, "Permutation compressors for provably faster distributed nonconvex
    optimization", Definitions 2 and 3. Differs: where M does not divide d, a common random shift of the
    workers' places keeps the owner uniform.

    Attributes:
        workers: M, from 1.

    Example:
        >>> from saddlebag.compression import PermK, Draws
        >>> compressor = PermK(workers=2)
        >>> compressor.mean_noise(4, 2)
        (1.0, 1.0)
    """

    workers: int

    reference = "Szlendak et al. 2022"

    def __post_init__(self) -> None:
        if not isinstance(self.workers, int | np.integer) or isinstance(self.workers, bool) or not 1 <= self.workers < 2**32:
            raise ConfigError(f"perm_k.workers must be a whole number from 1, got {self.workers!r}")

    @property
    def jointly(self) -> int:
        """The law is one of so many workers together: none may be missing, and a server alone cannot use it."""
        return self.workers

    def encode(self, x_D: Vector, draws: Draws) -> Seeded:
        """Compress worker `draws.worker`'s vector.

        Raises:
            ConfigError: the sender is none of the workers.
        """
        require_finite(x_D, "a compressor's input")  # entries that are not kept count too
        support = Support.share(len(x_D), self.workers, draws)
        index_K = support.index_K(draws)
        return Seeded(support, index_K, Dense(rand_k_at(x_D, index_K, self.workers / support.owners(draws))))

    def bits(self, d: int) -> float:
        return 32.0 * self.num_kept(d)[0]

    def num_kept(self, d: int) -> tuple[float, int]:
        """How many coordinates travel: (in the mean, at most)."""
        return max(min(d, 1.0), d / self.workers), -(-d // self.workers)

    def omega(self, d: int) -> float:
        if d >= self.workers:
            return self.workers - 1.0
        if d == 0:
            return 0.0
        fewer, extra = divmod(self.workers, d)
        return self.workers * ((d - extra) / fewer + extra / (fewer + 1)) / d - 1.0

    def mean_noise(self, d: int, num_workers: int) -> tuple[float, float]:
        """See `mean_noise` of the package."""
        del d
        if num_workers != self.workers:
            raise ConfigError(f"perm_k.workers is {self.workers}, but {num_workers} workers take part")
        return 1.0, 1.0
