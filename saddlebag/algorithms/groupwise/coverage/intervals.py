"""Intervals over a recorded stream: what was given out, what it missed, and how wide it was, group by group."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from saddlebag.algorithms.groupwise.base import Array
    from saddlebag.algorithms.groupwise.coverage.scores import Frame
    from saddlebag.algorithms.groupwise.coverage.thresholds import Thresholds, ThresholdState
    from saddlebag.algorithms.groupwise.losses import Interval

__all__ = ["Covered", "cover_recorded"]


@dataclasses.dataclass(frozen=True, eq=False)
class Covered:
    """Intervals of N rounds in S runs.

    Attributes:
        low_NSM, high_NSM: their ends, within the labels' interval if there is one.
        missed_NSM: whether the label lay outside.
        state: the thresholds' state at the end.

    Example:
        >>> from saddlebag.algorithms.groupwise import Thresholds
        >>> low_NSM = np.zeros((2, 1, 1))
        >>> covered = Covered(low_NSM, low_NSM + 0.5, low_NSM, Thresholds(targets=(0.9,)).init(1))
        >>> covered.widths(binary=False).ravel().tolist()
        [0.5, 0.5]
    """

    low_NSM: Array
    high_NSM: Array
    missed_NSM: Array
    state: ThresholdState

    def widths(self, *, binary: bool) -> Array:
        """Widths of intervals, 0 where they are empty; of labels 0 and 1, how many of the two they hold. Shape (N, S, M)."""
        if binary:
            held: Array = np.sum([(self.low_NSM <= y) & (y <= self.high_NSM) for y in (0.0, 1.0)], axis=0, dtype=np.float64)
            return held
        return np.maximum(self.high_NSM - self.low_NSM, 0.0)


def cover_recorded(rule: Thresholds, frame_NS: Frame, y_NS: Array, awake_NSG: Array, labels: Interval | None = None) -> Covered:
    """Give out intervals for N rounds, each from the rounds before it.

    Args:
        rule: of the thresholds.
        frame_NS: the rounds' frames, shapes (N, S, 1) or (N, S, M).
        y_NS: labels.
        awake_NSG: memberships in [0, 1].
        labels: where labels lie: intervals are cut to it, which loses none.

    Example:
        >>> from saddlebag.algorithms.groupwise import Thresholds
        >>> from saddlebag.algorithms.groupwise.coverage.scores import Frame
        >>> y_NS = np.random.default_rng(0).normal(size=(500, 1))
        >>> frame = Frame(np.zeros((500, 1, 1)), np.zeros((500, 1, 1)), np.ones((500, 1, 1)))  # |y - 0| is the score
        >>> run = cover_recorded(Thresholds(targets=(0.9,)), frame, y_NS, np.ones((500, 1, 1)))
        >>> abs(float(run.missed_NSM.mean()) - 0.1) < 0.05
        True
    """
    score_NSM = np.broadcast_to(frame_NS.scores(y_NS), (*y_NS.shape, len(rule.targets)))
    tau_NSM = np.empty(score_NSM.shape)
    state = rule.init(awake_NSG.shape[-1], y_NS.shape[1:])
    for t in range(len(y_NS)):
        tau_NSM[t] = rule.at(state, awake_NSG[t])
        state = rule.learn(state, tau_NSM[t], score_NSM[t], awake_NSG[t])
    low_NSM, high_NSM = frame_NS.interval(tau_NSM)
    if labels is not None:
        low_NSM, high_NSM = np.maximum(low_NSM, labels[0]), np.minimum(high_NSM, labels[1])
    return Covered(low_NSM, high_NSM, (score_NSM > tau_NSM).astype(np.float64), state)
