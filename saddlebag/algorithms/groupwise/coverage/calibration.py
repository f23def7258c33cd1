"""Probabilities that are calibrated for every group at every level, online, on top of any prediction.

A cell is a group and a level, a bin of the base prediction b. What is given out corrects b by what its cells have missed:

    p = b + step sum_g I_g V_g,level, cut to [0, 1],        V_g,level = sum over the cell's rounds of I_g (y - p).

The **identity** is exact for every cell, on any data, for late labels and for sums over machines: the mean of y - p in a cell
is V / T. Whatever the base: since (y - p)(p - b) <= (y - b)^2 / 4, and a cut only lowers the left side,

    |V|^2  <=  room  =  sum (y - p)^2 |I|^2 + (1 / (2 step)) sum (y - b)^2,

where each label is known before the next prediction. So every cell's calibration error is at most sqrt(room) / T_cell: order
sqrt(T) / T_cell, and the smaller, the better the base.

Differs from multicalibration (Hebert-Johnson, Kim, Reingold, Rothblum 2018; online: Gupta, Jung, Noarov, Pai, Roth 2022):
levels are those of the base and not of p, so nothing need be drawn at random, and p follows the base between levels. Levels
of p are measured, not proven. The online rule of 2022, which is proven for them, was tried: it lost 12 % more on the census.

A server with a share of the groups says for every level what its cells correct there (`notes`); the parts add up, and who knows
the whole prediction takes the sum at its level (`corrected`). `room` is over the groups of one server.

Shapes: G = groups, B = bins; N = rounds.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms.groupwise.base import check_positive
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from saddlebag.algorithms.groupwise.base import Array

__all__ = ["Calibration", "calibrate_recorded", "calibration_cells"]

_EDGE = 1e-9  # a probability this close below a boundary counts as on it: 0.3 * 10 is 3.0000000000000004 or 2.9999999999999996
_MOST = 10_000  # levels: each has a correction of its own for every group


@dataclasses.dataclass(frozen=True, eq=False)
class CalibrationState:
    """Sums over the rounds so far.

    Attributes:
        excess_GB: V of each cell, sum of I (y - p).
        count_GB: sum of I.
        room: the proven bound on the sum of all V^2; an array without axes.
    """

    excess_GB: Array
    count_GB: Array
    room: Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibration:
    """The rule.

    Attributes:
        bins: levels of equal width.
        step: of the correction; small ones are slow, large ones noisy. 0.003 to 0.01 do much the same on the census.

    Example:
        >>> rule = Calibration(bins=10, step=0.1)
        >>> state, one = rule.init(1), np.ones(1)
        >>> for _ in range(8):
        ...     state = rule.learn(state, 0.33, rule.play(state, 0.33, one), 1.0, one)
        >>> round(rule.play(state, 0.33, one), 3)
        0.712
    """

    bins: int = 10
    step: float = 0.005

    def __post_init__(self) -> None:
        if not 1 <= self.bins <= _MOST:
            raise ConfigError(f"bins must lie in [1, {_MOST:,}], got {self.bins}")
        check_positive("step", self.step)

    def init(self, num_groups: int) -> CalibrationState:
        zero_GB = np.zeros((num_groups, self.bins))
        return CalibrationState(zero_GB, zero_GB, np.zeros(()))

    def level(self, base: float) -> int:
        """The bin of a base prediction; a boundary belongs to the bin above it."""
        return min(max(int(base * self.bins + _EDGE), 0), self.bins - 1)

    def play(self, state: CalibrationState, base: float, awake_G: Array) -> float:
        """The probability that is given out for a base prediction."""
        moved = self.step * float(np.asarray(awake_G, np.float64) @ state.excess_GB[:, self.level(base)])
        return min(max(base + moved, 0.0), 1.0)

    def play_rows(self, state: CalibrationState, base_N: Array, awake_NG: Any) -> Array:
        """`play` for rows with the same state, up to rounding."""
        excess_GN = state.excess_GB[:, [self.level(base) for base in base_N.tolist()]]
        moved_N = self.step * np.einsum("ng,gn->n", np.asarray(awake_NG, np.float64), excess_GN)
        p_N: Array = np.clip(base_N + moved_N, 0.0, 1.0)
        return p_N

    def notes(self, state: CalibrationState, awake_NG: Any) -> Array:
        """How far the cells of these groups move rows at each level; those of shares of the groups add up. Shape (N, B)."""
        moved_NB: Array = self.step * (np.asarray(awake_NG, np.float64) @ state.excess_GB)
        return moved_NB

    def learn(self, state: CalibrationState, base: float, p: float, y: float, awake_G: Array) -> CalibrationState:
        """The state after the label of a prediction, from the numbers as they were given out."""
        return self.merge(state, self.sums(len(state.excess_GB), base, p, y, awake_G))

    def sums(self, num_groups: int, base: float, p: float, y: float, awake_G: Array) -> dict[str, Array]:
        """What a round adds; those of several rounds, or machines, add up."""
        awake_G = np.asarray(awake_G, np.float64)
        excess_GB, count_GB = np.zeros((num_groups, self.bins)), np.zeros((num_groups, self.bins))
        excess_GB[:, self.level(base)], count_GB[:, self.level(base)] = awake_G * (y - p), awake_G
        room = (y - p) ** 2 * float(awake_G @ awake_G) + (y - base) ** 2 / (2.0 * self.step)
        return {"excess_GB": excess_GB, "count_GB": count_GB, "room": np.asarray(room)}

    def sums_of_rows(self, state: CalibrationState, base_N: Array, y_N: Array, awake_NG: Array) -> dict[str, Array]:
        """The sums of N rows, all corrected from one frozen state; zeros for none."""
        excess_GB = state.excess_GB
        total = {"excess_GB": np.zeros(excess_GB.shape), "count_GB": np.zeros(excess_GB.shape), "room": np.zeros(())}
        p_N = self.play_rows(state, base_N, awake_NG)
        for base, p, y, awake_G in zip(base_N.tolist(), p_N.tolist(), y_N.tolist(), awake_NG, strict=True):
            for name, value in self.sums(len(excess_GB), base, p, y, awake_G).items():
                total[name] = total[name] + value
        return total

    def merge(self, state: CalibrationState, sums: Mapping[str, Array]) -> CalibrationState:
        """The state after sums of rounds."""
        return CalibrationState(*(getattr(state, name) + sums[name] for name in ("excess_GB", "count_GB", "room")))

    def grow(self, state: CalibrationState, extra: int) -> CalibrationState:
        """The state with more groups at its end."""
        zero_GB = np.zeros((extra, self.bins))
        excess_GB, count_GB = (np.concatenate((part, zero_GB)) for part in (state.excess_GB, state.count_GB))
        return CalibrationState(excess_GB, count_GB, state.room)

    def error(self, state: CalibrationState) -> Array:
        """The mean of y - p in each cell: the identity; shape (G, B), 0 for cells without rounds."""
        error_GB: Array = state.excess_GB / np.where(state.count_GB > 0, state.count_GB, 1.0)
        return error_GB

    def bound(self, state: CalibrationState) -> Array:
        """The proven bound on |error|, for labels that come before the next prediction; at most 1. Shape (G, B)."""
        bound_GB: Array = np.minimum(np.sqrt(state.room) / np.where(state.count_GB > 0, state.count_GB, np.inf), 1.0)
        return bound_GB


def corrected(base_N: Array, note_NB: Array) -> Array:
    """Probabilities of the whole, from the notes of all shares of the groups, added up.

    Args:
        base_N: what all shares predict together, in [0, 1].
        note_NB: the sum of what `Calibration.notes` gave on each share.

    Example:
        >>> corrected(np.array([0.2, 0.9]), np.array([[0.1, 0.0], [0.0, -0.2]])).round(3).tolist()
        [0.3, 0.7]
    """
    rule = Calibration(bins=note_NB.shape[1])
    level_N = [rule.level(base) for base in base_N.tolist()]
    p_N: Array = np.clip(base_N + note_NB[np.arange(len(base_N)), level_N], 0.0, 1.0)
    return p_N


def calibrate_recorded(rule: Calibration, base_N: Array, y_N: Array, awake_NG: Array) -> tuple[Array, CalibrationState]:
    """Correct recorded predictions, each by the rounds before it; returns what is given out, and the state at the end.

    Example:
        >>> base_N, y_N = np.full(400, 0.9), np.tile([1.0, 0.0], 200)  # 9 of 10 are promised, and every second comes
        >>> p_N, _ = calibrate_recorded(Calibration(), base_N, y_N, np.ones((400, 1)))
        >>> bool(abs(p_N[-100:].mean() - 0.5) < 0.1)
        True
    """
    state, p_N = rule.init(awake_NG.shape[1]), np.empty(len(base_N))
    for t, (base, y) in enumerate(zip(base_N.tolist(), y_N.tolist(), strict=True)):
        p_N[t] = p = rule.play(state, base, awake_NG[t])
        state = rule.learn(state, base, p, y, awake_NG[t])
    return p_N, state


def calibration_cells(p_N: Array, y_N: Array, awake_NG: Array, bins: int) -> tuple[Array, Array, Array]:
    """Per group and level of p: rounds, and sums of p and of y; each of shape (G, B).

    Example:
        >>> rounds_GB, p_GB, y_GB = calibration_cells(np.array([0.1, 0.9, 0.8]), np.array([0.0, 1.0, 0.0]), np.ones((3, 1)), 2)
        >>> rounds_GB.tolist(), y_GB.tolist()  # one round below a half, two above, of which one was 1
        ([[1.0, 2.0]], [[0.0, 1.0]])
    """
    level_N = np.clip((p_N * bins + _EDGE).astype(int), 0, bins - 1)
    member_NB = np.eye(bins)[level_N]
    rounds_GB, p_GB, y_GB = (awake_NG.T @ (member_NB * value_N[:, None]) for value_N in (np.ones(len(p_N)), p_N, y_N))
    return rounds_GB, p_GB, y_GB
