"""Grids that set themselves: how coarse, and with which scale, from what all machines know, at no extra traffic.

A `Grid` of step "auto" is set by the method, alike on every machine, by one number between 0 and 1 that is part of the replica:
how much *lag* the problem bears. What a grid does not send it sends later, so a memory h follows F with a delay, but for the
scale, which rounds up as much as it drops (`Grid.fit` takes that away again, and a dead zone drops more). Where F turns (a
rotation, a bilinear game), the extrapolated step makes up for half an iteration of delay and no more; where F pushes back (a
gradient, a game that is curved in both players), delay does little harm, and scales of least error and a dead zone save a third
of the bytes. Which of them it is shows in the angle between the news of F and the displacement that caused them:

    c = <h - h_before, z - z_before> / (|h - h_before| |z - z_before|),    0 for rotations, 1 for gradients of scaled squares

as a ratio of sums that forget a fifth at every iteration; compression's noise only makes it smaller. From a lag of 0 on, the
lag rises by a tenth an iteration while c is above `_PUSHES`, falls by a quarter while it is below `_TURNS`, and stays in
between. An iteration in which z stood still shows nothing.

How many bytes this takes is measured, not proven; that it converges is: at any lag the grids contract by the alpha of the
coarser end (`Limits.alpha`), and Theorem 1 of docs/theory/innovations.md asks no more.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.algorithms.base import square
from saddlebag.compression import Contractive, Grid

if TYPE_CHECKING:
    from saddlebag.compression import Compressor, Vector

_MEMORY = 0.8  # of the sums of an iteration in the next one
_PUSHES, _TURNS = 0.35, 0.12  # c above which lag is borne, and below which it is not
_MORE, _LESS = 0.1, 0.25  # of the lag an iteration


@dataclasses.dataclass(frozen=True)
class Limits:
    """The steps of one direction's grids at the two ends of the lag; the fit is the lag itself.

    Attributes:
        turning, pushing: `step` of `Grid`, at a lag of 0 and of 1.
        dead: of `Grid` at a lag of 1; 1/2 at a lag of 0.
    """

    turning: float
    pushing: float
    dead: float

    def at(self, lag: float, block: int | None) -> Grid:
        """The grid in between; a step in between is the finer one's, so that levels stay whole fractions of the largest."""
        step = self.turning if lag == 0.0 else min(self.turning, self.pushing)
        return Grid(step=step, block=block, fit=lag, dead=0.5 + lag * (self.dead - 0.5))

    def alpha(self, d: int, block: int | None) -> float:
        """The contraction of each of them: the wider the dead zone, the less."""
        return min(Grid(step=step, block=block, dead=self.dead).alpha(d) for step in (self.turning, self.pushing))


UP = Limits(1.0, 0.5, 0.65)
"""Workers' errors average out, so theirs may be the larger ones; where they lag they do not."""
UP_REST = Limits(1.0, 1.0, 0.5)
"""Of memories that need not follow what all have in common (`common_part.py`): lags of the rest do less harm."""
DOWN = Limits(0.5, 0.5, 0.65)


def sets_itself(compressor: Compressor) -> bool:
    """Whether a compressor is left to the method."""
    return isinstance(compressor, Grid) and compressor.step == "auto"


def setting(compressor: Compressor, limits: Limits, gauge: Gauge | None) -> Compressor:
    """The compressor of a round."""
    if gauge is None or not isinstance(compressor, Grid) or not sets_itself(compressor):
        return compressor
    return limits.at(gauge.lag, compressor.block)


def contraction(compressor: Compressor, limits: Limits, d: int) -> float:
    """The alpha that holds in every round, whatever a grid sets itself to."""
    if isinstance(compressor, Grid) and sets_itself(compressor):
        return limits.alpha(d, compressor.block)
    assert isinstance(compressor, Contractive)
    return compressor.alpha(d)


@dataclasses.dataclass(frozen=True, eq=False)
class Gauge:
    """What the replicas have seen of F's turning.

    Attributes:
        moved_D: the displacement of the iteration before.
        turn, change, moved: the forgetting sums <news, displacement>, |news|^2, |displacement|^2.
        lag: how much is borne, 0 to 1.
    """

    moved_D: Vector
    turn: float
    change: float
    moved: float
    lag: float

    @classmethod
    def new(cls, d: int) -> Gauge:
        """Nothing is known: no lag."""
        return cls(np.zeros(d), 0.0, 0.0, 0.0, 0.0)

    def after(self, news_D: Vector, moved_D: Vector) -> Gauge:
        """With the news that the displacement before has caused, and this iteration's displacement.

        Sums that overflow, as in a run that diverges, begin anew.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            caused, news = square(self.moved_D), square(news_D)
            turn = _MEMORY * self.turn + float(np.multiply(news_D, self.moved_D).sum())
        if not caused > 0.0:
            return dataclasses.replace(self, moved_D=moved_D)
        change, moved = _MEMORY * self.change + news, _MEMORY * self.moved + caused
        size = math.sqrt(change) * math.sqrt(moved)
        if not math.isfinite(turn) or not math.isfinite(size):
            return dataclasses.replace(Gauge.new(len(moved_D)), moved_D=moved_D)
        c = turn / size if size > 0.0 else 0.0
        lag = min(1.0, self.lag + _MORE) if c > _PUSHES else max(0.0, self.lag - _LESS) if c < _TURNS else self.lag
        return Gauge(moved_D, turn, change, moved, lag)
