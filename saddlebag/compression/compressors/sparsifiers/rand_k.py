"""Rand-k: k coordinates chosen at random; both ends draw the same support, so only the values travel."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

import numpy as np

from saddlebag.compression.payload import Dense, Index, Scheme, Scope, Seeded, Support, Vector, require_finite
from saddlebag.compression.values import cast, check_kept, kept
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.compression.draws import Draws

__all__ = ["RandK", "UnscaledRandK"]

_SCOPES = {"own": Scope.OWN, "common": Scope.COMMON}
_SCHEMES = {"subset": Scheme.SUBSET, "strata": Scheme.STRATA}


def rand_k_at(x_D: Vector, index_K: Index, scale: float | Vector) -> Vector:
    """The kept values, float32 (K,): the map without the draw, so that tests can enumerate the draws.

    Scaled in float64 whatever the type of `x_D`, and rounded once.

    Raises:
        NotFiniteError: a kept value overflows float32.
    """
    with np.errstate(over="ignore"):  # `cast` refuses it
        return cast(np.multiply(x_D[index_K], scale, dtype=np.float64))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Sparsifier:
    """k of d coordinates by a shared seed.

    Attributes:
        k, fraction: how many coordinates are kept; exactly one is given.
        support: "own" draws a support for each worker, "common" one for all workers of a round.
        draw: "subset" draws a uniform subset; "strata" one coordinate of each of k runs of consecutive coordinates, for a tenth
            of the time and with the same constant, for only the chance of each single coordinate enters it.
    """

    k: int | None = None
    fraction: float | None = None
    support: Literal["own", "common"] = "own"
    draw: Literal["subset", "strata"] = "subset"

    reference = "Beznosikov et al. 2022"

    def __post_init__(self) -> None:
        check_kept(self.k, self.fraction, "rand_k")
        if self.support not in _SCOPES:
            raise ConfigError(f"rand_k.support must be 'own' or 'common', got {self.support!r}")
        if self.draw not in _SCHEMES:
            raise ConfigError(f"rand_k.draw must be 'subset' or 'strata', got {self.draw!r}")

    @property
    def common_draws(self) -> bool:
        """Whether all workers of a round draw the same support."""
        return self.support == "common"

    def _encode(self, x_D: Vector, draws: Draws, *, scaled: bool) -> Seeded:
        require_finite(x_D, "a compressor's input")  # entries that are not kept count too
        d = len(x_D)
        support = Support(d, kept(self.k, self.fraction, d, "rand_k"), _SCOPES[self.support], _SCHEMES[self.draw])
        index_K = support.index_K(draws)
        scale = self._scale(d, support.size) if scaled else 1.0
        return Seeded(support, index_K, Dense(rand_k_at(x_D, index_K, scale)))

    def _scale(self, d: int, k: int) -> float | Vector:
        """1 / (probability of each kept coordinate): d/k, or the length of its stratum."""
        if d == 0:
            return 1.0
        if self.draw == "subset" or d % k == 0:
            return d / k
        return np.diff(np.arange(k + 1, dtype=np.int64) * d // k).astype(np.float64)

    def bits(self, d: int) -> float:
        return 32.0 * kept(self.k, self.fraction, d, "rand_k")

    def num_kept(self, d: int) -> tuple[float, int]:
        """How many coordinates travel: (in the mean, at most)."""
        k = kept(self.k, self.fraction, d, "rand_k")
        return float(k), k

    def _largest_scale(self, d: int) -> float:
        k = kept(self.k, self.fraction, d, "rand_k")
        if d == 0:
            return 1.0
        return d / k if self.draw == "subset" else float(-(-d // k))


class RandK(_Sparsifier):
    """Q(x) = k coordinates chosen at random, each divided by its probability; omega = d/k - 1, attained by every x.

    Strata have ceil(d/k) or floor(d/k) coordinates: omega = ceil(d/k) - 1. Source: Beznosikov et al. 2022, section 2; for
    strata proved here: E|Q(x) - x|^2 is the sum of (length of i's stratum - 1) x_i^2.

    Example:
        >>> from saddlebag.compression import RandK, Draws
        >>> compressor = RandK(k=1)
        >>> compressor.omega(4)
        3.0
    """

    def encode(self, x_D: Vector, draws: Draws) -> Seeded:
        return self._encode(x_D, draws, scaled=True)

    def omega(self, d: int) -> float:
        return self._largest_scale(d) - 1.0


class UnscaledRandK(_Sparsifier):
    """C(x) = k coordinates chosen at random; contractive with alpha = k/d, attained by every x; 1 / ceil(d/k) with strata.

    Example:
        >>> from saddlebag.compression import UnscaledRandK, Draws
        >>> compressor = UnscaledRandK(k=1)
        >>> compressor.alpha(4)
        0.25
    """

    def encode(self, x_D: Vector, draws: Draws) -> Seeded:
        return self._encode(x_D, draws, scaled=False)

    def alpha(self, d: int) -> float:
        return 1.0 / self._largest_scale(d)
