"""Scaling an unbiased compressor makes it contractive."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.compression.base import Separable, Unbiased, jointly, kind_of
from saddlebag.compression.combinators.nested import Inner, as_compressor
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.compression.base import Compressor
    from saddlebag.compression.draws import Draws
    from saddlebag.compression.payload import Payload, Vector

__all__ = ["scaled"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scaled:
    """Q(x / (1 + omega)); see `scaled`."""

    unbiased: Unbiased

    reference = "Beznosikov et al. 2023"

    @property
    def jointly(self) -> int:
        """Of how many workers together the law of Q is; 0 for a law of each alone."""
        return jointly(self.unbiased)

    def encode(self, x_D: Vector, draws: Draws) -> Payload:
        factor = 1.0 / (1.0 + self.unbiased.omega(len(x_D)))
        return self.unbiased.encode(np.multiply(x_D, factor, dtype=np.float64), draws)

    def bits(self, d: int) -> float:
        return self.unbiased.bits(d)

    def alpha(self, d: int) -> float:
        return 1.0 / (1.0 + self.unbiased.omega(d))

    def part(self, here: slice, d: int) -> Compressor | None:
        """That of Q, where the factor is the same."""
        inner = self.unbiased.part(here, d) if isinstance(self.unbiased, Separable) else None
        same = isinstance(inner, Unbiased) and inner.omega(here.stop - here.start) == self.unbiased.omega(d)
        return Scaled(unbiased=inner) if same and isinstance(inner, Unbiased) else None


def scaled(*, unbiased: Inner) -> Scaled:
    """C(x) = Q(x / q), q = 1 + omega: contractive with alpha = 1/q, so that Q enters methods for contractive compressors.

    E|Q(c x) - x|^2 <= (1 - 2 c + c^2 q)|x|^2, smallest at c = 1/q. The input is scaled, not the payload, whose values may know
    powers of two only. Source: Beznosikov, Horvath, Richtarik, Safaryan 2023, "On biased compression for distributed
    learning", section 2.

    Args:
        unbiased: Q, such as natural or rand_k; or a table that names it.

    Raises:
        ConfigError: Q is not unbiased.

    Example:
        >>> scaled(unbiased={"name": "rand_k", "k": 25}).alpha(100)
        0.25
    """
    compressor = as_compressor(unbiased, "scaled.unbiased")
    if not isinstance(compressor, Unbiased):
        raise ConfigError(f"scaled.unbiased must be unbiased, got {compressor} ({kind_of(compressor)})")
    return Scaled(unbiased=compressor)
