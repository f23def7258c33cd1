"""Induced compressor: a contractive one, and an unbiased one for what it leaves; the sum is unbiased."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.compression.base import Contractive, Unbiased, jointly, kind_of, mean_noise
from saddlebag.compression.combinators.nested import Inner, as_compressor, independent_draws
from saddlebag.compression.payload import Concat, Payload, Seeded, Total
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.compression.draws import Draws
    from saddlebag.compression.payload import Vector

__all__ = ["induced"]

_CONTRACTIVE = 2  # the number of the contractive part's own draws


def _is_seeded(payload: Payload) -> bool:
    return isinstance(payload, Seeded) or (isinstance(payload, Concat | Total) and any(map(_is_seeded, payload.parts)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Induced:
    """C(x) + Q(x - C(x)); see `induced`."""

    contractive: Contractive
    unbiased: Unbiased

    reference = "Horvath and Richtarik 2021"

    @property
    def jointly(self) -> int:
        """Of how many workers together the law of Q is; 0 for a law of each alone."""
        return jointly(self.unbiased)

    def encode(self, x_D: Vector, draws: Draws) -> Total:
        first = self.contractive.encode(x_D, independent_draws(draws, _CONTRACTIVE))
        if _is_seeded(first):
            raise ConfigError(f"induced.contractive must not draw its coordinates from a seed, {self.contractive} does")
        rest_D = np.subtract(x_D, first.dense(), dtype=np.float64)
        return Total((first, self.unbiased.encode(rest_D, draws)))

    def bits(self, d: int) -> float:
        return self.contractive.bits(d) + self.unbiased.bits(d)

    def omega(self, d: int) -> float:
        return self.unbiased.omega(d) * (1.0 - self.contractive.alpha(d))

    def mean_noise(self, d: int, num_workers: int) -> tuple[float, float]:
        """Those of Q at the rests r_m: mean|r_m|^2 <= (1 - alpha) mean|x_m|^2, and |mean r_m|^2 is no more."""
        a, b = mean_noise(self.unbiased, d, num_workers)
        return (a + max(0.0, -b)) * (1.0 - self.contractive.alpha(d)), 0.0


def induced(*, contractive: Inner, unbiased: Inner) -> Induced:
    """C(x) + Q(x - C(x)): unbiased with omega = omega_Q (1 - alpha_C), so that Top-k enters methods for unbiased compressors.

    Source: Horvath and Richtarik 2021, "A better alternative to error feedback for communication-efficient distributed
    learning", Theorem 3. C draws bits of its own, so Q is unbiased for each outcome of C. Both parts travel.

    Args:
        contractive: C, such as top_k; or a table that names it.
        unbiased: Q, such as natural or rand_k; or a table that names it.

    Raises:
        ConfigError: the kinds are not these.

    Example:
        >>> induced(contractive={"name": "top_k", "k": 25}, unbiased={"name": "rand_k", "k": 25}).omega(100)
        2.25
    """
    first, second = as_compressor(contractive, "induced.contractive"), as_compressor(unbiased, "induced.unbiased")
    if not isinstance(first, Contractive):
        raise ConfigError(f"induced.contractive must be contractive, got {first} ({kind_of(first)})")
    if not isinstance(second, Unbiased):
        raise ConfigError(f"induced.unbiased must be unbiased, got {second} ({kind_of(second)})")
    return Induced(contractive=first, unbiased=second)
