"""Sparsification by a threshold: a given one (hard threshold), or one that a sample of the vector suggests."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.compression.compressors.quantisers.rounding import piecewise
from saddlebag.compression.draws import uniform_subset
from saddlebag.compression.payload import Dense, Index, Sparse, Vector, require_finite
from saddlebag.compression.stream import Purpose
from saddlebag.compression.values import cast, check_kept, kept, sparse_bits
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.compression.draws import Draws

__all__ = ["HardThreshold", "SampledTopK"]


def _at_least(x_D: Vector, threshold: float) -> Index:
    """The coordinates of magnitude `threshold` or more that are not zero, in order."""
    found = []
    for where in piecewise(len(x_D)):
        magnitude = np.abs(x_D[where])
        mask = magnitude >= threshold if threshold > 0 else magnitude > 0
        found.append(np.flatnonzero(mask) + where.start)
    return np.concatenate(found) if found else np.empty(0, np.int64)


def _sparse(x_D: Vector, index_K: Index) -> Sparse:
    return Sparse(len(x_D), index_K, Dense(cast(x_D[index_K])))


@dataclasses.dataclass(frozen=True, kw_only=True)
class HardThreshold:
    """C(x) = the entries of magnitude t or more: |C(x) - x|^2 <= d t^2 whatever x, an absolute error.

    Source: Sahu et al. 2021, "Rethinking gradient sparsification as total error minimization". It is not
    contractive: a vector below the threshold vanishes whole. Methods that are proved for contractive compressors refuse it;
    it serves error feedback of one's own (`feed_back`), whose memory stays below sqrt(d) t.

    Attributes:
        threshold: t, positive, in the units of the vector.

    Example:
        >>> from saddlebag.compression import HardThreshold, Draws
        >>> compressor = HardThreshold(threshold=0.7)
        >>> compressor.encode(np.array([3.0, -1.0, 0.5, 0.0]), Draws(0, 0)).dense().tolist()
        [3.0, -1.0, 0.0, 0.0]
    """

    threshold: float

    reference = "Sahu et al. 2021"

    def __post_init__(self) -> None:
        if not 0 < self.threshold < math.inf:
            raise ConfigError(f"hard_threshold.threshold must be positive and finite, got {self.threshold}")

    def encode(self, x_D: Vector, draws: Draws) -> Sparse:
        del draws
        require_finite(x_D, "a compressor's input")
        return _sparse(x_D, _at_least(x_D, self.threshold))

    def bits(self, d: int) -> float:
        """The most it can be, all d values: how many pass depends on the vector."""
        return 32.0 * d

    def absolute_error(self, d: int) -> float:
        return math.sqrt(d) * self.threshold

    def part(self, here: slice, d: int) -> HardThreshold:
        """Itself: it works coordinate by coordinate."""
        del here, d
        return self


def sampled_top_k_at(x_D: Vector, sample_M: Index, rank: int) -> Index:
    """The coordinates whose magnitude reaches the rank-th largest of those at `sample_M`; all non-zero ones if M < rank."""
    if rank > len(sample_M) or not len(sample_M):
        return _at_least(x_D, 0.0)
    magnitude_M = np.abs(x_D[sample_M])
    return _at_least(x_D, float(np.partition(magnitude_M, len(magnitude_M) - rank)[len(magnitude_M) - rank]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampledTopK:
    """C(x) = the entries that reach the j-th largest magnitude of m sampled ones; contractive with alpha >= k/d in the mean.

    The j-th largest of a uniform sample of m has rank j (d + 1) / (m + 1) among all d in the mean, and C keeps at least so
    many of the largest entries; each kept count K loses at most (1 - K/d)|x|^2. With j = ceil(k (m + 1) / (d + 1)) therefore
    alpha = min(1, j (d + 1) / ((m + 1) d)) >= k/d. Equal magnitudes pass together, so a vector of ties is sent whole, and
    no message is bounded below d values.

    Source of the idea: Lin, Han, Mao, Wang, Dally 2018, "Deep gradient compression"; the constant is proved here.

    Attributes:
        k, fraction: how many coordinates are kept in the mean; exactly one is given.
        sample: m, how many magnitudes are looked at.

    Example:
        >>> from saddlebag.compression import SampledTopK, Draws
        >>> compressor = SampledTopK(fraction=0.25)
        >>> compressor.alpha(4)
        0.25
    """

    k: int | None = None
    fraction: float | None = None
    sample: int = 16384

    reference = "Lin et al. 2018"

    def __post_init__(self) -> None:
        check_kept(self.k, self.fraction, "sampled_top_k")
        if not isinstance(self.sample, int | np.integer) or isinstance(self.sample, bool) or self.sample < 1:
            raise ConfigError(f"sampled_top_k.sample must be a whole number of at least 1, got {self.sample!r}")

    def encode(self, x_D: Vector, draws: Draws) -> Sparse:
        require_finite(x_D, "a compressor's input")
        size, rank = self._sample(len(x_D))
        sample_M = uniform_subset(draws.own(Purpose.SAMPLE), len(x_D), size)
        return _sparse(x_D, sampled_top_k_at(x_D, sample_M, rank))

    def _sample(self, d: int) -> tuple[int, int]:
        """(m, j)."""
        size, k = min(d, self.sample), kept(self.k, self.fraction, d, "sampled_top_k")
        return size, -(-k * (size + 1) // (d + 1))

    def _kept(self, d: int) -> float:
        size, rank = self._sample(d)
        return min(float(d), rank * (d + 1) / (size + 1))

    def bits(self, d: int) -> float:
        """For the mean number of kept entries, of different magnitudes."""
        return sparse_bits(d, self._kept(d))

    def num_kept(self, d: int) -> tuple[float, int]:
        """How many coordinates travel: (in the mean, at most)."""
        return self._kept(d), d

    def alpha(self, d: int) -> float:
        return self._kept(d) / d if d else 1.0
