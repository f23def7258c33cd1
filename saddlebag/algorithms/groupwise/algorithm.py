"""Groupwise regret: a learner for each group, mixed by sleeping experts.

Acharya, Arunachaleswaran, Kannan, Roth, Ziani 2024, "Oracle efficient algorithms for groupwise regret" (ICLR). For every
group at once, our loss on its rounds exceeds that of the best fixed model for the group by at most the learner's own
regret plus the mixer's bound.

A round is two calls, with any time between them:

    prediction = algorithm.predict(state, x, awake_G, draws)
    state = algorithm.learn(state, x, y, prediction)

Losses come from the predictions as they were made; `learn` never predicts again.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from saddlebag.algorithms.groupwise import guard, weights
from saddlebag.algorithms.groupwise import ledger as accounts
from saddlebag.algorithms.groupwise.growth import grown_order, reordered, widened
from saddlebag.algorithms.groupwise.kernels import loader
from saddlebag.algorithms.groupwise.learners.ridge import Ridge
from saddlebag.algorithms.groupwise.ledger import Alarm, Outcome
from saddlebag.algorithms.groupwise.losses import Loss, SquaredLoss, interval_width
from saddlebag.algorithms.groupwise.mixers.ada_normal_hedge import AdaNormalHedge
from saddlebag.algorithms.groupwise.mixers.mixing import distribution
from saddlebag.algorithms.groupwise.mixers.specialists import Specialists
from saddlebag.algorithms.groupwise.single import Single
from saddlebag.algorithms.groupwise.state import GroupwiseState, Prediction
from saddlebag.compression import Draws, Purpose
from saddlebag.errors import ConfigError, NotFiniteError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from saddlebag.algorithms.groupwise.base import AnyLearner, AnyMixer, Array, Index, Sums

__all__ = ["Groupwise", "GroupwiseState", "Prediction"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Groupwise:
    """The algorithm.

    Attributes:
        learner: one model for each group, batched.
        mixer: weighs the groups' learners.
        loss: of a prediction and a label.
        output: "mixture" plays sum p z (for convex losses), "sample" one expert's prediction, drawn from p.
        charge: what experts are compared with: "played", the loss of the mixture, or "expected", p . l.
        interval: predictions are clipped to it; None to leave them as they are.
        labels: labels lie in it; None for those that lie in `interval`, or anywhere.
        default: the prediction when nobody is awake; such rounds count in nobody's regret.
        always_on: the group that is awake in every round, if there is one.
        shadows: for every other group, add the always-on learner, awake on that group only. Then our loss on the group is
            also within the mixer's bound of the *global* learner's loss there.
        compiled: single rounds (learning only with `owned`) go through compiled loops where numba is installed (the extra
            `fast`) and there are some (`single.py`): equal up to rounding, and the same algorithm, so no part of what it means.

    Example:
        >>> import numpy as np
        >>> import saddlebag as sb
        >>> from saddlebag.algorithms.groupwise import SquaredLoss
        >>> from saddlebag.compression import Draws
        >>> algorithm = sb.Groupwise(
        ...     learner=sb.make_learner("ridge", 2), mixer=sb.make_mixer("ada_normal_hedge"), loss=SquaredLoss()
        ... )
        >>> state = algorithm.init(3)
        >>> prediction = algorithm.predict(state, np.ones(2), np.ones(3), Draws(0, 0))
        >>> state = algorithm.learn(state, np.ones(2), 1.0, prediction)
        >>> prediction.p_E.round(2).tolist()
        [0.33, 0.33, 0.33]
    """

    learner: AnyLearner
    mixer: AnyMixer
    loss: Loss
    output: Literal["mixture", "sample"] = "mixture"
    charge: Literal["played", "expected"] = "played"
    interval: tuple[float, float] | None = None
    labels: tuple[float, float] | None = None
    default: float = 0.0
    always_on: int | None = None
    shadows: bool = False
    compiled: bool = dataclasses.field(default=False, compare=False)

    def __post_init__(self) -> None:
        if self.output not in ("mixture", "sample") or self.charge not in ("played", "expected"):
            raise ConfigError(f"output must be mixture or sample, charge played or expected; got {self.output}, {self.charge}")
        if self.output == "sample" and self.charge == "played":
            raise ConfigError("output 'sample' needs charge 'expected': a single draw's loss is not what p was proven for")
        if isinstance(self.mixer, Specialists) and (self.output, self.charge) != ("mixture", "played"):
            raise ConfigError("specialists are proven for the loss of the mixture: output 'mixture', charge 'played'")
        if self.shadows and self.always_on is None:
            raise ConfigError("shadows need an always_on group, whose learner they show")
        for interval in (self.interval, self.labels):
            if interval is not None:
                interval_width(interval)

    def init(self, num_groups: int, prior_G: Array | None = None) -> GroupwiseState:
        """The state before the first round; the prior is uniform unless given. Shadows share their group's prior."""
        if self.always_on is not None and not 0 <= self.always_on < num_groups:
            raise ConfigError(f"always_on must lie in 0..{num_groups - 1}, got {self.always_on}")
        mixer = self.mixer.init(self.prior(num_groups, prior_G))
        return GroupwiseState(self.learner.init(num_groups), mixer, accounts.open_ledger(self.num_experts(num_groups)))

    def prior(self, num_groups: int, prior_G: Array | None = None) -> Array:
        """The experts' prior; errors as `init`."""
        prior_G = np.full(num_groups, 1.0 / num_groups) if prior_G is None else np.asarray(prior_G, np.float64)
        if prior_G.shape != (num_groups,):
            raise ConfigError(f"a prior needs {num_groups} entries, got shape {prior_G.shape}")
        prior_E = prior_G
        if self.shadows:
            prior_E = np.concatenate((prior_G, np.delete(prior_G, self.always_on or 0))) / 2.0
            prior_E[self.always_on or 0] *= 2.0
        return prior_E

    @property
    def label_interval(self) -> tuple[float, float] | None:
        """Where labels lie; None for anywhere."""
        return self.labels or self.interval

    @functools.cached_property
    def single(self) -> Single | None:
        """The compiled loops of single rounds; None where there are none, or none are wanted."""
        if not (self.compiled and self.has_loops):
            return None
        return Single(self.learner, self.mixer, self.interval, self.default, charge_played=self.charge == "played")

    @property
    def has_loops(self) -> bool:
        """Whether there are compiled loops for this algorithm, and numba for them."""
        plain = self.output == "mixture" and not self.shadows and self.loss == SquaredLoss()
        ridge = isinstance(self.learner, Ridge) and not self.learner.forward
        return plain and ridge and isinstance(self.mixer, AdaNormalHedge) and loader.compiled() is not None

    def num_experts(self, num_groups: int) -> int:
        """E: the groups, then the shadows of all but the always-on group."""
        return 2 * num_groups - 1 if self.shadows else num_groups

    def predict(self, state: GroupwiseState, x: Any, awake_G: Array, draws: Draws) -> Prediction:
        """Predict a round.

        Args:
            state: as it is now; not changed.
            x: the context, as the learner wants it.
            awake_G: memberships, known before the label: confidences in [0, 1], or booleans. Shape (G,).
            draws: this round's randomness.

        Raises:
            NotFiniteError: a learner's prediction is not finite.
        """
        if self.single is not None and (found := self.single.predict(state, x, awake_G)) is not None:
            return Prediction(*found)
        awake_G = np.asarray(awake_G)
        group_K = awake_G.nonzero()[0]
        with np.errstate(over="ignore", invalid="ignore"):
            z_K = weights.predict(self.learner, state.learner, x, group_K, awake_G[group_K], draws)
        guard.check_predictions(self.learner, z_K)
        if self.interval is not None:
            z_K = np.clip(z_K, *self.interval)
        z_G = np.zeros((len(awake_G), *z_K.shape[1:]))
        z_G[group_K] = z_K
        z_E, awake_E = self.experts(z_G, np.asarray(awake_G, np.float64))
        chosen = distribution(self.mixer.log_weights(state.mixer), state.mixer.prior_E, awake_E)
        return Prediction(self.play(chosen.p_E, z_E, draws), chosen.p_E, z_E, awake_E, bool(chosen.fell_back))

    def experts(self, z_G: Array, awake_G: Array) -> tuple[Array, Array]:
        """Predictions and confidences of the experts, from those of the groups."""
        if not self.shadows or self.always_on is None:
            return z_G, awake_G
        shadow_G = np.broadcast_to(z_G[self.always_on], z_G.shape)
        z_E = np.concatenate((z_G, np.delete(shadow_G, self.always_on, axis=0)))
        return z_E, np.concatenate((awake_G, np.delete(awake_G, self.always_on)))

    def play(self, p_E: Array, z_E: Array, draws: Draws) -> Any:
        """What is given out, from the experts' weights and predictions."""
        if not np.logical_or.reduce(p_E):
            return np.full(z_E.shape[1:], self.default)[()]
        if self.output == "mixture":
            return p_E @ z_E
        uniform = draws.own(Purpose.EXPERT).uniforms(1)[0]
        return z_E[min(int(np.searchsorted(np.cumsum(p_E), uniform, side="right")), int(np.flatnonzero(p_E)[-1]))]

    def outcome(self, prediction: Prediction, y: Any) -> Outcome:
        """The accounts of one round, from the predictions as they were made."""
        p_E, awake_E = prediction.p_E, prediction.awake_E
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # `settle` looks at what comes out
            loss_E = np.where(awake_E > 0, self.loss.value(prediction.z_E, y), 0.0)
            played, expected = float(self.loss.value(np.asarray(prediction.value), y)), float(p_E @ loss_E)
            charged = played if self.charge == "played" else expected
            reference = self.mixer.reference(p_E, loss_E, charged)
            excess_E = awake_E * (charged - loss_E)
            return Outcome(
                awake_E=awake_E,
                loss_E=awake_E * loss_E,
                charged_E=awake_E * charged,
                regret_E=awake_E * (reference - loss_E),
                played=played,
                expected=expected,
                rounds=1,
                largest=float(np.maximum.reduce(np.abs(excess_E))),
                fell_back=int(prediction.fell_back),
                orphans=int(not awake_E.any()),
            )

    def learn(self, state: GroupwiseState, x: Any, y: Any, prediction: Prediction, *, owned: bool = False) -> GroupwiseState:
        """The state after the label of a prediction.

        Args:
            state: as it is now, which may be later than the prediction.
            x: the context.
            y: the label.
            prediction: what `predict` gave for it.
            owned: write into the memory of `state.learner`, which the caller gives up; equal bits.

        Raises:
            NotFiniteError: the state would not be finite. Nothing is learned then, also where the memory is given up.
        """
        if owned and self.single is not None and (found := self.single.learn(state, x, y, prediction)) is not None:
            return GroupwiseState(state.learner, *found)
        settled = self.settle(state, [self.outcome(prediction, y)])
        group_K: Index = prediction.awake_E[: self.num_groups(state)].nonzero()[0]
        weight_K, learner = prediction.awake_E[group_K], state.learner
        if owned:
            guard.advance(self.learner, learner, x, y, group_K, weight_K)
        else:
            learner = guard.updated(self.learner, learner, x, y, group_K, weight_K)
        return GroupwiseState(learner, settled.mixer, settled.ledger)

    def learn_block(self, state: GroupwiseState, x_N: Any, y_N: Any, predictions: Sequence[Prediction]) -> GroupwiseState:
        """The state after the labels of a frozen block: all its predictions were made from this same state."""
        outcomes = [self.outcome(prediction, y) for prediction, y in zip(predictions, y_N, strict=True)]
        G = self.num_groups(state)
        weight_NG = np.array([prediction.awake_E[:G] for prediction in predictions]).reshape(len(predictions), G)
        settled = self.settle(state, outcomes)
        return self.merge(settled, weights.block_sums_of(self.learner, state.learner, x_N, y_N, weight_NG))

    def merge(self, state: GroupwiseState, sums: Sums) -> GroupwiseState:
        """The state after its learners have merged a block's sums.

        Raises:
            NotFiniteError: it would not be finite.
        """
        try:
            with np.errstate(all="ignore"):
                return dataclasses.replace(state, learner=guard.checked(self.learner.merge(state.learner, sums)))
        except np.linalg.LinAlgError as error:
            raise NotFiniteError(f"a block's sums leave a model without a solution: {error}; scale the features") from error

    def settle(self, state: GroupwiseState, outcomes: Sequence[Outcome]) -> GroupwiseState:
        """Mixer and ledger after a block of outcomes (one, for a round); the learners are left alone.

        Raises:
            NotFiniteError: a loss, or the mixer's state after it, is not finite.
        """
        if not outcomes:
            return state
        total = outcomes[0] if len(outcomes) == 1 else accounts.total(outcomes)
        guard.check_outcome(total)
        mixer = guard.checked(self.mixer.absorb(state.mixer, total.regret_E), state.mixer)
        return GroupwiseState(state.learner, mixer, accounts.record(state.ledger, total))

    def grow(self, state: GroupwiseState, prior: Array) -> GroupwiseState:
        """The state with more groups at its end.

        Priors are masses beside those of the older groups, which keep theirs; the bound's B counts the total. A group is
        retired by letting it sleep. With shadows each new group shares its prior with its shadow, and experts are numbered
        anew: groups, then shadows (`widened` does so with a prediction that waits for its label).
        """
        prior_K = np.atleast_1d(np.asarray(prior, np.float64))
        K, G = len(prior_K), self.num_groups(state)
        learner = self.learner.grow(state.learner, K)
        if not self.shadows:
            return GroupwiseState(learner, self.mixer.grow(state.mixer, prior_K), accounts.widen(state.ledger, K))
        mixer = self.mixer.grow(state.mixer, np.tile(prior_K / 2.0, 2))
        order_E = grown_order(G, K)
        return GroupwiseState(learner, reordered(mixer, order_E), reordered(accounts.widen(state.ledger, 2 * K), order_E))

    def widened(self, prediction: Prediction, num_groups: int) -> Prediction:
        """A prediction among `num_groups` groups of now: those that came after it slept."""
        E = self.num_experts(num_groups)
        parts = (prediction.p_E, prediction.z_E, prediction.awake_E)
        p_E, z_E, awake_E = (widened(value_E, num_groups, E, shadows=self.shadows) for value_E in parts)
        return dataclasses.replace(prediction, p_E=p_E, z_E=z_E, awake_E=awake_E)

    def alarms(self, state: GroupwiseState) -> tuple[Alarm, ...]:
        """What the theory rules out and has happened all the same: losses out of range, or broken accounts."""
        return accounts.alarms(state.ledger, self.mixer, state.mixer)

    def num_groups(self, state: GroupwiseState) -> int:
        """G of a state."""
        E = len(state.ledger.count_E)
        return (E + 1) // 2 if self.shadows else E
