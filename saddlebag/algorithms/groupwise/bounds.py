"""Bounds of features: what a learner is shown, and what is refused or clipped.

In least squares a row R times as large as the usual ones weighs as much as R^2 of them, and it takes as many rounds until
its direction is learned again: after one row of 1e10 among numbers in [0, 1] a service predicts 0 for ever. So features are
bounded before a learner sees them: by a number that the recipe declares, or by what a table shows.

    a recorded table       1,000 times the median size of the feature's values other than 0 (or 1,000, if that is more)
    a service with a table 10 times the largest size in the table: such a row weighs at most 100 of the largest
    a service without one  1e4: with a penalty of 1 float64 still tells rows of size 1 beside it, 1e8 times lighter, to 8 digits

Shapes: N = rows, D = features.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Literal

import numpy as np

from saddlebag.errors import ConfigError, check_choice

if TYPE_CHECKING:
    from saddlebag.algorithms.groupwise.base import Array

__all__ = ["FeatureBounds", "service_bounds", "table_bounds"]

_Outside = Literal["clip", "refuse"]
_UNKNOWN = 1e4
"""The bound of a feature of which nothing is known."""
_TABLE, _SERVICE = 1000.0, 10.0
_MOST = 1e50  # a declared bound; products of three such numbers are finite


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureBounds:
    """How large each feature may be.

    Attributes:
        limit: of |x_j|; one number for each feature, or one for all.
        outside: "refuse" what exceeds it, or "clip" it; NaN and infinities are refused always.

    Example:
        >>> bounds = FeatureBounds(limit=(1.0, 10.0), outside="clip")
        >>> bounds.taken(np.array([[0.5, 99.0]]))
        array([[ 0.5, 10. ]])
    """

    limit: tuple[float, ...] = (_UNKNOWN,)
    outside: _Outside = "refuse"

    def __post_init__(self) -> None:
        check_choice("features.outside", self.outside, ("clip", "refuse"))
        if not all(0.0 < limit <= _MOST for limit in self.limit):
            raise ConfigError(f"features.bound must be a positive number of at most {_MOST:g}, got {self.limit}")

    def wrong(self, x_ND: Array) -> tuple[int, int, float] | None:
        """Row, feature and limit of the first entry that is refused; None if there is none."""
        if np.vdot(x_ND, x_ND) <= self._square:  # the usual case, in one pass
            return None
        size_ND = np.abs(x_ND)
        fine_ND = size_ND <= self._limit_D if self.outside == "refuse" else np.isfinite(size_ND)
        if np.logical_and.reduce(fine_ND, axis=None):
            return None
        row, column = np.argwhere(~fine_ND)[0].tolist()
        return row, column, float(np.broadcast_to(self._limit_D, x_ND.shape[1:])[column])

    @functools.cached_property
    def _square(self) -> float:
        """Of a sum of squares, up to which no entry is refused."""
        return min(self.limit) ** 2 if self.outside == "refuse" else _MOST

    @functools.cached_property
    def _limit_D(self) -> Array:
        """The limits, as rows are compared with them."""
        return np.array(self.limit)

    def taken(self, x_ND: Array) -> Array:
        """The rows as a learner sees them; `wrong` has found nothing in them."""
        return np.clip(x_ND, -self._limit_D, self._limit_D) if self.outside == "clip" else x_ND


def table_bounds(x_ND: Array, declared: float, outside: _Outside) -> FeatureBounds:
    """Bounds of a recorded table: what is declared, or (for 0) learned from the table itself.

    A median is moved by a few rows only a little, however large they are, so that it can judge them.

    Example:
        >>> table_bounds(np.array([[0.5, 20.0], [0.7, 40.0]]), 0.0, "refuse").limit
        (1000.0, 30000.0)
    """
    if declared:
        return FeatureBounds(limit=(declared,), outside=outside)
    typical_D = [_median(np.abs(column_N)) for column_N in x_ND.T]
    return FeatureBounds(limit=tuple(min(_MOST, _TABLE * max(1.0, typical)) for typical in typical_D), outside=outside)


def _median(size_N: Array) -> float:
    """Of the finite entries that are not 0; 0 for none."""
    kept_N = size_N[(size_N > 0) & np.isfinite(size_N)]
    return float(np.median(kept_N)) if len(kept_N) else 0.0


def service_bounds(x_ND: Array, declared: float, outside: _Outside) -> FeatureBounds:
    """Bounds of a service whose features are those of a table: what is declared, or (for 0) learned from the table.

    Example:
        >>> service_bounds(np.array([[0.5, 20.0], [0.7, -40.0]]), 0.0, "clip").limit
        (7.0, 400.0)
    """
    if declared:
        return FeatureBounds(limit=(declared,), outside=outside)
    largest_D = np.abs(x_ND).max(axis=0)
    limit_D = _SERVICE * np.where(largest_D > 0, largest_D, 1.0)
    return FeatureBounds(limit=tuple(np.minimum(limit_D, _MOST).tolist()), outside=outside)
