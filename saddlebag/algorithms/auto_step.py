"""`step_size = "auto"`: a step that every machine finds by itself from what all of them know, at no extra traffic.

A method tells, after an iteration, how far it is from the edge of stability: its *strain*, gamma |change of F| / |displacement|
scaled so that rotations become unstable at 1. Below the edge the strain r is well under 1, because the directions in which F
changes fastest have died out; beyond it those directions grow until they dominate and r tends to a value above 1, whatever the
problem, long before they are large beside the error. So one number steers the step:

    waiting     the first memories still fill, or the step is too large: it shrinks by a fifth an iteration, or more.
                A method whose memories fill from nothing stands still instead (`Strain.news`): before they have settled,
                what it would step along is mostly the error of its compressors
    searching   gamma jumps to where r would be half of the target, and grows by 10 % an iteration, until r exceeds the target
    tracking    gamma grows by 2 % an iteration while r is below the target (faster in a long calm, up to 10 %), and shrinks by
                (target / r)^2, at most by half, above it

An iteration in which nothing moved, or in which F did not change at all, shows nothing, and the step stays: compressed
messages of unlike workers may cancel to exactly 0. A step whose strain is beyond hope (4), or that is not finite, is not
taken: z stays, and what the round told of F is kept.

r^2 is a ratio of sums that forget 40 % at every iteration. Near the edge the step is now and then a little too large, which
excites the fast directions up to the size of the steps of the slow ones and lets them decay again.

The edges: extragradient gamma L = 1 and optimistic methods gamma L = 1 / sqrt(3) on rotations (for gradients of quadratics,
1 and 2/3); MASHA gamma Cq = sqrt(p), the shape of its theorem, confirmed by measurement within 10 % for Rand-k, natural and no
compression (docs/decisions/0010-auto-step.md). This is a rule that was measured, not one that is proven.

The step is part of the replica: it is in snapshots, checkpoints and digests, and a run with it is as reproducible as any.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from saddlebag.algorithms.methods.one_part import check_step
from saddlebag.algorithms.participation import Selective
from saddlebag.algorithms.wrapped import Wrapped
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.algorithms.base import Message, Operator, Problem, ReplicaState
    from saddlebag.compression import Draws, Mean, Vector

__all__ = ["AutoStep", "Pace", "Steerable", "StepSize", "Strain", "automatic", "optimistic_strain", "square"]

StepSize: TypeAlias = float | str | None
"""A number, "auto" or "auto from NUMBER" (with the first step), or None for the step of the theory."""

_FIRST_STEP = 1e-6  # without a known L: raised up to a hundredfold an iteration, so its scale costs a few iterations
_FIRST_FRACTION = 0.1  # of 1 / L, where L is known
_TARGET = 0.85  # strain, 1 at the edge; results hardly change from 0.75 to 0.9
_MEMORY = 0.6  # of the sums of an iteration in the next one
_GROWTH, _ACCELERATION, _MOST_GROWTH = 0.02, 0.005, 0.1  # of the step; the second is added for every iteration of calm
_JUMP, _LEAST_JUMP = 100.0, 1.1
_HOPELESS = 4.0  # strain beyond which not even filling memories excuse the step
_DOUBT = 0.8  # the factor while it is open whether the memories or the step are to blame
_SETTLED = 0.4  # news of a round beside all that is known, below which memories count as filled,
_SETTLED_ROUNDS = 2  # in so many rounds in a row,
_LONGEST_FILLING = 256  # or after so many iterations, when the news are noise that will not end
_WAITING, _SEARCHING, _TRACKING = range(3)
_NONE = -1.0


def square(x_D: Vector) -> float:
    """|x|^2 by numpy's pairwise sum, whose bits depend on neither threads nor BLAS: replicas must agree on it."""
    return float(np.square(x_D).sum())


@dataclasses.dataclass(frozen=True)
class Strain:
    """What one iteration shows: gamma sqrt(change / moved) = 1 at the edge of stability.

    Attributes:
        change: |change of F|^2, scaled by the method.
        moved: |displacement|^2 that caused it, or, with `early`, the one that will cause the next change.
        early: optimistic methods see F at the new point an iteration later.
        news: |what memories learnt of F|^2 beside the |F|^2 that the method steps along, for a method whose memories begin
            empty and are filled by compressed messages; None for others. It stands still until they have settled.
        patience: iterations, as multiples of an ordinary method's, after which a step shows its effect. Error memories pay
            their debts late: the sums remember longer and the step grows more slowly.
    """

    change: float
    moved: float
    early: bool = False
    patience: float = 1.0
    news: float | None = None

    @property
    def finite(self) -> bool:
        """Whether the round went nowhere without bound."""
        return math.isfinite(self.change) and math.isfinite(self.moved)


