"""Lazy messages: the whole vector with probability r, else nothing."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

import numpy as np

from saddlebag.compression.payload import Dense, Sparse, Vector, require_finite
from saddlebag.compression.stream import Purpose
from saddlebag.compression.values import cast
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.compression.draws import Draws

__all__ = ["Bernoulli"]


def bernoulli_at(x_D: Vector, uniform: float, probability: float) -> Dense | Sparse:
    """X / r where u < r, else a message without coordinates."""
    if uniform < probability:
        with np.errstate(over="ignore"):  # `cast` refuses it
            return Dense(cast(np.divide(x_D, probability, dtype=np.float64)))
    return Sparse(len(x_D), np.empty(0, np.int64), Dense(np.empty(0, np.float32)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bernoulli:
    """Q(x) = x / r with probability r, else 0; omega = 1/r - 1, attained by every x.

    Source: Horvath, Kovalev, Mishchenko, Richtarik, Stich 2023,
    "Stochastic distributed learning with gradient quantization and double variance reduction", section 2.

    Attributes:
        probability: r, in (0, 1].
        coin: "own" for each worker, or "common", when all send in the same rounds.

    Example:
        >>> from saddlebag.compression import Bernoulli, Draws
        >>> compressor = Bernoulli(probability=0.5)
        >>> compressor.omega(4)
        1.0
    """

    probability: float
    coin: Literal["own", "common"] = "own"

    reference = "Horvath et al. 2023"

    def __post_init__(self) -> None:
        if not 0 < self.probability <= 1:
            raise ConfigError(f"bernoulli.probability must lie in (0, 1], got {self.probability}")
        if self.coin not in ("own", "common"):
            raise ConfigError(f"bernoulli.coin must be 'own' or 'common', got {self.coin!r}")

    @property
    def common_draws(self) -> bool:
        """Whether all workers of a round toss the same coin."""
        return self.coin == "common"

    def encode(self, x_D: Vector, draws: Draws) -> Dense | Sparse:
        require_finite(x_D, "a compressor's input")  # also when nothing is sent
        stream = draws.common(Purpose.SUPPORT) if self.common_draws else draws.own(Purpose.SUPPORT)
        return bernoulli_at(x_D, float(stream.uniforms(1)[0]), self.probability)

    def bits(self, d: int) -> float:
        return 32.0 * d * self.probability

    def omega(self, d: int) -> float:
        del d
        return 1.0 / self.probability - 1.0
