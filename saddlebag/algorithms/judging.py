"""When a run ends: limits, what they look at, and the judge that evaluates merits and decides."""

from __future__ import annotations

import dataclasses
import math
import numbers
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from saddlebag.algorithms.lean import StartsNarrow
from saddlebag.errors import ConfigError, NotFiniteError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from saddlebag.algorithms.base import Problem
    from saddlebag.compression import Vector

__all__ = ["DIVERGED", "ForeseesVerdicts", "Judge", "Spent", "Stop", "Verdict"]

DIVERGED = "diverged"
"""Why a run ended whose merit or messages grew without bound."""
_TOO_LARGE = 1e6  # times the merit at the start
_LARGE = 1 << 20  # coordinates from which a start in the type of networks is asked for where there is one
_EXACT = 2**53  # up to here every whole number is a float
_MOST = 2**63 - 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stop:
    """When a run ends.

    Attributes:
        merit: stop once the problem's first merit is at most this.
        max_rounds, max_iterations: stop after so many.
        max_bytes: stop once the encoded messages of a worker, both ways, are at least so many: the mean over the workers, which
            tables and plots show, too. The round in which that happens is complete, and counts.
        max_seconds: stop at the end of the round in which so many seconds are over, from the first message on and without what
            processes need to start; those before a resumption count as far as its checkpoint. Where a run ends then depends on
            the machine; every iterate until there does not.
        every: iterations between evaluations of the merit.

    At least one of the five limits is given.

    Example:
        >>> import saddlebag as sb
        >>> sb.Stop(merit=1e-6, max_rounds=1000, every=10)
        Stop(merit=1e-06, max_rounds=1000, max_iterations=None, max_bytes=None, max_seconds=None, every=10)
    """

    merit: float | None = None
    max_rounds: int | None = None
    max_iterations: int | None = None
    max_bytes: int | None = None
    max_seconds: float | None = None
    every: int = 1

    def __post_init__(self) -> None:
        if all(getattr(self, name) is None for name in LIMITS):
            raise ConfigError(f"stop needs one of {', '.join(LIMITS[:-1])} and {LIMITS[-1]}")
        for name in ("max_rounds", "max_iterations", "max_bytes", "every"):
            object.__setattr__(self, name, _whole(name, getattr(self, name)))
        for name in ("merit", "max_seconds"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, numbers.Real) and float(value) > 0):
                raise ConfigError(f"stop.{name} must be positive, got {value!r}")


def _whole(name: str, value: Any) -> int | None:
    """A limit as a whole number; 1e6 is one, as in recipes.

    Raises:
        ConfigError: it is none, or out of range.
    """
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise ConfigError(f"stop.{name} must be a whole number, got {value!r}")
    limit = int(value)
    if not 1 <= limit <= _MOST:
        raise ConfigError(f"stop.{name} must be at least 1{'' if limit < 1 else ' and below 2^63'}, got {limit}")
    return limit


LIMITS = ("merit", "max_rounds", "max_iterations", "max_bytes", "max_seconds")
"""The keys of `Stop` that can end a run."""