def optimistic_strain(before: ReplicaState, after: ReplicaState, change_D: Vector) -> Strain:
    """Of z+ = z - gamma (2 F - F_previous), whose edge on rotations is gamma L = 1 / sqrt(3)."""
    if before.iteration == 0:  # F_previous is not an operator value yet
        return Strain(0.0, square(after.z_D - before.z_D), early=True)
    return Strain(3.0 * square(change_D), square(after.z_D - before.z_D), early=True)


@dataclasses.dataclass(frozen=True, eq=False)
class Pace:
    """The state of the rule, which joins a method's replica.

    Attributes:
        step_size: gamma of the coming iteration.
        change, moved: the forgetting sums.
        pending: |displacement|^2 whose change of F is not known yet; negative when there is none.
        phase: waiting, searching or tracking.
        calm: iterations since the step shrank.
    """

    step_size: float
    change: float
    moved: float
    pending: float
    phase: int
    calm: int

    def learn(self, strain: Strain | None, *, iteration: int = _LONGEST_FILLING) -> Lesson:
        """What an iteration shows, given how many are complete: the fields after it, and whether its step is to be taken."""
        if strain is None:
            return Lesson(self._fields(), taken=True)
        if not strain.finite:
            return Lesson(self._fields(step_size=self.step_size / 2.0 or self.step_size, pending=_NONE, calm=0), taken=False)
        if strain.news is not None and self.phase == _WAITING and iteration < _LONGEST_FILLING:
            return self._fill(strain)
        new, pending = (self.pending, strain.moved) if strain.early else (strain.moved, _NONE)
        if new < 0:  # the first displacement
            return Lesson(self._fields(pending=pending), taken=True)
        if new == 0 or strain.change == 0:  # nothing moved, or compression hides the change
            return Lesson(self._fields(pending=pending), taken=True)
        memory = 1.0 - (1.0 - _MEMORY) / strain.patience
        change, moved = memory * self.change + strain.change, memory * self.moved + new
        r = self.step_size * math.sqrt(change / moved)
        factor, phase, calm = _next(r, self.phase, self.calm, strain.patience)
        step_size = self.step_size * factor
        taken = r < _HOPELESS
        return Lesson(
            self._fields(
                step_size=step_size if 0.0 < step_size < math.inf else self.step_size,
                change=change,
                moved=moved,
                pending=pending if taken else _NONE,
                phase=phase,
                calm=calm,
            ),
            taken,
        )

    def _fill(self, strain: Strain) -> Lesson:
        """Stand still until memories have settled, then make the first step."""
        assert strain.news is not None
        if strain.moved == 0:  # nothing is known yet, or nothing is left to do
            return Lesson(self._fields(), taken=False)
        calm = self.calm + 1 if strain.news < _SETTLED**2 else 0
        if calm < _SETTLED_ROUNDS:
            return Lesson(self._fields(calm=calm), taken=False)
        return Lesson(self._fields(phase=_SEARCHING, calm=0, pending=strain.moved), taken=True)

    def _fields(self, **changes: Any) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _NAMES} | changes


@dataclasses.dataclass(frozen=True)
class Lesson:
    """The fields of `Pace` after an iteration, and whether its step is taken."""

    pace: dict[str, Any]
    taken: bool


def _next(r: float, phase: int, calm: int, patience: float) -> tuple[float, int, int]:
    """The factor on the step, the next phase, and the iterations of calm."""
    if phase == _WAITING and r >= _TARGET:
        return min(_DOUBT, _HOPELESS / r), _WAITING, 0
    if phase != _TRACKING and r < _TARGET:
        return min(_JUMP, max(_LEAST_JUMP, _TARGET / (2.0 * r))), _SEARCHING, 0
    if r < _TARGET:
        growth = min(_MOST_GROWTH, _GROWTH + _ACCELERATION * calm)
        return 1.0 + growth / (patience * patience), _TRACKING, calm + 1
    ratio = _TARGET / r
    if phase == _SEARCHING and r >= _HOPELESS:  # a jump too far is taken back at once
        return max(1.0 / _JUMP, ratio), _TRACKING, 0
    return max(0.5, ratio * ratio), _TRACKING, 0


