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
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast, runtime_checkable

from saddlebag.algorithms.base import check_step, square
from saddlebag.algorithms.participation import Selective
from saddlebag.algorithms.wrapped import Wrapped
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.algorithms.base import Message, Problem, ReplicaState
    from saddlebag.compression import Draws, Vector

__all__ = ["Steerable"]

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
    """The state of the rule.

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
        """What an iteration shows, given how many are complete: the pace after it, and whether its step is to be taken."""
        if strain is None:
            return Lesson(self, taken=True)
        if not strain.finite:
            halved = dataclasses.replace(self, step_size=self.step_size / 2.0 or self.step_size, pending=_NONE, calm=0)
            return Lesson(halved, taken=False)
        if strain.news is not None and self.phase == _WAITING and iteration < _LONGEST_FILLING:
            return self._fill(strain)
        new, pending = (self.pending, strain.moved) if strain.early else (strain.moved, _NONE)
        if new < 0:  # the first displacement
            return Lesson(dataclasses.replace(self, pending=pending), taken=True)
        if new == 0 or strain.change == 0:  # nothing moved, or compression hides the change
            return Lesson(dataclasses.replace(self, pending=pending), taken=True)
        memory = 1.0 - (1.0 - _MEMORY) / strain.patience
        change, moved = memory * self.change + strain.change, memory * self.moved + new
        r = self.step_size * math.sqrt(change / moved)
        factor, phase, calm = _next(r, self.phase, self.calm, strain.patience)
        step_size = self.step_size * factor
        taken = r < _HOPELESS
        step_size = step_size if 0.0 < step_size < math.inf else self.step_size
        return Lesson(Pace(step_size, change, moved, pending if taken else _NONE, phase, calm), taken)

    def _fill(self, strain: Strain) -> Lesson:
        """Stand still until memories have settled, then make the first step."""
        assert strain.news is not None
        if strain.moved == 0:  # nothing is known yet, or nothing is left to do
            return Lesson(self, taken=False)
        calm = self.calm + 1 if strain.news < _SETTLED**2 else 0
        if calm < _SETTLED_ROUNDS:
            return Lesson(dataclasses.replace(self, calm=calm), taken=False)
        return Lesson(dataclasses.replace(self, phase=_SEARCHING, calm=0, pending=strain.moved), taken=True)


@dataclasses.dataclass(frozen=True)
class Lesson:
    """The pace after an iteration, and whether its step is taken."""

    pace: Pace
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


@dataclasses.dataclass(frozen=True, eq=False)
class Paced:
    """A method's replica, and the pace of its steps."""

    state: Any
    pace: Pace

    @property
    def z_D(self) -> Vector:
        """The iterate."""
        return cast("Vector", self.state.z_D)

    @property
    def step_size(self) -> float:
        """Gamma of the coming iteration."""
        return self.pace.step_size

    @property
    def iteration(self) -> int:
        """Completed iterations."""
        return int(self.state.iteration)


@runtime_checkable
class Steerable(Protocol):
    """A method whose step can be steered by `step_size = "auto"`; that step is its field `step_size`.

    Example:
        >>> from saddlebag.algorithms import Ogda
        >>> isinstance(Ogda(step_size=0.1), Steerable)
        True
    """

    def strain(self, before: Any, down: Message, after: Any) -> Strain | None:
        """What a round showed, given the replicas before and after it; None within an iteration."""

    def stay(self, before: Any, after: Any) -> Any:
        """The replica after a round whose step is not taken: what was learnt of F is kept, z stays."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AutoStep(Wrapped):
    """A method under the rule; itself a method.

    Attributes:
        method: a `Method` that is `Steerable`; its own `step_size` is not used.
        first_step: gamma of the first iteration; any that is not far too large will do.
    """

    first_step: float = _FIRST_STEP

    def __post_init__(self) -> None:
        check_step(self.first_step)

    def _at(self, replica: Paced) -> Any:
        """The method at the replica's step."""
        method: Any = self.method  # a dataclass that is steerable, for which Python has no type
        return dataclasses.replace(method, step_size=replica.pace.step_size)

    def _inner(self, replica: Paced) -> Any:
        return replica.state

    def init_replica(self, z_D: Vector) -> Paced:
        return Paced(self.method.init_replica(z_D), Pace(self.first_step, 0.0, 0.0, _NONE, _WAITING, 0))

    def replay(self, replica: Paced, down: Message, draws: Draws) -> Paced:
        method, before = self._at(replica), replica.state
        after = method.replay(before, down, draws)
        lesson = replica.pace.learn(method.strain(before, down, after), iteration=replica.iteration)
        return Paced(after if lesson.taken else method.stay(before, after), lesson.pace)


class SelectiveAutoStep(AutoStep):
    """The same for a method in which workers may idle: what they miss includes the step."""

    @property
    def drifting(self) -> tuple[str, ...]:
        assert isinstance(self.method, Selective)
        names = (f"pace.{field.name}" for field in dataclasses.fields(Pace))
        return (*(f"state.{name}" for name in self.method.drifting), *names)

    def select(self, replica: Paced, draws: Draws, members: tuple[int, ...]) -> tuple[int, ...]:
        assert isinstance(self.method, Selective)
        return self.method.select(replica.state, draws, members)


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
