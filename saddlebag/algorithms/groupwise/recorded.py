"""Mixing of recorded predictions: what the mixer would have done, round by round, with what learners predicted.

Learners never see a weight, so on a recorded stream their predictions can be formed first, each group by itself and each
round before its label (`Ridge.replay`); what remains of a round is the mixer's few numbers. Several independent runs
(shuffles, say) go together: everything has a batch axis S after the rounds'.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from saddlebag.algorithms.groupwise import guard, weights
from saddlebag.algorithms.groupwise.capabilities import Replays, ReplaysWeighted, SeparateExperts
from saddlebag.algorithms.groupwise.kernels.loader import compiled
from saddlebag.algorithms.groupwise.losses import SquaredLoss
from saddlebag.algorithms.groupwise.members import Members
from saddlebag.algorithms.groupwise.mixers.ada_normal_hedge import AdaNormalHedge, HedgeState
from saddlebag.algorithms.groupwise.mixers.mixing import distribution
from saddlebag.compression import Draws
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    import numpy.typing as npt

    from saddlebag.algorithms.groupwise.base import AnyLearner, AnyMixer, Array
    from saddlebag.algorithms.groupwise.losses import Loss

_LONG = 1 << 17  # numbers from which the loop is compiled; importing numba takes half a second

__all__ = ["Mixed", "mix_members", "mix_recorded", "replay_groups", "replay_members"]


@dataclasses.dataclass(frozen=True, eq=False)
class Mixed:
    """A run of the mixer over recorded rounds.

    Attributes:
        played_NS: loss of the mixture.
        expected_NS: p . l.
        value_NS: the mixture.
        absolute_SE: C, sum of |c - l| over each expert's rounds, in units of the loss.
        largest_S: largest |c - l| of an expert awake.
        fell_back_S: rounds in which all the awake had weight 0.
        state: the mixer's, at the end.

    Example:
        >>> import saddlebag as sb
        >>> z_NSE = np.tile([0.0, 1.0], (50, 1, 1))
        >>> run = mix_recorded(
        ...     sb.make_mixer("ada_normal_hedge"), np.full(2, 0.5), z_NSE, np.ones((50, 1)), np.ones((50, 1, 2)), SquaredLoss()
        ... )
        >>> type(run).__name__, run.absolute_SE.shape
        ('Mixed', (1, 2))
    """

    played_NS: Array
    expected_NS: Array
    value_NS: Array
    absolute_SE: Array
    largest_S: Array
    fell_back_S: Array
    state: Any


def mix_recorded(
    mixer: AnyMixer,
    prior_E: Array,
    z_NSE: Array,
    y_NS: Array,
    awake_NSE: Array,
    loss: Loss,
    *,
    charge: Literal["played", "expected"] = "played",
) -> Mixed:
    """Mix the predictions of N rounds, each with the weights before its label.

    Args:
        mixer: the rule.
        prior_E: its prior; shape (E,).
        z_NSE: predictions of the experts; anything finite where they sleep.
        y_NS: labels.
        awake_NSE: confidences in [0, 1]. In each round somebody is awake.
        loss: of a prediction and a label.
        charge: what experts are compared with: the loss of the mixture, or the expected loss.

    Long streams under AdaNormalHedge and squared loss go through the compiled loop where there is one: the same up to rounding.

    Raises:
        NotFiniteError: a loss is not finite.

    Example:
        >>> import saddlebag as sb
        >>> z_NSE = np.tile([0.0, 1.0], (50, 1, 1))  # 50 rounds of one run: an expert that says 0, and one that says 1
        >>> run = mix_recorded(
        ...     sb.make_mixer("ada_normal_hedge"), np.full(2, 0.5), z_NSE, np.ones((50, 1)), np.ones((50, 1, 2)), SquaredLoss()
        ... )
        >>> float(run.value_NS[0, 0]), bool(run.value_NS[-1, 0] > 0.99)  # nothing is known, then who is right
        (0.5, True)
    """
    N, S, E = z_NSE.shape
    long = loss == SquaredLoss() and z_NSE.size >= _LONG
    if long and isinstance(mixer, AdaNormalHedge) and compiled() is not None:
        return _mix_compiled(mixer, prior_E, z_NSE, y_NS, awake_NSE, charge == "played")
    with np.errstate(over="ignore"):
        loss_NSE = np.where(awake_NSE > 0, loss.value(z_NSE, y_NS[..., None]), 0.0)
    guard.check_losses(loss_NSE)
    prior_SE = np.broadcast_to(prior_E, (S, E))
    state = mixer.init(prior_SE)
    played_NS, expected_NS, value_NS = np.empty((N, S)), np.empty((N, S)), np.empty((N, S))
    absolute_SE, fell_back_S, largest_S = np.zeros((S, E)), np.zeros(S), np.zeros(S)
    for t in range(N):
        awake_SE, loss_SE = awake_NSE[t], loss_NSE[t]
        chosen = distribution(mixer.log_weights(state), prior_SE, awake_SE)
        value_S = value_NS[t] = (chosen.p_E * z_NSE[t]).sum(axis=-1)
        played_S = played_NS[t] = loss.value(value_S, y_NS[t])
        expected_S = expected_NS[t] = (chosen.p_E * loss_SE).sum(axis=-1)
        charged_S = played_S if charge == "played" else expected_S
        reference_S = mixer.reference(chosen.p_E, loss_SE, charged_S)
        state = mixer.absorb(state, awake_SE * (reference_S[:, None] - loss_SE))
        gap_SE = np.abs(awake_SE * (charged_S[:, None] - loss_SE))
        absolute_SE += gap_SE
        np.maximum(largest_S, gap_SE.max(axis=-1), out=largest_S)
        fell_back_S += chosen.fell_back
    return Mixed(played_NS, expected_NS, value_NS, absolute_SE, largest_S, fell_back_S, state)


def _mix_compiled(
    mixer: AdaNormalHedge, prior_E: Array, z_NSE: Array, y_NS: Array, awake_NSE: Array, charge_played: bool
) -> Mixed:
    """The same, one run after the other."""
    runs = []
    for s in range(z_NSE.shape[1]):
        members = Members.of(awake_NSE[:, s])
        z_M = z_NSE[members.round_M, s, members.group_M]
        runs.append(_mix_hedge(mixer, prior_E, members, z_M, np.ascontiguousarray(y_NS[:, s]), charge_played))
    rounds, experts = ("played_NS", "expected_NS", "value_NS"), ("absolute_SE", "largest_S", "fell_back_S")
    joined = {name: np.concatenate([getattr(run, name) for run in runs], axis=1) for name in rounds}
    joined |= {name: np.concatenate([getattr(run, name) for run in runs]) for name in experts}
    parts = ("regret_E", "absolute_E", "prior_E")
    return Mixed(**joined, state=HedgeState(*(np.concatenate([getattr(run.state, part) for run in runs]) for part in parts)))


def mix_members(
    mixer: AnyMixer,
    prior_E: Array,
    members: Members,
    z_M: Array,
    y_N: Array,
    loss: Loss,
    *,
    charge: Literal["played", "expected"] = "played",
) -> Mixed:
    """`mix_recorded` of one run (S = 1) at the cost of the awake: the same up to rounding, whatever the number of experts.

    Args:
        mixer: the rule, with `SeparateExperts`.
        prior_E: its prior; shape (E,).
        members: who is awake when; in each round somebody is.
        z_M: predictions of the awake.
        y_N: labels.
        loss: of a prediction and a label.
        charge: what experts are compared with.

    Raises:
        ConfigError: the mixer's rule needs every expert in every round.
        NotFiniteError: a loss is not finite.

    Example:
        >>> import saddlebag as sb
        >>> members = Members.of(np.ones((50, 2)))  # two experts that are awake in every round: 0 says 0, 1 says 1
        >>> run = mix_members(
        ...     sb.make_mixer("ada_normal_hedge"), np.full(2, 0.5), members, np.tile([0.0, 1.0], 50), np.ones(50), SquaredLoss()
        ... )
        >>> float(run.value_NS[0, 0]), bool(run.value_NS[-1, 0] > 0.99)  # nothing is known, then who is right
        (0.5, True)
    """
    if not isinstance(mixer, SeparateExperts):
        raise ConfigError(f"{type(mixer).__name__} looks at all experts in every round; for so many take another mixer")
    if loss == SquaredLoss() and z_M.size >= _LONG and isinstance(mixer, AdaNormalHedge) and compiled() is not None:
        return _mix_hedge(mixer, prior_E, members, z_M, y_N, charge == "played")
    N, start = len(y_N), members.start_N.tolist()
    with np.errstate(over="ignore"):
        loss_M = np.asarray(loss.value(z_M, y_N[members.round_M]))
    guard.check_losses(loss_M)
    state: Any = _apart(mixer.init(np.asarray(prior_E, np.float64)))
    played_N, expected_N, value_N, gap_M = np.empty(N), np.empty(N), np.empty(N), np.empty(len(z_M))
    fell_back = 0
    for t in range(N):
        place = slice(start[t], start[t + 1])
        expert_K, weight_K, z_K, loss_K = members.group_M[place], members.weight_M[place], z_M[place], loss_M[place]
        awake = mixer.among(state, expert_K)
        chosen = distribution(mixer.log_weights(awake), awake.prior_E, weight_K)
        value_N[t], expected_N[t] = chosen.p_E @ z_K, chosen.p_E @ loss_K
        played_N[t] = loss.value(value_N[t], y_N[t])
        charged = played_N[t] if charge == "played" else expected_N[t]
        after = mixer.absorb(awake, weight_K * (mixer.reference(chosen.p_E, loss_K, charged) - loss_K))
        for name in _fields(state):
            getattr(state, name)[expert_K] = getattr(after, name)
        gap_M[place] = np.abs(weight_K * (charged - loss_K))
        fell_back += bool(chosen.fell_back)
    single = _apart(state, new_axis=True)
    largest_S, fell_back_S = np.array([gap_M.max(initial=0.0)]), np.array([float(fell_back)])
    totals = (members.sums(gap_M)[None], largest_S, fell_back_S)
    return Mixed(played_N[:, None], expected_N[:, None], value_N[:, None], *totals, single)


def _fields(state: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(state)]


def _apart(state: Any, *, new_axis: bool = False) -> Any:
    """A state whose arrays have memory of their own each; or, with an axis for the run before that of experts."""
    return type(state)(*(np.array(getattr(state, name))[None if new_axis else ...] for name in _fields(state)))


def _mix_hedge(mixer: AdaNormalHedge, prior_E: Array, members: Members, z_M: Array, y_N: Array, charge_played: bool) -> Mixed:
    """One run, compiled."""
    N, E = len(y_N), members.num_groups
    regret_SE, absolute_SE, p_M = np.zeros((1, E)), np.zeros((1, E)), np.empty(len(z_M))
    charged_N, value_N, fell_back_N = np.empty(N), np.empty(N), np.zeros(N, np.bool_)
    fixed = (np.asarray(prior_E, np.float64), float(mixer.loss_range), charge_played, 0.0)
    rows = (y_N, members.start_N, members.group_M, members.weight_M, z_M)
    compiled().hedge_rounds(regret_SE[0], absolute_SE[0], *fixed, *rows, p_M, charged_N, value_N, fell_back_N)
    with np.errstate(over="ignore"):
        loss_M = (z_M - y_N[members.round_M]) ** 2
    guard.check_losses(loss_M)
    expected_N = np.bincount(members.round_M, weights=p_M * loss_M, minlength=N).astype(np.float64)
    largest = np.abs(members.weight_M * (charged_N[members.round_M] - loss_M)).max(initial=0.0)
    state = HedgeState(regret_SE, absolute_SE, np.asarray(prior_E, np.float64)[None])
    return Mixed(
        played_NS=((value_N - y_N) ** 2)[:, None],
        expected_NS=expected_N[:, None],
        value_NS=value_N[:, None],
        absolute_SE=mixer.loss_range * absolute_SE,
        largest_S=np.array([largest]),
        fell_back_S=np.array([float(fell_back_N.sum())]),
        state=state,
    )


def replay_groups(learner: AnyLearner, x_N: Any, y_N: Any, awake_NG: Array | npt.NDArray[np.bool_], *, seed: int = 0) -> Array:
    """The predictions of every group's learner on its rounds, each before its label; 0 where the group sleeps.

    As `replay_members`, of a table: `awake_NG` holds memberships in [0, 1], and the predictions have the shape (N, G).

    Example:
        >>> import saddlebag as sb
        >>> awake_NG = np.array([[1, 0], [1, 1], [1, 0]])
        >>> replay_groups(sb.make_learner("ridge", 1), np.ones((3, 1)), np.array([1.0, 4.0, 1.0]), awake_NG).round(2).tolist()
        [[0.0, 0.0], [0.5, 0.0], [1.67, 0.0]]
    """
    members = Members.of(awake_NG)
    z_NG = np.zeros(awake_NG.shape)
    z_NG[members.round_M, members.group_M] = replay_members(learner, x_N, y_N, members, seed=seed)
    return z_NG


def replay_members(learner: AnyLearner, x_N: Any, y_N: Any, members: Members, *, seed: int = 0) -> Array:
    """The predictions of every group's learner on its rounds, each before its label.

    A learner that `Replays` is asked for one group's rounds after the other; others go round by round.

    Args:
        learner: as configured.
        x_N: contexts.
        y_N: labels.
        members: who is awake when; rounds count in part for the group's learner, too.
        seed: of the rounds' draws.

    Returns:
        float64, one for each membership, shape (M,).

    Raises:
        ConfigError: a membership is neither 0 nor 1, and the learner cannot count rounds in part.
        NotFiniteError: a round cannot be learned with finite numbers.

    Example:
        >>> import saddlebag as sb
        >>> x_ND, y_N, awake_NG = np.ones((3, 1)), np.array([1.0, 4.0, 1.0]), np.array([[1, 0], [1, 1], [1, 0]])
        >>> replay_groups(sb.make_learner("ridge", 1), x_ND, y_N, awake_NG).round(2).tolist()  # each before its label
        [[0.0, 0.0], [0.5, 0.0], [1.67, 0.0]]
    """
    z_M, weight_M = np.zeros(len(members.group_M)), members.weight_M
    whole, told = weights.are_whole(weight_M), cast("object", learner)
    if not whole:
        weights.weighted(learner)
    if isinstance(told, Replays) and (whole or isinstance(told, ReplaysWeighted)):
        for _, place_K, round_K in members.by_group():
            x_K, y_K, weight_K = x_N[round_K], y_N[round_K], weight_M[place_K]
            if isinstance(told, ReplaysWeighted) and not weights.are_whole(weight_K):
                z_M[place_K] = told.replay_weighted(x_K, y_K, weight_K)
            else:
                z_M[place_K] = told.replay(x_K, y_K)
        guard.check_predictions(learner, z_M)
        return z_M
    state, start = learner.init(members.num_groups), members.start_N.tolist()
    for t in range(len(members)):
        place = slice(start[t], start[t + 1])
        group_K, weight_K = members.group_M[place], weight_M[place]
        z_M[place] = weights.predict(learner, state, x_N[t], group_K, weight_K, Draws(seed, t))
        guard.advance(learner, state, x_N[t], y_N[t], group_K, weight_K)
    guard.check_predictions(learner, z_M)
    return z_M