class Spent(NamedTuple):
    """What a run has cost at a round's end: encoded messages both ways, of all workers together, and seconds.

    Example:
        >>> Spent(num_bytes=2048, seconds=0.5).num_bytes
        2048
    """

    num_bytes: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The merits at a round boundary, if they were due, and why the run ends there, if it does.

    Example:
        >>> Verdict(None, None).reason is None  # nothing was due, and the run goes on
        True
    """

    merits: Mapping[str, float] | None
    reason: str | None


@runtime_checkable
class ForeseesVerdicts(Protocol):
    """A judge that may know before a round that its verdict will be one of nothing.

    Example:
        >>> from saddlebag.algorithms.problems import BilinearGame
        >>> judge = Judge(BilinearGame.build(None, n=2, num_workers=1, seed=0), Stop(max_rounds=3))
        >>> isinstance(judge, ForeseesVerdicts)
        True
    """

    def passes(self, rounds: int, before: Any, spent: Spent) -> bool:
        """Whether the last of `rounds` rounds, which begins at `before`, ends neither with an evaluation nor the run."""


def _start_of(problem: Problem) -> Vector:
    """Where it begins, in few bytes where there are many coordinates."""
    if isinstance(problem, StartsNarrow) and problem.dimension > _LARGE:
        return problem.start_narrow()
    return problem.start()


class Judge:
    """Evaluates merits when they are due and decides when a run ends: a function of (round, replica, what it has cost) alone.

    Merits are no part of the method: they are computed on the side and cost no counted traffic. `watch` is told the rounds,
    the replica and the verdict of every round, in whatever driver: for progress and pictures.

    Example:
        >>> from saddlebag.algorithms import Ogda
        >>> from saddlebag.algorithms.problems import BilinearGame
        >>> problem = BilinearGame.build(None, n=2, num_workers=1, seed=0)
        >>> judge, replica = Judge(problem, Stop(max_rounds=3)), Ogda(step_size=0.1).init_replica(problem.start())
        >>> [judge(rounds, replica, replica, Spent(0, 0.0)).reason for rounds in (2, 3)]
        [None, 'max_rounds']
    """

    def __init__(
        self,
        problem: Problem,
        stop: Stop,
        *,
        watch: Callable[[int, Any, Verdict], None] = lambda rounds, replica, verdict: None,
    ) -> None:
        self._problem, self._stop, self._watch = problem, stop, watch
        at_start = problem.merits(_start_of(problem))
        self._names = tuple(at_start)
        self._limit = _TOO_LARGE * (next(iter(at_start.values())) or 1.0)
        self._evaluated = -1

    def __call__(self, rounds: int, before: Any, after: Any, spent: Spent | None = None) -> Verdict:
        """The verdict after `rounds` rounds, the last of which took the replica from `before` to `after`.

        `spent` is what they have cost; only a stop without limits on that can do without it.
        """
        verdict = self._verdict(rounds, before, after, spent)
        if verdict.merits is not None:
            self._evaluated = rounds
        self._watch(rounds, after, verdict)
        return verdict

    def overflow(self, rounds: int, replica: Any) -> Verdict:
        """The verdict on a run whose next round cannot be sent: its last boundary's merits, unless they were told already.

        Merits that have no value there are NaN.
        """
        merits: Mapping[str, float] | None = None
        if self._evaluated != rounds:
            try:
                with np.errstate(over="ignore", invalid="ignore"):
                    merits = self._problem.merits(replica.z_D)
            except NotFiniteError:
                merits = dict.fromkeys(self._names, math.nan)
        verdict = Verdict(merits, DIVERGED)
        self._watch(rounds, replica, verdict)
        return verdict

    def passes(self, rounds: int, before: Any, spent: Spent | None = None) -> bool:
        """Whether the last of `rounds` rounds, which begins at `before`, will have a verdict of nothing, wherever it leads.

        No round takes the iteration further than by one.
        """
        iteration = before.iteration + 1
        return self._limit_reached(rounds, iteration, spent) is None and iteration % self._stop.every != 0

    def _limit_reached(self, rounds: int, iteration: int, spent: Spent | None) -> str | None:
        """The first limit that these have reached."""
        stop = self._stop
        reached: dict[str, float] = {"max_rounds": rounds, "max_iterations": iteration}
        if stop.max_bytes is not None or stop.max_seconds is not None:
            assert spent is not None, "a driver must tell what a run with such limits has cost"
            reached |= {"max_bytes": spent.num_bytes / self._problem.num_workers, "max_seconds": spent.seconds}
        limits = ((name, getattr(stop, name)) for name in reached)
        return next((name for name, limit in limits if limit is not None and reached[name] >= limit), None)

    def _verdict(self, rounds: int, before: Any, after: Any, spent: Spent | None) -> Verdict:
        stop = self._stop
        reason = self._limit_reached(rounds, after.iteration, spent)
        moved = after.iteration > before.iteration
        if reason is None and not (moved and after.iteration % stop.every == 0):
            return Verdict(None, None)
        merits = self._problem.merits(after.z_D)
        merit = next(iter(merits.values()))
        if stop.merit is not None and merit <= stop.merit:
            reason = "merit"
        elif not math.isfinite(merit) or merit > self._limit:
            reason = DIVERGED
        return Verdict(merits, reason)
