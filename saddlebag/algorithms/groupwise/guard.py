"""No state that is not finite is ever taken: an update that would make one is refused as a whole, by name.

One row of 1e308 with its label turns every model it touches into NaN, for ever and for everybody; comparisons with NaN are
false, so no alarm would see it. Losses are checked before anything is learned. A learner that is `Careful` says of a round
that it cannot leave the usual range; every other round is learned with a copy of what it touches at hand, which comes back
when the result is out of range.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast, runtime_checkable

import numpy as np

from saddlebag.algorithms.groupwise import weights
from saddlebag.algorithms.groupwise.base import copied
from saddlebag.errors import NotFiniteError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from saddlebag.algorithms.groupwise.base import AnyLearner, Array, Index
    from saddlebag.algorithms.groupwise.ledger import Outcome

__all__ = ["Careful"]

LARGEST = 1e100
"""Of any number in a state: its square, and sums of squares over any number of rounds, stay below float64's 1.8e308."""
_CURE = "scale the features and labels, or declare bounds (features.bound, label.interval)"

S = TypeVar("S")


@runtime_checkable
class Careful(Protocol):
    """A learner that knows, cheaply, which rounds cannot lead out of the usual range.

    Example:
        >>> import numpy as np
        >>> from saddlebag.algorithms.groupwise import Ridge
        >>> learner = Ridge(dimension=1)
        >>> isinstance(learner, Careful), learner.is_usual(np.ones(1), 1.0), learner.is_usual(np.array([1e200]), 1.0)
        (True, True, False)
    """

    def is_usual(self, x: Any, y: Any) -> bool:
        """Whether learning (x, y) keeps every number of any state below `LARGEST`; False when it does not know.

        It meets any numbers, and warns of none: `np.vdot` takes what is too large for a square to infinity without a word.
        """


def advance(learner: AnyLearner, state: Any, x: Any, y: Any, group_K: Index, weight_K: Array) -> None:
    """Learn a round in the memory of `state`, or leave it as it was.

    Raises:
        NotFiniteError: the round is not finite, or the state would not be, or exceed `LARGEST`.
        ConfigError: the learner takes whole members only.
    """
    if _is_usual(learner, x, y):
        weights.advance(learner, state, x, y, group_K, weight_K)
        return
    if not (_is_finite(x) and _is_finite(y)):
        raise NotFiniteError(f"a round must be finite, got label {y!r} and features {x!r}"[:200])
    before = {name: part.copy() for name, part, _ in _touched(state, group_K)}
    fine = False
    try:
        with np.errstate(all="ignore"), contextlib.suppress(np.linalg.LinAlgError):
            weights.advance(learner, state, x, y, group_K, weight_K)
            fine = all(_in_range(part) for _, part, _ in _touched(state, group_K))
    finally:
        if not fine:
            for name, _, place in _touched(state, group_K):
                getattr(state, name)[place] = before[name]
    if not fine:
        raise NotFiniteError(f"{type(learner).__name__} cannot learn a round of this size without losing its numbers; {_CURE}")


def updated(learner: AnyLearner, state: S, x: Any, y: Any, group_K: Index, weight_K: Array) -> S:
    """`advance` into a state of its own; the argument is left alone."""
    if not weights.are_whole(weight_K):
        after = copied(state)
        advance(learner, after, x, y, group_K, weight_K)
        return after
    if not (_is_finite(x) and _is_finite(y)):
        raise NotFiniteError(f"a round must be finite, got label {y!r} and features {x!r}"[:200])
    with np.errstate(all="ignore"):
        changed: S = learner.update(state, x, y, group_K)
    return checked(changed, state)


def _is_usual(learner: AnyLearner, x: Any, y: Any) -> bool:
    return _is_careful(type(learner)) and cast("Careful", learner).is_usual(x, y)


@functools.cache
def _is_careful(kind: type) -> bool:
    """Whether learners of this class are `Careful`; kept, for asking takes as long as a round of a small learner."""
    return issubclass(kind, Careful)


def _touched(state: Any, group_K: Index) -> Iterator[tuple[str, npt.NDArray[Any], Any]]:
    """The arrays that a round of these groups may change: their rows, or everything where groups share a buffer."""
    fields = dataclasses.fields(state)
    place: Any = group_K if all(field.metadata.get("grouped", True) for field in fields) else slice(None)
    for field in fields:
        value = getattr(state, field.name)
        if isinstance(value, np.ndarray):
            yield field.name, value[place], place


def checked(state: S, before: Any = None) -> S:
    """The state, after a look at its arrays; those that are still the ones of `before` are not looked at.

    Raises:
        NotFiniteError: one holds NaN, an infinity, or a number above `LARGEST`.
    """
    for name in _names(cast("type", type(state))):
        value = getattr(state, name)
        if isinstance(value, np.ndarray) and value is not getattr(before, name, None) and not _in_range(value):
            raise NotFiniteError(f"{type(state).__name__}.{name} would not be finite, so nothing was learned; {_CURE}")
    return state


@functools.cache
def _names(kind: type) -> tuple[str, ...]:
    """The fields of a class of states; kept, for every round asks."""
    return tuple(field.name for field in dataclasses.fields(kind))


def check_outcome(outcome: Outcome) -> None:
    """Look at a round's losses before anything is learned from them.

    Raises:
        NotFiniteError: one is NaN, an infinity, or above `LARGEST`.
    """
    worst = max(abs(outcome.played), abs(outcome.expected), outcome.largest)
    if not (worst <= LARGEST and _in_range(outcome.regret_E) and math.isfinite(outcome.played + outcome.expected)):
        raise NotFiniteError(f"a round's loss of {outcome.played:g} cannot be booked, so nothing was learned; {_CURE}")


def check_losses(loss: Array) -> None:
    """Look at recorded losses.

    Raises:
        NotFiniteError: one is NaN, an infinity, or above `LARGEST`.
    """
    if not _in_range(loss):
        raise NotFiniteError(f"a loss is not finite, or above {LARGEST:g}; {_CURE}")


def check_predictions(learner: AnyLearner, z: Array) -> None:
    """Look at learners' predictions before they are mixed.

    Raises:
        NotFiniteError: one is NaN or an infinity.
    """
    if not np.logical_and.reduce(np.isfinite(z), axis=None):
        raise NotFiniteError(f"a prediction of {type(learner).__name__} is not finite; {_CURE}")


def _in_range(value: npt.NDArray[Any]) -> bool:
    if value.dtype.kind != "f" or not value.size:
        return True
    if value.ndim == 1 and np.vdot(value, value) <= LARGEST:  # the usual case, in one pass and without a warning
        return True
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.abs(value).max() <= LARGEST)


def _is_finite(value: Any) -> bool:
    array = np.asarray(value)
    return array.dtype.kind not in "fc" or bool(np.isfinite(array).all())
