"""Learners made of one object a group: river's and scikit-learn's models, or anything that a step function trains.

Such models hold what they like, so they learn round by round only: their blocks do not add up (`additive = False`), and
`update` copies the objects it trains.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from saddlebag.algorithms.groupwise.base import Array, Index, Sums
    from saddlebag.compression import Draws

__all__ = ["ObjectLearner", "estimator_learner", "one_by_one_learner"]


@dataclasses.dataclass(frozen=True, eq=False)
class ObjectState:
    """The groups' models; the list is replaced in place by `advance` only."""

    models: list[Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ObjectLearner:
    """One model for each group.

    Attributes:
        make: a new, untrained model.
        answer: (model, x) -> prediction; must not change the model.
        step: (model, x, y) -> None; trains the model in place.

    Example:
        >>> from saddlebag.compression import Draws
        >>> class Last:
        ...     y = 0.0
        >>> learner = ObjectLearner(make=Last, answer=lambda model, x: model.y, step=lambda model, x, y: setattr(model, "y", y))
        >>> state = learner.update(learner.init(2), None, 3.0, np.array([1]))
        >>> learner.predict(state, None, np.array([0, 1]), Draws(0, 1)).tolist()
        [0.0, 3.0]
    """

    make: Callable[[], Any]
    answer: Callable[[Any, Any], Any]
    step: Callable[[Any, Any, Any], None]
    additive: bool = dataclasses.field(default=False, init=False)

    def init(self, num_groups: int) -> ObjectState:
        return ObjectState([self.make() for _ in range(num_groups)])

    def predict(self, state: ObjectState, x: Any, group_K: Index, draws: Draws) -> Array:
        del draws
        return np.array([self.answer(state.models[g], x) for g in group_K], np.float64)

    def advance(self, state: ObjectState, x: Any, y: Any, group_K: Index) -> None:
        for g in group_K:
            self.step(state.models[g], x, y)

    def update(self, state: ObjectState, x: Any, y: Any, group_K: Index) -> ObjectState:
        models = list(state.models)
        for g in group_K:
            models[g] = copy.deepcopy(models[g])
            self.step(models[g], x, y)
        return ObjectState(models)

    def sums(self, state: ObjectState, x_N: Any, y_N: Any, member_NG: npt.NDArray[np.bool_]) -> Sums:
        raise ConfigError("models that are objects have no sums over a block; feed them round by round")

    def merge(self, state: ObjectState, sums: Sums) -> ObjectState:
        raise ConfigError("models that are objects have no sums over a block; feed them round by round")

    def grow(self, state: ObjectState, extra: int) -> ObjectState:
        return ObjectState([*state.models, *self.init(extra).models])


def one_by_one_learner(make: Callable[[], Any], *, names: tuple[str, ...] = ()) -> ObjectLearner:
    """A learner from river's interface: `predict_one(x)`, or `predict_proba_one(x)[True]`, and `learn_one(x, y)`.

    Args:
        make: a new model, for example `lambda: river.linear_model.LinearRegression()`.
        names: of the features; rounds are vectors here and dictionaries there. Numbers from 0 by default.

    Example:
        >>> from saddlebag.compression import Draws
        >>> class Mean:  # river's interface
        ...     total = count = 0.0
        ...
        ...     def predict_one(self, x):
        ...         return self.total / max(1.0, self.count)
        ...
        ...     def learn_one(self, x, y):
        ...         self.total, self.count = self.total + y, self.count + 1.0
        >>> learner = one_by_one_learner(Mean)
        >>> state = learner.update(learner.init(2), np.ones(1), 3.0, np.array([0]))
        >>> learner.predict(state, np.ones(1), np.array([0, 1]), Draws(0, 1)).tolist()
        [3.0, 0.0]
    """

    def named(x_D: Array) -> dict[Any, float]:
        return dict(zip(names or range(len(x_D)), x_D.tolist(), strict=True))

    def answer(model: Any, x: Array) -> float:
        if hasattr(model, "predict_proba_one"):
            return float(model.predict_proba_one(named(x)).get(True, 0.5))
        return float(model.predict_one(named(x)) or 0.0)

    def step(model: Any, x: Array, y: Any) -> None:
        model.learn_one(named(x), bool(y) if hasattr(model, "predict_proba_one") else float(y))

    return ObjectLearner(make=make, answer=answer, step=step)


def estimator_learner(make: Callable[[], Any], *, classes: tuple[Any, ...] = (), default: float = 0.0) -> ObjectLearner:
    """A learner from scikit-learn's interface: `partial_fit(X, y)` and `predict(X)`, or the probability of the second class.

    Args:
        make: a new estimator, for example `lambda: SGDRegressor()`.
        classes: labels of a classifier, which `partial_fit` wants at its first call.
        default: what a model predicts before its first round.

    Example:
        >>> from saddlebag.compression import Draws
        >>> class Last:  # scikit-learn's interface
        ...     def partial_fit(self, X, y):
        ...         self.n_features_in_, self.y = X.shape[1], y[0]
        ...
        ...     def predict(self, X):
        ...         return np.full(len(X), self.y)
        >>> learner = estimator_learner(Last, default=0.5)
        >>> state = learner.update(learner.init(2), np.ones(1), 3.0, np.array([0]))
        >>> learner.predict(state, np.ones(1), np.array([0, 1]), Draws(0, 1)).tolist()
        [3.0, 0.5]
    """

    def answer(model: Any, x: Array) -> float:
        if not hasattr(model, "coef_") and not hasattr(model, "n_features_in_"):
            return default
        if classes:
            return float(model.predict_proba(x[None, :])[0, 1])
        return float(model.predict(x[None, :])[0])

    def step(model: Any, x: Array, y: Any) -> None:
        extra = {"classes": list(classes)} if classes else {}
        model.partial_fit(x[None, :], [y], **extra)

    return ObjectLearner(make=make, answer=answer, step=step)
