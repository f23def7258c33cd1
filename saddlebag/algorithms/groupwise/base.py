"""The contracts of groupwise learning: learners batched over groups, and mixers of sleeping experts.

A *learner* holds one online model for each group, all in one state of stacked arrays; a round touches the models of the
active groups only. A *mixer* weighs experts that may sleep. Everything both know of a round is what the round shows:
no learner sees a weight, no mixer sees a context.

Shapes: D = features, G = groups, K = active groups of a round, E = experts (the groups, and what is added to them),
N = rounds of a block. A leading `...` in a mixer's arrays is any batch of independent runs.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.compression import Draws

__all__ = [
    "AnyLearner",
    "AnyMixer",
    "Learner",
    "LearnerDefaults",
    "Mixer",
    "MixerDefaults",
    "PredictsUnweighted",
    "Sums",
    "add_sums",
]

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
Sums = Mapping[str, Array]
"""What a frozen block leaves of itself: named arrays over (G, ...), which add up over shards of the block."""

S = TypeVar("S")


class Learner(Protocol[S]):
    """One online model for each group, batched; a frozen dataclass whose fields are the hyper-parameters.

    States are frozen dataclasses of arrays whose first axis is the group. `check_learner` is the law.

    Example:
        >>> from saddlebag.algorithms.groupwise import Ridge
        >>> from saddlebag.compression import Draws
        >>> learner: Learner = Ridge(dimension=1)
        >>> groups = np.array([0])
        >>> state = learner.update(learner.init(2), np.ones(1), 1.0, groups)
        >>> learner.predict(state, np.ones(1), groups, Draws(0, 1)).tolist()
        [0.5]
    """

    def init(self, num_groups: int) -> S:
        """The state before the first round."""

    def predict(self, state: S, x: Any, group_K: Index, draws: Draws) -> Array:
        """The predictions of the groups `group_K` (int64, ascending, no repeats), shape (K, ...); others are not called.

        Randomised learners draw from `draws`, which is fresh in every round; the groups' draws are independent.
        """

    def update(self, state: S, x: Any, y: Any, group_K: Index) -> S:
        """The state after the groups `group_K` have learned (x, y); the argument is left alone."""

    def advance(self, state: S, x: Any, y: Any, group_K: Index) -> None:
        """`update` in the memory of `state`: equal bits, and the rows of sleeping groups are not written."""

    def sums(self, state: S, x_N: Any, y_N: Any, member_NG: npt.NDArray[np.bool_]) -> Sums:
        """What a block of rounds teaches, with the state frozen: sums over its rounds, group by group."""

    def merge(self, state: S, sums: Sums) -> S:
        """The state after a frozen block; sums of several workers are added first (`add_sums`)."""

    def grow(self, state: S, extra: int) -> S:
        """The state with `extra` more groups at its end, which have learned nothing yet."""


class Mixer(Protocol[S]):
    """A rule that weighs sleeping experts by their regrets; a frozen dataclass whose fields are its parameters.

    A round is: weights p from `log_weights` (see `distribution`); a reference loss c from `reference`; regrets
    r_e = I_e (c - l_e), 0 for sleepers; `absorb`. States are small and never changed in place. When state is frozen for
    blocks of rounds, a rule absorbs the sums of a block's regrets; its parameters then know the longest block.

    Example:
        >>> from saddlebag.algorithms.groupwise import AdaNormalHedge
        >>> mixer: Mixer = AdaNormalHedge()
        >>> state = mixer.absorb(mixer.init(np.full(2, 0.5)), np.array([0.5, -0.5]))
        >>> bool(np.diff(mixer.log_weights(state))[0] < 0)  # who did better has more weight
        True
    """

    def init(self, prior_E: Array) -> S:
        """The state before the first round; the prior is positive and need not sum to 1. Shape (..., E)."""

    def log_weights(self, state: S) -> Array:
        """Logarithms of unnormalised weights, the prior included; -inf for none. Shape (..., E)."""

    def reference(self, weight_E: Array, loss_E: Array, played: Any) -> Any:
        """The loss that experts are compared with, given p, the losses, and the loss of what was played. Shape (...)."""

    def absorb(self, state: S, regret_E: Array) -> S:
        """The state after a round with these regrets, in the units of the loss."""

    def grow(self, state: S, prior_E: Array) -> S:
        """The state with more experts at its end, with the given prior mass."""

    def regret(self, state: S) -> Array:
        """What the rule has summed up for each expert: sum of r_e. Shape (..., E)."""

    def bound(self, state: S) -> Array:
        """The proven bound on `regret`, from what was observed. Shape (..., E)."""

    def slack(self, state: S) -> Array:
        """The logarithm of the rule's invariant, at most 0 (to rounding) while losses stay in range. Shape (..., E)."""


