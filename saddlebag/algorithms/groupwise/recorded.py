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
from saddlebag.algorithms.groupwise.capabilities import Replays, ReplaysWeighted
from saddlebag.algorithms.groupwise.kernels.loader import compiled
from saddlebag.algorithms.groupwise.losses import SquaredLoss
from saddlebag.algorithms.groupwise.mixers.ada_normal_hedge import AdaNormalHedge, HedgeState
from saddlebag.algorithms.groupwise.mixers.mixing import distribution
from saddlebag.compression import Draws

if TYPE_CHECKING:
    import numpy.typing as npt

    from saddlebag.algorithms.groupwise.base import AnyLearner, AnyMixer, Array
    from saddlebag.algorithms.groupwise.losses import Loss

_LONG = 1 << 17  # numbers from which the loop is compiled; importing numba takes half a second

__all__ = ["Mixed", "mix_recorded", "replay_groups"]


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
    N, S, E = z_NSE.shape
    played_NS, expected_NS, value_NS = np.empty((N, S)), np.empty((N, S)), np.empty((N, S))
    regret_SE, absolute_SE, fell_back_S, largest_S = np.zeros((S, E)), np.zeros((S, E)), np.zeros(S), np.zeros(S)
    for s in range(S):
        round_M, expert_M = np.nonzero(awake_NSE[:, s])
        confidence_M, z_M, p_M = awake_NSE[round_M, s, expert_M], z_NSE[round_M, s, expert_M], np.empty(len(round_M))
        start_N = np.concatenate(([0], np.cumsum(np.bincount(round_M, minlength=N))))
        charged_N, value_N, fell_back_N = np.empty(N), np.empty(N), np.zeros(N, np.bool_)
        y_N = np.ascontiguousarray(y_NS[:, s])
        fixed = (np.asarray(prior_E, np.float64), float(mixer.loss_range), charge_played, 0.0)
        rows = (y_N, start_N, expert_M, confidence_M, z_M)
        compiled().hedge_rounds(regret_SE[s], absolute_SE[s], *fixed, *rows, p_M, charged_N, value_N, fell_back_N)
        with np.errstate(over="ignore"):
            loss_M = (z_M - y_N[round_M]) ** 2
        guard.check_losses(loss_M)
        value_NS[:, s], played_NS[:, s] = value_N, (value_N - y_N) ** 2
        expected_NS[:, s] = np.bincount(round_M, weights=p_M * loss_M, minlength=N)
        largest_S[s] = np.abs(confidence_M * (charged_N[round_M] - loss_M)).max(initial=0.0)
        fell_back_S[s] = fell_back_N.sum()
    state = HedgeState(regret_SE, absolute_SE, np.broadcast_to(np.asarray(prior_E, np.float64), (S, E)))
    return Mixed(played_NS, expected_NS, value_NS, mixer.loss_range * absolute_SE, largest_S, fell_back_S, state)


def replay_groups(learner: AnyLearner, x_N: Any, y_N: Any, awake_NG: Array | npt.NDArray[np.bool_], *, seed: int = 0) -> Array:
    """The predictions of every group's learner on its rounds, each before its label; 0 where the group sleeps.

    A learner that `Replays` is asked for one group's rounds after the other; others go round by round.

    Args:
        learner: as configured.
        x_N: contexts.
        y_N: labels.
        awake_NG: memberships in [0, 1]: rounds count in part for the group's learner, too.
        seed: of the rounds' draws.

    Returns:
        float64, shape (N, G).

    Raises:
        ConfigError: a membership is neither 0 nor 1, and the learner cannot count rounds in part.
        NotFiniteError: a round cannot be learned with finite numbers.

    Example:
        >>> import saddlebag as sb
        >>> x_ND, y_N, awake_NG = np.ones((3, 1)), np.array([1.0, 4.0, 1.0]), np.array([[1, 0], [1, 1], [1, 0]])
        >>> replay_groups(sb.make_learner("ridge", 1), x_ND, y_N, awake_NG).round(2).tolist()  # each before its label
        [[0.0, 0.0], [0.5, 0.0], [1.67, 0.0]]
    """
    N, G = awake_NG.shape
    z_NG = np.zeros((N, G))
    whole, told = weights.are_whole(awake_NG), cast("object", learner)
    if not whole:
        weights.weighted(learner)
    if isinstance(told, Replays) and (whole or isinstance(told, ReplaysWeighted)):
        for g in range(G):
            member_N = awake_NG[:, g] > 0
            x_K, y_K, weight_K = x_N[member_N], y_N[member_N], awake_NG[member_N, g]
            if isinstance(told, ReplaysWeighted) and not weights.are_whole(weight_K):
                z_NG[member_N, g] = told.replay_weighted(x_K, y_K, weight_K)
            else:
                z_NG[member_N, g] = told.replay(x_K, y_K)
        guard.check_predictions(learner, z_NG)
        return z_NG
    state = learner.init(G)
    for t in range(N):
        group_K = np.flatnonzero(awake_NG[t])
        weight_K = awake_NG[t, group_K]
        z_NG[t, group_K] = weights.predict(learner, state, x_N[t], group_K, weight_K, Draws(seed, t))
        guard.advance(learner, state, x_N[t], y_N[t], group_K, weight_K)
    guard.check_predictions(learner, z_NG)
    return z_NG
