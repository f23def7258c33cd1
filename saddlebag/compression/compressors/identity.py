"""No compression: every coordinate, in the type it travels in."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

import numpy as np

from saddlebag.compression.payload import Dense, Sparse, Vector
from saddlebag.compression.values import cast
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.compression.draws import Draws

__all__ = ["Identity"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Identity:
    """C(x) = x, rounded to `dtype`: omega = 0 and alpha = 1 up to that rounding.

    A vector with many zeros (the mean of a few sparse messages) travels as the coordinates that are not zero, where that
    is shorter.

    Example:
        >>> from saddlebag.compression import Identity, Draws
        >>> compressor = Identity()
        >>> compressor.encode(np.array([3.0, -1.0, 0.5, 0.0]), Draws(0, 0)).dense().tolist()
        [3.0, -1.0, 0.5, 0.0]
    """

    dtype: Literal["float32", "float64"] = "float32"

    reference = "exact"

    def __post_init__(self) -> None:
        if self.dtype not in ("float32", "float64"):
            raise ConfigError(f"identity.dtype must be 'float32' or 'float64', got {self.dtype!r}")

    def encode(self, x_D: Vector, draws: Draws) -> Dense | Sparse:
        del draws
        value_D = cast(x_D, np.float32 if self.dtype == "float32" else np.float64)
        d, count = len(value_D), int(np.count_nonzero(value_D))
        if 0 < count < d and 8 * count * value_D.itemsize + d + 64 < 8 * d * value_D.itemsize:
            index_K = np.flatnonzero(value_D)
            return Sparse(d, index_K, Dense(value_D[index_K]))
        return Dense(value_D)

    def bits(self, d: int) -> float:
        return d * (32.0 if self.dtype == "float32" else 64.0)

    def omega(self, d: int) -> float:
        del d
        return 0.0

    def alpha(self, d: int) -> float:
        del d
        return 1.0

    def part(self, here: slice, d: int) -> Identity:
        """Itself: it works coordinate by coordinate."""
        del here, d
        return self