_NAMES = tuple(field.name for field in dataclasses.fields(Pace))


class Steerable(Protocol):
    """What a method adds so that its step can be steered, beside a field `step_size`; a frozen dataclass like every method."""

    paced_type: Any
    """Its replica joined with `Pace`."""

    def strain(self, before: Any, down: Message, after: Any) -> Strain | None:
        """What a round showed, given the replicas before and after it; None within an iteration."""

    def stay(self, before: Any, after: Any) -> Any:
        """The replica after a round whose step is not taken: what was learnt of F is kept, z stays."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AutoStep(Wrapped):
    """A method under the rule; itself a method.

    Attributes:
        method: a `Method` and `Steerable`, for which Python has no type; its own `step_size` is not used.
        first_step: gamma of the first iteration; any that is not far too large will do.
    """

    first_step: float = _FIRST_STEP

    replica_type = worker_type = server_type = Pace  # of the class; an instance has those of its method

    def __post_init__(self) -> None:
        check_step(self.first_step)
        object.__setattr__(self, "replica_type", self.method.paced_type)
        object.__setattr__(self, "worker_type", self.method.worker_type)
        object.__setattr__(self, "server_type", self.method.server_type)

    def at(self, replica: Pace) -> Any:
        """The method at the replica's step."""
        return dataclasses.replace(self.method, step_size=replica.step_size)

    def _joined(self, replica: Any, pace: dict[str, Any]) -> Any:
        fields = {field.name: getattr(replica, field.name) for field in dataclasses.fields(replica)}
        return self.method.paced_type(**(fields | pace))

    def init_replica(self, z_D: Vector) -> Any:
        start = (self.first_step, 0.0, 0.0, _NONE, _WAITING, 0)
        return self._joined(self.method.init_replica(z_D), dict(zip(_NAMES, start, strict=True)))

    def worker_step(self, replica: Any, own: Any, operator: Operator, draws: Draws) -> tuple[Any, Message]:
        done: tuple[Any, Message] = self.at(replica).worker_step(replica, own, operator, draws)
        return done

    def server_step(self, replica: Any, own: Any, means: tuple[Mean, ...], draws: Draws) -> tuple[Any, Message]:
        done: tuple[Any, Message] = self.at(replica).server_step(replica, own, means, draws)
        return done

    def replay(self, replica: Any, down: Message, draws: Draws) -> Any:
        method = self.at(replica)
        after = method.replay(replica, down, draws)
        strain = method.strain(replica, down, after)
        lesson = replica.learn(strain, iteration=replica.iteration)
        return self._joined(after if lesson.taken else method.stay(replica, after), lesson.pace)


class SelectiveAutoStep(AutoStep):
    """The same for a method in which workers may idle: what they miss includes the step."""

    @property
    def drifting(self) -> tuple[str, ...]:
        return (*self.method.drifting, *_NAMES)

    def select(self, replica: Any, draws: Draws, members: tuple[int, ...]) -> tuple[int, ...]:
        chosen: tuple[int, ...] = self.method.select(replica, draws, members)
        return chosen


def automatic(method: Any, step_size: str, problem: Problem) -> AutoStep:
    """A method under the rule, begun at the step that the text names, else at 0.1 / L where L is known.

    Raises:
        ConfigError: the text is neither "auto" nor "auto from NUMBER".
    """
    wrap = SelectiveAutoStep if isinstance(method, Selective) else AutoStep
    if step_size == "auto":
        known = problem.constants
        return wrap(method=method, first_step=_FIRST_STEP if known is None else _FIRST_FRACTION / known.lipschitz)
    word, _, number = step_size.rpartition(" ")
    try:
        first_step = float(number)
    except ValueError:
        first_step = math.nan
    if word != "auto from" or not 0 < first_step < math.inf:
        raise ConfigError(f"step_size must be a positive number, 'auto' or 'auto from NUMBER', got {step_size!r}")
    return wrap(method=method, first_step=first_step)
