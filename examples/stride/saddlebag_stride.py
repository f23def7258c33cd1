"""A compressor in a package of its own: every s-th coordinate, from a random first one.

Installed beside Saddlebag (`pip install examples/stride`) it is known to recipes and commands by the name that
`pyproject.toml` gives it. Saddlebag's registry, schema, server and client do not change.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.compression import Dense, Purpose, Sparse, require_finite
from saddlebag.errors import ConfigError, NotFiniteError

if TYPE_CHECKING:
    from saddlebag.compression import Draws, Vector


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stride:
    """Q(x) = s times every s-th coordinate, the first one uniform in 0 to s - 1: unbiased with omega = s - 1 exactly.

    Attributes:
        stride: s, at least 1.
    """

    stride: int

    reference = "an example"
    examples = ({"stride": 100}, {"stride": 10}, {"stride": 1000})  # for `saddlebag list` and plots

    def __post_init__(self) -> None:
        if not isinstance(self.stride, int) or self.stride < 1:
            raise ConfigError(f"stride.stride must be a whole number of at least 1, got {self.stride!r}")

    def encode(self, x_D: Vector, draws: Draws) -> Sparse:
        require_finite(x_D, "a compressor's input")
        first = int(draws.own(Purpose.SUPPORT).below(self.stride, 1)[0])
        index_K = np.arange(first, len(x_D), self.stride)
        with np.errstate(over="ignore"):
            value_K = (x_D[index_K].astype(np.float64) * self.stride).astype(np.float32)
        if not np.isfinite(value_K).all():
            raise NotFiniteError("a kept value overflows float32")
        return Sparse(len(x_D), index_K, Dense(value_K))

    def bits(self, d: int) -> float:
        return 32.0 * d / self.stride

    def omega(self, d: int) -> float:
        del d
        return self.stride - 1.0
