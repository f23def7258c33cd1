"""One grid for all workers of a round, agreed beforehand from what all know: their levels are whole numbers that add up.

A quantiser's scale follows the vector that it rounds: every worker has its own, and only sums of decoded values say something.
Here all workers of a round have one scale, a power of 2, that everybody knows at the end of the round before. The downlink does
not tell how large the workers' vectors are (they may cancel in the mean), so each adds two whole numbers to its uplink: whether
an entry lay beyond the grid, and whether all lay within its inner quarter. Where anybody's lay beyond, the scale doubles; where
everybody's lay within, it halves: one more number in the downlink.

An entry beyond the grid is sent as L levels; what that leaves is owed like every other rounding, so this is for error feedback.
A grid is no contractive compressor (a vector far outside stays nearly whole, one below half a level vanishes), and nothing is
claimed of it but that sent + owed is what was computed. With a power of 2 all sums of values are exact, in any order: the sum
of levels says the same, to the last bit.

With a `clip` the levels have a Euclidean norm of at most so much, which is what noise for privacy is measured by, and the scale
stays as it is: what it follows from would tell of single workers. What the clip cuts off is not owed, else it would be owed for
ever; what rounding leaves is, and moves no later message beyond the clip.

Shapes: D = coordinates.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from saddlebag.algorithms.base import square
from saddlebag.algorithms.wrapped import unwrapped
from saddlebag.compression import Levels, NearestInt4, NearestInt8
from saddlebag.compression.payload import require_finite
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from typing import Any

    from saddlebag.algorithms.base import AnyMethod
    from saddlebag.compression import Compressor, Draws, Payload, Vector

__all__ = ["SharesGrid"]

_LEAST, _MOST = 2.0**-100, 2.0**100  # scales that are normal numbers of float32, and so are their multiples
_INNER = 0.25
_SHORTER = 0.98


@runtime_checkable
class SharesGrid(Protocol):
    """A method whose workers may round to one grid.

    Example:
        >>> class OfItsOwn:
        ...     def common_grid(self, replica):
        ...         return None
        >>> isinstance(OfItsOwn(), SharesGrid)
        True
    """

    def common_grid(self, replica: Any) -> CommonGrid | None:
        """Of the round that begins at this replica; None where its parameters leave every worker its own scales.

        The first part of an uplink is on it, the others are whole numbers of magnitude at most L. With a clip there are
        no others.
        """


@dataclasses.dataclass(frozen=True, kw_only=True)
class CommonGrid:
    """C(x) = scale clip(rint(x / scale), -L, L); a compressor, but of no kind that has a law.

    Attributes:
        largest_level: L, 7 or 127.
        scale: a power of 2.
        clip: the largest norm of the levels; infinite for none.

    Example:
        >>> from saddlebag.compression import Draws
        >>> grid = CommonGrid.reaching(1.0, NearestInt4())
        >>> grid.scale, grid.encode(np.array([0.6, -0.1, 9.0]), Draws(0, 0)).dense().tolist()
        (0.25, [0.5, 0.0, 1.75])
    """

    largest_level: int
    scale: float
    clip: float = math.inf

    @classmethod
    def reaching(cls, range_: float, up: Compressor, clip: float = math.inf) -> CommonGrid:
        """The finest grid with the levels of `up` that reaches this far."""
        assert isinstance(up, NearestInt4 | NearestInt8)
        mantissa, exponent = math.frexp(range_ / up.largest_level)
        return cls.of(up, math.ldexp(1.0, exponent - (mantissa == 0.5)), clip)

    @classmethod
    def of(cls, up: Compressor, scale: float, clip: float = math.inf) -> CommonGrid:
        """The grid with the levels of `up` and this scale."""
        assert isinstance(up, NearestInt4 | NearestInt8)
        return cls(largest_level=up.largest_level, scale=scale, clip=clip)

    def encode(self, x_D: Vector, draws: Draws) -> Levels:
        """The levels of a vector, under one scale."""
        del draws
        require_finite(x_D, "a compressor's input")
        level_D, factor = self._rounded(x_D), 1.0
        while square(level_D) > self.clip**2:  # rounding may lengthen what was short enough; whole numbers, so this is exact
            factor *= _SHORTER
            level_D = self._rounded(x_D * factor)
        return Levels(level_D.astype(np.int8), np.full(min(1, len(x_D)), self.scale, np.float32), max(1, len(x_D)))

    def _rounded(self, x_D: Vector) -> Vector:
        level_D: Vector = np.rint(x_D / self.scale)
        return np.clip(level_D, -self.largest_level, self.largest_level, out=level_D)

    def clipped(self, x_D: Vector) -> Vector:
        """The vector, of a norm of at most `clip` levels."""
        norm, most = square(x_D) ** 0.5, self.clip * self.scale
        return x_D * (most / norm) if norm > most else x_D

    def bits(self, d: int) -> float:
        """The most it can be: levels are coded by their frequencies."""
        return d * math.log2(2 * self.largest_level + 1) + 32.0

    def fits(self, x_D: Vector) -> Levels:
        """Two whole numbers: whether an entry lies beyond the grid, and whether all lie within its inner quarter."""
        peak = float(np.abs(x_D).max(initial=0.0)) / self.scale
        return _whole(peak > self.largest_level + 0.5, peak < _INNER * self.largest_level)

    @staticmethod
    def move(mean: Vector) -> Levels:
        """One whole number, from the mean of what `fits` says: 1 for a coarser grid, -1 for a finer one."""
        return _whole(1 if mean[0] > 0 else -1 if mean[1] == 1 else 0)


def next_scale(scale: float, move: Payload) -> float:
    """The scale of the next round's grid."""
    factor = 2.0 ** int(np.clip(move.dense()[0], -1, 1))
    return min(max(scale * factor, _LEAST), _MOST)


def require_common(up: Compressor, range_: float, memory: str) -> None:
    """Raise `ConfigError` unless an optimizer with this uplink can have one grid for all workers."""
    if not _LEAST <= range_ <= _MOST:
        raise ConfigError(f"common_range must lie in [2^-100, 2^100], or be 0, got {range_}")
    if not isinstance(up, NearestInt4 | NearestInt8):
        raise ConfigError(f"common_range needs up = 'nearest_int4' or 'nearest_int8', whose levels it rounds to, got {up}")
    if memory != "feedback":
        raise ConfigError(f"common_range needs memory = 'feedback', which owes what the grid cuts off, got {memory!r}")


def require_shared(method: AnyMethod, replica: Any, asked: str = "server.secure") -> CommonGrid:
    """The grid of the round that begins at a replica; raises `ConfigError` where the method has none, and it is `asked` for."""
    inner: object = unwrapped(method)
    grid = inner.common_grid(replica) if isinstance(inner, SharesGrid) else None
    if grid is None:
        raise ConfigError(
            f"{asked} cannot be kept by {type(inner).__name__}: its workers' uplinks are no whole numbers on one grid; "
            "use compressed_sgd, compressed_adamw or a like one, up = 'nearest_int8' or 'nearest_int4', and common_range"
        )
    return grid


def _whole(*numbers: int) -> Levels:
    return Levels(np.array(numbers, np.int8), np.ones(1, np.float32), len(numbers))
