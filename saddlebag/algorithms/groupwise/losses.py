"""Losses by name: value, slope in the prediction, and the constants that mixers need.

Shapes broadcast: one label against the predictions of K groups, or N of each.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Protocol

import numpy as np

from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.algorithms.groupwise.base import Array

__all__ = ["LOSSES", "AbsoluteLoss", "LinearLoss", "LogLoss", "Loss", "SquaredLoss"]

Interval = tuple[float, float]


class Loss(Protocol):
    """A loss l(z, y) of a prediction and a label, convex in z.

    Example:
        >>> loss: Loss = SquaredLoss()
        >>> (
        ...     float(loss.value(np.array(0.5), np.array(1.0))),
        ...     float(loss.slope(np.array(0.5), np.array(1.0))),
        ...     loss.range((0.0, 1.0)),
        ... )
        (0.25, -1.0, 1.0)
    """

    def value(self, z: Array, y: Array) -> Array:
        """l(z, y)."""

    def slope(self, z: Array, y: Array) -> Array:
        """A (sub)gradient in z."""

    def range(self, interval: Interval) -> float:
        """The largest loss when predictions and labels lie in the interval."""

    def exp_concavity(self, interval: Interval) -> float:
        """The largest eta with e^(-eta l(., y)) concave on the interval; 0 for none."""


def interval_width(interval: Interval) -> float:
    """The width of an interval.

    Raises:
        ConfigError: it is empty or not finite.
    """
    low, high = interval
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ConfigError(f"an interval is [low, high] with low < high, both finite, got {list(interval)}")
    return high - low


@dataclasses.dataclass(frozen=True)
class SquaredLoss:
    """(z - y)^2.

    Example:
        >>> loss = SquaredLoss()
        >>> loss.value(np.array([0.5, 2.0]), 1.0).tolist(), loss.range((0.0, 2.0))
        ([0.25, 1.0], 4.0)
    """

    def value(self, z: Array, y: Array) -> Array:
        return (z - y) ** 2

    def slope(self, z: Array, y: Array) -> Array:
        return 2.0 * (z - y)

    def range(self, interval: Interval) -> float:
        return interval_width(interval) ** 2

    def exp_concavity(self, interval: Interval) -> float:
        return 1.0 / (2.0 * interval_width(interval) ** 2)


@dataclasses.dataclass(frozen=True)
class AbsoluteLoss:
    """|z - y|.

    Example:
        >>> loss = AbsoluteLoss()
        >>> loss.value(np.array([0.5, 2.0]), 1.0).tolist(), loss.slope(np.array([0.5, 2.0]), 1.0).tolist()
        ([0.5, 1.0], [-1.0, 1.0])
    """

    def value(self, z: Array, y: Array) -> Array:
        return np.abs(z - y)

    def slope(self, z: Array, y: Array) -> Array:
        return np.sign(z - y)

    def range(self, interval: Interval) -> float:
        return interval_width(interval)

    def exp_concavity(self, interval: Interval) -> float:
        del interval
        return 0.0


@dataclasses.dataclass(frozen=True)
class LogLoss:
    """-ln z for y = 1, -ln(1 - z) for y = 0; z is a probability.

    Probabilities are kept in [floor, 1 - floor], so that the loss has a range.

    Example:
        >>> loss = LogLoss(floor=0.01)
        >>> loss.value(np.array([0.5, 0.0]), 1.0).round(2).tolist()  # a certain and wrong prediction costs -ln 0.01
        [0.69, 4.61]
    """

    floor: float = 1e-3

    def __post_init__(self) -> None:
        if not 0 < self.floor < 0.5:
            raise ConfigError(f"log loss: floor must lie in (0, 0.5), got {self.floor}")

    def value(self, z: Array, y: Array) -> Array:
        z = np.clip(z, self.floor, 1.0 - self.floor)
        return -(y * np.log(z) + (1.0 - y) * np.log1p(-z))

    def slope(self, z: Array, y: Array) -> Array:
        z = np.clip(z, self.floor, 1.0 - self.floor)
        return (z - y) / (z * (1.0 - z))

    def range(self, interval: Interval) -> float:
        del interval
        return -math.log(self.floor)

    def exp_concavity(self, interval: Interval) -> float:
        del interval
        return 1.0


@dataclasses.dataclass(frozen=True)
class LinearLoss:
    """z . y over the last axis: a decision (or a mixture of decisions, a flow) against a vector of costs.

    Example:
        >>> flow_E, cost_E = np.array([0.5, 0.5, 1.0]), np.array([2.0, 4.0, 1.0])
        >>> float(LinearLoss(largest=7.0).value(flow_E, cost_E))
        4.0
    """

    largest: float = 1.0
    """Largest |z . y| that occurs."""

    def value(self, z: Array, y: Array) -> Array:
        cost: Array = (z * y).sum(axis=-1)
        return cost

    def slope(self, z: Array, y: Array) -> Array:
        return np.broadcast_to(y, z.shape)

    def range(self, interval: Interval) -> float:
        del interval
        return self.largest

    def exp_concavity(self, interval: Interval) -> float:
        del interval
        return 0.0


LOSSES: dict[str, type[SquaredLoss] | type[AbsoluteLoss] | type[LogLoss] | type[LinearLoss]] = {
    "absolute": AbsoluteLoss,
    "linear": LinearLoss,
    "log": LogLoss,
    "squared": SquaredLoss,
}