AnyLearner = Learner[Any]
AnyMixer = Mixer[Any]


class LearnerDefaults:
    """`update` by way of `advance`, for learners that write the latter.

    Example:
        >>> class Counts(LearnerDefaults):
        ...     def advance(self, state, x, y, group_K):
        ...         state[group_K] += 1
        >>> before = np.zeros(2)
        >>> after = Counts().update(before, None, 0.0, np.array([1]))
        >>> before.tolist(), after.tolist()
        ([0.0, 0.0], [0.0, 1.0])
    """

    def advance(self, state: Any, x: Any, y: Any, group_K: Index) -> None:
        raise NotImplementedError(f"{type(self).__name__} must define advance")

    def update(self, state: S, x: Any, y: Any, group_K: Index) -> S:
        after = copied(state)
        self.advance(after, x, y, group_K)
        return after


class PredictsUnweighted:
    """For learners that say so of themselves: what the round will count does not change the prediction.

    Example:
        >>> from saddlebag.algorithms.groupwise import Gradient, PredictsUnweighted
        >>> issubclass(Gradient, PredictsUnweighted)
        True
    """

    def predict_weighted(self: AnyLearner, state: Any, x: Any, group_K: Index, weight_K: Array, draws: Draws) -> Array:
        """`predict`."""
        del weight_K
        return self.predict(state, x, group_K, draws)


class MixerDefaults:
    """Experts that are compared with what was played, for mixers whose proof asks for no other reference.

    Example:
        >>> class Even(MixerDefaults):
        ...     def init(self, prior_E):
        ...         return prior_E
        >>> Even().init(np.full(2, 0.5)).tolist()
        [0.5, 0.5]
    """

    def reference(self, weight_E: Array, loss_E: Array, played: Any) -> Any:
        """The loss of what was played."""
        del weight_E, loss_E
        return played


def check_positive(name: str, value: float) -> None:
    """Raise `ConfigError` unless the value is a positive finite number."""
    if not (value > 0 and math.isfinite(value)):
        raise ConfigError(f"{name} must be a positive number, got {value}")


def copied(state: S) -> S:
    """A state with memory of its own."""
    return copy.deepcopy(state)


def joined(state: S, extra: S, axis: int) -> S:
    """Two states whose fields are all arrays, side by side along the axis of groups or experts."""
    names = [field.name for field in dataclasses.fields(state)]  # type: ignore[arg-type]
    return type(state)(*(np.concatenate((getattr(state, name), getattr(extra, name)), axis) for name in names))


def add_sums(first: Sums, second: Sums) -> dict[str, Array]:
    """The sums of two parts of a block as those of the whole.

    Raises:
        ConfigError: they name different arrays, or arrays of different shapes.

    Example:
        >>> add_sums({"count_G": np.array([1.0, 2.0])}, {"count_G": np.array([0.0, 5.0])})
        {'count_G': array([1., 7.])}
    """
    if first.keys() != second.keys() or any(first[name].shape != second[name].shape for name in first):
        raise ConfigError(f"sums of different learners cannot be added: {_shapes(first)} and {_shapes(second)}")
    return {name: first[name] + second[name] for name in first}


def _shapes(sums: Sums) -> str:
    return ", ".join(f"{name} {value.shape}" for name, value in sums.items())
