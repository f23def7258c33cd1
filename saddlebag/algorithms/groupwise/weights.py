"""Memberships in part: a round that belongs to a group with weight w in (0, 1] teaches its learner w times its loss.

Regret on a group is sum w (our loss - loss of the model), so the group's learner must minimise sum w loss as well: one that
took every round in full would follow another objective, and neither its bound nor its identity would speak of the group.
Rounds of whole members (weights 0 and 1) go through the plain methods, bit for bit; other rounds need a `WeightedLearner`.

Shapes: D = features, G = groups, K = active groups of a round, N = rounds of a block.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import numpy as np

from saddlebag.algorithms.groupwise.base import Learner
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.algorithms.groupwise.base import AnyLearner, Array, Index, Sums
    from saddlebag.compression import Draws

__all__ = ["WeightedLearner"]

S = TypeVar("S")


@runtime_checkable
class WeightedLearner(Learner[S], Protocol[S]):
    """A learner whose rounds may count in part; with weights of 1 each method is the plain one, up to rounding.

    What a learner promises of sum loss it promises of sum w loss, for weights in (0, 1] that are known before the prediction.

    Example:
        >>> from saddlebag.algorithms.groupwise import Ridge
        >>> isinstance(Ridge(dimension=1), WeightedLearner)
        True
    """

    def predict_weighted(self, state: S, x: Any, group_K: Index, weight_K: Array, draws: Draws) -> Array:
        """`predict`, for a round that will count `weight_K`."""

    def advance_weighted(self, state: S, x: Any, y: Any, group_K: Index, weight_K: Array) -> None:
        """`advance`, where the loss of the round counts `weight_K` times."""

    def sums_weighted(self, state: S, x_N: Any, y_N: Any, weight_NG: Array) -> Sums:
        """`sums`, where round n counts `weight_NG[n]` times; 0 for sleepers."""


_AnyWeighted = WeightedLearner[Any]


def are_whole(weight: Any) -> bool:
    """Whether weights are all 0 or 1.

    Raises:
        ConfigError: one is NaN, negative or more than 1.

    Example:
        >>> are_whole([0.0, 1.0]), are_whole([0.0, 0.5])
        (True, False)
    """
    weight = np.asarray(weight)
    if weight.dtype == np.bool_ or np.logical_and.reduce(weight == 1.0, axis=None):  # `all` would ask Python first
        return True
    whole = (weight == 0.0) | (weight == 1.0)
    if whole.all():
        return True
    wrong = ~((weight >= 0.0) & (weight <= 1.0))
    if wrong.any():
        raise ConfigError(f"memberships must lie in [0, 1], got {float(weight[wrong].flat[0]):g}")
    return False


def weighted(learner: AnyLearner) -> _AnyWeighted:
    """The learner, as one that takes memberships in part.

    Raises:
        ConfigError: it takes whole members only.
    """
    if isinstance(learner, WeightedLearner):
        return learner
    raise ConfigError(
        f"the learner {type(learner).__name__} takes memberships of 0 and 1 only, for it cannot count a round in part; "
        "use ridge, vovk_azoury_warmuth, gradient, newton or logistic, or whole memberships"
    )


def predict(learner: AnyLearner, state: Any, x: Any, group_K: Index, weight_K: Array, draws: Draws) -> Array:
    """The predictions of a round that counts `weight_K`."""
    if are_whole(weight_K):
        return learner.predict(state, x, group_K, draws)
    return weighted(learner).predict_weighted(state, x, group_K, weight_K, draws)


def advance(learner: AnyLearner, state: Any, x: Any, y: Any, group_K: Index, weight_K: Array) -> None:
    """Learn a round that counts `weight_K`, in the memory of `state`."""
    if are_whole(weight_K):
        learner.advance(state, x, y, group_K)
    else:
        weighted(learner).advance_weighted(state, x, y, group_K, weight_K)


def block_sums_of(learner: AnyLearner, state: Any, x_N: Any, y_N: Any, weight_NG: Any) -> Sums:
    """What a frozen block teaches, its rounds counting `weight_NG`."""
    if are_whole(weight_NG):
        return learner.sums(state, x_N, y_N, np.asarray(weight_NG) > 0)
    return weighted(learner).sums_weighted(state, x_N, y_N, np.asarray(weight_NG, np.float64))
