"""What a bandit over compressors has learnt, and which arm it plays next: the rules of `bandit.py`.

Shapes: A = arms.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from saddlebag.compression.stream import Purpose

if TYPE_CHECKING:
    from saddlebag.compression import Draws, Vector

Rule = Literal["thompson", "epsilon_greedy", "elimination"]

FORGET = 0.95  # of an arm's sums at its next play
_SURE = 2.0  # deviations of two means
_CAP = 3.0  # times the progress of a play that finer messages may make; measured are 2.6 at most (docs/methods.md)


@dataclasses.dataclass(frozen=True, eq=False)
class Play:
    """The inner method's replica `state`, the arm in play, and what is known of all of them.

    Attributes:
        arm, length: in play, and iterations of it so far.
        residual: the sum of |z+ - z|^2 / gamma^2 over its later half.
        bits: of it so far.
        before, started: log2 of the mean residual of the play before, and whether that was this arm's.
        count_A, sum_A, square_A, bits_A: forgetting sums of each arm's plays, their progress, its square, and their bits.
        open_A: 1 for an arm that may be chosen, 0 for one that dropped out.
    """

    state: Any
    arm: int
    length: int
    residual: float
    bits: float
    before: float
    started: bool
    count_A: Vector
    sum_A: Vector
    square_A: Vector
    bits_A: Vector
    open_A: Vector

    @property
    def z_D(self) -> Vector:
        """The iterate."""
        return cast("Vector", self.state.z_D)

    @property
    def iteration(self) -> int:
        """Completed iterations."""
        return int(self.state.iteration)


def untried(learnt: Play, declared_A: Vector) -> int | None:
    """The cheapest arm that is worth a trial; none where all such have been tried."""
    count_A, known_A = learnt.count_A, learnt.count_A > 0
    mean_A = np.where(known_A, learnt.sum_A / np.where(known_A, learnt.bits_A, 1.0), -np.inf)
    best, top = float(mean_A.max()), float((learnt.sum_A[known_A] / count_A[known_A]).max(initial=-np.inf))
    used = float(learnt.bits_A.sum() / (declared_A * count_A).sum()) if known_A.any() else 1.0  # of what is declared, a play
    hoped_A = np.where(known_A, mean_A + abs(best), _CAP * top / (used * declared_A))
    settled_A = count_A >= 1.0 + FORGET - 1e-9
    wanted_A = ~settled_A & ((hoped_A >= best) if best > 0.0 else np.full(len(count_A), True))
    return int(np.where(wanted_A, declared_A, np.inf).argmin()) if wanted_A.any() else None


def chosen(learnt: Play, declared_A: Vector, rule: Rule, epsilon: float, draws: Draws) -> Play:
    """With the arm of the coming play."""
    trial = untried(learnt, declared_A)
    if trial is not None:
        return dataclasses.replace(learnt, arm=trial)
    count_A, known_A = learnt.count_A, learnt.count_A > 0
    least_A, bits_A = np.where(known_A, count_A, 1.0), np.where(known_A, learnt.bits_A, 1.0)
    mean_A = np.where(known_A, learnt.sum_A / bits_A, -np.inf)
    left = float((learnt.square_A - learnt.sum_A**2 / least_A).sum())
    deviation = math.sqrt(max(left, 0.0) / max(float(count_A.sum()) - float(known_A.sum()), 1.0))
    error_A = deviation * np.sqrt(count_A) / bits_A  # of a mean of n plays of bits_A / n each
    if rule == "elimination":
        learnt = dataclasses.replace(learnt, open_A=np.where(known_A, learnt.open_A, 0.0))
        best = int(np.where(learnt.open_A > 0, mean_A, -np.inf).argmax())
        sure_A = mean_A[best] - mean_A > _SURE * np.sqrt(error_A**2 + error_A[best] ** 2)
        open_A = np.where(sure_A, 0.0, learnt.open_A)
        return dataclasses.replace(learnt, open_A=open_A, arm=int(np.where(open_A > 0, count_A, np.inf).argmin()))
    stream = draws.common(Purpose.ARM)
    if rule == "epsilon_greedy":
        coin, place = stream.uniforms(2)
        known = np.flatnonzero(known_A)
        arm = int(known[int(place * len(known))]) if coin < epsilon else int(mean_A.argmax())
        return dataclasses.replace(learnt, arm=arm)
    normal_A = stream.uniforms(12 * len(count_A)).reshape(-1, 12).sum(axis=1) - 6.0  # nearly; the same bits everywhere
    return dataclasses.replace(learnt, arm=int((mean_A + error_A * normal_A).argmax()))
