"""Several penalties at once: one model for each, and the aggregating algorithm in place of a choice in hindsight.

With L_i the losses so far of a group's k models and eta the mixability of the loss on labels in [a, b], of width v,

    g(y) = -(1 / eta) ln sum_i p_i e^(-eta l(z_i, y)),   p_i ~ e^(-eta L_i),   z such that l(z, y) <= g(y) for all labels y,

the loss of the z that are given out exceeds that of the best model by at most ln(k) / eta, on any data (Vovk 1990, 1998):

    squared loss   eta = 2 / v^2,   z = (a + b) / 2 + (g(a) - g(b)) / (2 v)
    log loss       eta = 1,         z = sum_i p_i z_i        (the Bayesian mixture)

A penalty is a guess of how large the best model is: ridge regression pays penalty |theta|^2 + E^2 ln det(A / penalty), and a
guess that is wrong by a factor of ten costs ten times the one part, or E^2 d ln(10) in the other. Two penalties ten times apart
cost v^2 ln(2) / 2 in all.

Models' predictions are cut to [a, b] first. A round that counts w <= 1 times counts so in L: e^(-eta w l) is a power below one
of e^(-eta l), so by Jensen's inequality the same z will do.

Shapes: M = models of a group, G = groups, K = awake groups, N = rounds, D = features; a state of G M groups has a group's
models beside each other.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from saddlebag.algorithms.groupwise.base import LearnerDefaults, PredictsUnweighted, check_positive
from saddlebag.algorithms.groupwise.learners.aioli import Aioli, AioliState
from saddlebag.algorithms.groupwise.learners.ridge import Ridge, RidgeState
from saddlebag.algorithms.groupwise.losses import Interval, LogLoss, SquaredLoss, interval_width
from saddlebag.errors import ConfigError, check_choice

if TYPE_CHECKING:
    import numpy.typing as npt

    from saddlebag.algorithms.groupwise.base import Array, Index, Sums
    from saddlebag.compression import Draws

__all__ = ["Aggregated"]

_CERTAIN = 1e-6  # a probability of logistic regression is kept this far from 0 and 1 in L


@dataclasses.dataclass(frozen=True, eq=False)
class AggregatedRidgeState(RidgeState):
    """M ridge regressions for each group: arrays as there with an axis of models after that of groups, and L."""

    loss_GM: Array


@dataclasses.dataclass(frozen=True, eq=False)
class AggregatedLogisticState(AioliState):
    """M logistic regressions for each group: arrays as there with an axis of models after that of groups, and L."""

    loss_GM: Array


AggregatedState = AggregatedRidgeState | AggregatedLogisticState


@dataclasses.dataclass(frozen=True, kw_only=True)
class Aggregated(PredictsUnweighted, LearnerDefaults):
    """Ridge or logistic regression with several penalties for each group, aggregated.

    Attributes:
        dimension: D >= 1 features; give a constant one for an intercept.
        of: "ridge" for the squared loss, or "logistic" for the log loss.
        penalties: of the models, at least one.
        interval: where labels lie; of "logistic" [0, 1].

    Example:
        >>> import saddlebag as sb
        >>> from saddlebag.compression import Draws
        >>> learner, one = sb.make_learner("aggregated", 1), np.zeros(1, np.int64)
        >>> state = learner.init(1)
        >>> for _ in range(20):
        ...     state = learner.update(state, np.ones(1), 0.8, one)
        >>> round(float(learner.predict(state, np.ones(1), one, Draws(0, 0))[0]), 2)  # penalty 10 alone says 0.53
        0.76
    """

    dimension: int
    of: Literal["ridge", "logistic"] = "ridge"
    penalties: tuple[float, ...] = (1.0, 10.0)
    interval: Interval = (0.0, 1.0)

    def __post_init__(self) -> None:
        check_choice("of", self.of, ("ridge", "logistic"))
        object.__setattr__(self, "penalties", tuple(map(float, self.penalties)))
        object.__setattr__(self, "interval", tuple(map(float, self.interval)))
        if not self.penalties or len(set(self.penalties)) < len(self.penalties):
            raise ConfigError(f"penalties must be different numbers, at least one, got {list(self.penalties)}")
        for penalty in self.penalties:
            check_positive("penalties", penalty)
        if len(self.interval) != 2:
            raise ConfigError(f"interval must be [low, high], got {list(self.interval)}")
        interval_width(self.interval)
        if self.of == "logistic" and not 0.0 <= self.interval[0] < self.interval[1] <= 1.0:
            raise ConfigError(f"logistic regression needs labels in [0, 1], got the interval {list(self.interval)}")
        self._model(self.penalties[0])

    def _model(self, penalty: float) -> Ridge | Aioli:
        kind = Ridge if self.of == "ridge" else Aioli
        return kind(dimension=self.dimension, penalty=penalty)

    @property
    def _inner(self) -> Ridge | Aioli:
        """One learner for all: after `init` penalties lie in its state, and the least one says what is usual."""
        return self._model(min(self.penalties))

    @property
    def _rate(self) -> float:
        return 2.0 / interval_width(self.interval) ** 2 if self.of == "ridge" else 1.0

    def init(self, num_groups: int) -> AggregatedState:
        M = len(self.penalties)
        states: list[Any] = [self._model(penalty).init(num_groups) for penalty in self.penalties]
        values = {name: np.stack([getattr(state, name) for state in states], axis=1) for name in _grouped(states[0])}
        shared = self._inner.init(num_groups * M)
        return self._state(
            {name: values.get(name, getattr(shared, name)) for name in _names(shared)}, np.zeros((num_groups, M))
        )

    def _state(self, values: dict[str, Array], loss_GM: Array) -> AggregatedState:
        kind: Any = AggregatedRidgeState if self.of == "ridge" else AggregatedLogisticState
        state: AggregatedState = kind(**values, loss_GM=loss_GM)
        return state

    def _flat(self, state: AggregatedState) -> Any:
        """The same numbers as a state of G M groups; what learns in its memory learns in this state's."""
        kind: Any = RidgeState if self.of == "ridge" else AioliState
        grouped, values = set(_grouped(state)), {field.name: getattr(state, field.name) for field in dataclasses.fields(kind)}
        return kind(**{name: x.reshape(-1, *x.shape[2:]) if name in grouped else x for name, x in values.items()})

    def _folded(self, flat: Any, loss_GM: Array) -> AggregatedState:
        """What `_flat` gave, or learned, with its axis of models again."""
        M, grouped = len(self.penalties), set(_grouped(flat))
        values = {name: getattr(flat, name) for name in _names(flat)}
        return self._state(
            {name: value.reshape(-1, M, *value.shape[1:]) if name in grouped else value for name, value in values.items()},
            loss_GM,
        )

    def _models_of(self, group_K: Index) -> Index:
        M = len(self.penalties)
        model_KM: Index = (M * np.asarray(group_K)[:, None] + np.arange(M)).ravel()
        return model_KM

    # -- predictions -----------------------------------------------------------------------------------------------------

    def predict(self, state: AggregatedState, x: Array, group_K: Index, draws: Draws) -> Array:
        return self._mixed(state.loss_GM[group_K], self._each(self._flat(state), x, group_K, draws))

    def _each(self, flat: Any, x: Array, group_K: Index, draws: Draws | None = None) -> Array:
        """What each model of these groups predicts, cut to the interval; shape (K, M)."""
        z_KM = self._inner.predict(flat, x, self._models_of(group_K), draws)  # type: ignore[arg-type]
        return np.clip(z_KM.reshape(len(group_K), len(self.penalties)), *self.interval)

    def predict_block(self, state: AggregatedState, x_ND: Array, weight_NG: Array | npt.NDArray[np.bool_]) -> Array:
        """The predictions of N rows, shape (N, G); those of sleeping groups are to be ignored."""
        return self._mixed(state.loss_GM, self._each_row(self._flat(state), x_ND, weight_NG))

    def _each_row(self, flat: Any, x_ND: Array, weight_NG: Array | npt.NDArray[np.bool_]) -> Array:
        M = len(self.penalties)
        weight_NM: Any = np.repeat(weight_NG, M, axis=1)
        z_NM = self._inner.predict_block(flat, x_ND, weight_NM)
        return np.clip(z_NM.reshape(*weight_NG.shape, M), *self.interval)

    def _mixed(self, loss_M: Array, z_M: Array) -> Array:
        """The aggregating algorithm's answer; over the last axis of both."""
        p_M = np.exp(-self._rate * (loss_M - loss_M.min(axis=-1, keepdims=True)))
        p_M = p_M / p_M.sum(axis=-1, keepdims=True)
        if self.of == "logistic":
            mixed: Array = (p_M * z_M).sum(axis=-1)
            return mixed
        low, high = self.interval
        at_low, at_high = (-np.log((p_M * np.exp(-self._rate * (z_M - y) ** 2)).sum(axis=-1)) / self._rate for y in (low, high))
        z: Array = np.clip((low + high) / 2.0 + (at_low - at_high) / (2.0 * (high - low)), low, high)
        return z

    def _losses(self, z_M: Array, y: Any) -> Array:
        loss = SquaredLoss() if self.of == "ridge" else LogLoss(floor=_CERTAIN)
        return loss.value(z_M, y)

    # -- learning --------------------------------------------------------------------------------------------------------

    def is_usual(self, x: Array, y: float) -> bool:
        return self._inner.is_usual(x, y)

    def advance(self, state: AggregatedState, x: Array, y: float, group_K: Index) -> None:
        flat = self._flat(state)
        state.loss_GM[group_K] += self._losses(self._each(flat, x, group_K), y)
        self._inner.advance(flat, x, y, self._models_of(group_K))

    def advance_weighted(self, state: AggregatedState, x: Array, y: float, group_K: Index, weight_K: Array) -> None:
        flat = self._flat(state)
        state.loss_GM[group_K] += weight_K[:, None] * self._losses(self._each(flat, x, group_K), y)
        weight_KM = np.repeat(weight_K, len(self.penalties))
        self._inner.advance_weighted(flat, x, y, self._models_of(group_K), weight_KM)

    def sums(self, state: AggregatedState, x_N: Array, y_N: Array, member_NG: npt.NDArray[np.bool_]) -> Sums:
        return self.sums_weighted(state, x_N, y_N, member_NG.astype(np.float64))

    def sums_weighted(self, state: AggregatedState, x_N: Array, y_N: Array, weight_NG: Array) -> Sums:
        """The models' sums, and their losses at the frozen state."""
        M, flat = len(self.penalties), self._flat(state)
        inner = self._inner.sums_weighted(flat, x_N, y_N, np.repeat(weight_NG, M, axis=1))
        loss_NGM = self._losses(self._each_row(flat, x_N, weight_NG > 0), np.asarray(y_N)[:, None, None])
        folded = {name: value.reshape(-1, M, *value.shape[1:]) for name, value in inner.items()}
        return folded | {"loss_GM": np.einsum("ng,ngm->gm", weight_NG, loss_NGM)}

    def merge(self, state: AggregatedState, sums: Sums) -> AggregatedState:
        inner = {name: value.reshape(-1, *value.shape[2:]) for name, value in sums.items() if name != "loss_GM"}
        flat: Any = self._flat(state)
        return self._folded(self._inner.merge(flat, inner), state.loss_GM + sums["loss_GM"])

    def grow(self, state: AggregatedState, extra: int) -> AggregatedState:
        M, flat = len(self.penalties), self._flat(state)
        wide: Any = self._inner.grow(flat, extra * M)
        after, new = self._folded(wide, np.concatenate((state.loss_GM, np.zeros((extra, M))))), self.init(extra)
        for name in _grouped(after):  # `grow` knows one penalty only
            getattr(after, name)[-extra:] = getattr(new, name)
        return after

    # -- recorded streams ------------------------------------------------------------------------------------------------

    def replay(self, x_ND: Array, y_N: Array) -> Array:
        """The predictions that one group would make on its rounds, in order, each before its label; shape (N,)."""
        return self.replay_weighted(x_ND, y_N, np.ones(len(y_N)))

    def replay_weighted(self, x_ND: Array, y_N: Array, weight_N: Array) -> Array:
        """`replay` of rounds that count in part."""
        z_NM = np.column_stack([self._replayed(self._model(penalty), x_ND, y_N, weight_N) for penalty in self.penalties])
        z_NM = np.clip(z_NM, *self.interval)
        loss_NM = weight_N[:, None] * self._losses(z_NM, y_N[:, None])
        return self._mixed(np.cumsum(loss_NM, axis=0) - loss_NM, z_NM)

    def _replayed(self, model: Ridge | Aioli, x_ND: Array, y_N: Array, weight_N: Array) -> Array:
        if isinstance(model, Ridge):
            return model.replay_weighted(x_ND, y_N, weight_N)
        state, one, z_N = model.init(1), np.zeros(1, np.int64), np.empty(len(y_N))
        for t, (x_D, y) in enumerate(zip(x_ND, y_N.tolist(), strict=True)):
            z_N[t] = model.predict(state, x_D, one, None)[0]  # type: ignore[arg-type]
            model.advance_weighted(state, x_D, y, one, weight_N[t : t + 1])
        return z_N

    def regret_bound(self, x_ND: Array, y_N: Array, z_N: Array) -> float:
        """The proven bound on one group's regret in the squared loss: the least of its models', and ln(M) / eta.

        Args:
            x_ND: rounds; those that count in part times the root of the weight.
            y_N: labels, so, too.
            z_N: predictions.
        """
        del z_N
        if self.of != "ridge":
            return math.nan
        models = [Ridge(dimension=self.dimension, penalty=penalty) for penalty in self.penalties]
        least = min(model.regret_bound(x_ND, y_N, model.replay(x_ND, y_N)) for model in models)
        return least + math.log(len(models)) / self._rate


def _names(state: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(state) if field.name != "loss_GM"]


def _grouped(state: Any) -> list[str]:
    """The arrays whose first axis is the group."""
    fields = dataclasses.fields(state)
    return [field.name for field in fields if field.metadata.get("grouped", True) and field.name != "loss_GM"]
