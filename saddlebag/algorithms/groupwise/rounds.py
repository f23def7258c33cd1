"""Many rounds in one call, each predicted before its label: what `predict` and `learn` do one by one.

Ridge regression under AdaNormalHedge with squared loss, which is the common case, goes through one compiled loop where numba
is installed (the extra `fast`); everything else goes round by round. Both agree up to rounding.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms.groupwise import guard, weights
from saddlebag.algorithms.groupwise import ledger as accounts
from saddlebag.algorithms.groupwise.algorithm import Groupwise, GroupwiseState
from saddlebag.algorithms.groupwise.base import copied
from saddlebag.algorithms.groupwise.kernels import loader
from saddlebag.algorithms.groupwise.learners.ridge import Ridge
from saddlebag.algorithms.groupwise.mixers.ada_normal_hedge import AdaNormalHedge, HedgeState
from saddlebag.compression import Draws
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.algorithms.groupwise.base import Array
    from saddlebag.algorithms.groupwise.ledger import Outcome

__all__ = ["is_fast", "run_rounds"]


def is_fast(algorithm: Groupwise) -> bool:
    """Whether `run_rounds` has one compiled loop for this algorithm.

    Example:
        >>> import saddlebag as sb
        >>> from saddlebag.algorithms.groupwise import SquaredLoss
        >>> algorithm = sb.Groupwise(
        ...     learner=sb.make_learner("ridge", 1), mixer=sb.make_mixer("ada_normal_hedge"), loss=SquaredLoss()
        ... )
        >>> is_fast(sb.Groupwise(learner=algorithm.learner, mixer=sb.make_mixer("adapt_ml_prod"), loss=SquaredLoss()))
        False
    """
    return algorithm.has_loops


def run_rounds(
    algorithm: Groupwise, state: GroupwiseState, x_N: Any, y_N: Any, awake_NG: Array, *, seed: int = 0, compiled: bool = True
) -> tuple[GroupwiseState, Array]:
    """Predict and learn rounds in order, each with its label known before the next.

    Args:
        algorithm: as configured.
        state: before the rounds; not changed.
        x_N: contexts.
        y_N: labels.
        awake_NG: memberships in [0, 1]; shape (N, G).
        seed: of the rounds' draws; a round's number counts from the ledger's.
        compiled: use the compiled loop where there is one.

    Returns:
        The state after the last round, and the predictions.

    Raises:
        ConfigError: the numbers of rounds or groups differ.
        NotFiniteError: a round cannot be learned with finite numbers; `state` is as it was.

    Example:
        >>> import saddlebag as sb
        >>> from saddlebag.algorithms.groupwise import SquaredLoss
        >>> algorithm = sb.Groupwise(
        ...     learner=sb.make_learner("ridge", 1), mixer=sb.make_mixer("ada_normal_hedge"), loss=SquaredLoss()
        ... )
        >>> x_ND, y_N = np.ones((4, 1)), np.array([1.0, -1.0, 1.0, -1.0])
        >>> awake_NG = np.array([[1, 1, 0], [1, 0, 1]] * 2)  # everybody, the even rounds, the odd ones
        >>> state, value_N = run_rounds(algorithm, algorithm.init(3), x_ND, y_N, awake_NG)
        >>> value_N.shape, state.ledger.count_E.tolist()
        ((4,), [4.0, 2.0, 2.0])
    """
    awake_NG = np.asarray(awake_NG, np.float64)
    groups = algorithm.num_groups(state)
    if awake_NG.shape != (len(y_N), groups) or len(x_N) != len(y_N):
        shapes = f"{len(x_N)} contexts, {len(y_N)} labels, memberships {awake_NG.shape}"
        raise ConfigError(f"rounds need memberships of shape (rounds, {groups}), got {shapes}")
    if compiled and len(y_N) and is_fast(algorithm):
        return _fast(algorithm, state, np.ascontiguousarray(x_N, np.float64), np.asarray(y_N, np.float64), awake_NG)
    first, values = state.ledger.rounds, []
    state = GroupwiseState(copied(state.learner), state.mixer, state.ledger)
    for t in range(len(y_N)):
        prediction = algorithm.predict(state, x_N[t], awake_NG[t], Draws(seed, first + t))
        values.append(prediction.value)
        state = algorithm.learn(state, x_N[t], y_N[t], prediction, owned=True)
    return state, np.array(values)


def _fast(
    algorithm: Groupwise, state: GroupwiseState, x_ND: Array, y_N: Array, awake_NG: Array
) -> tuple[GroupwiseState, Array]:
    learner, mixer, kernels = algorithm.learner, algorithm.mixer, loader.compiled()
    assert isinstance(learner, Ridge)
    assert isinstance(mixer, AdaNormalHedge)
    models = learner._settled(state.learner)
    round_M, group_M = np.nonzero(awake_NG)
    confidence_M = awake_NG[round_M, group_M]
    start_N = np.concatenate(([0], np.cumsum(np.bincount(round_M, minlength=len(y_N)))))
    z_M, p_M = np.empty(len(group_M)), np.empty(len(group_M))
    order_M = np.argsort(group_M, kind="stable")
    for group, member_K in zip(*_runs(group_M[order_M], order_M), strict=True):
        z_K, weight_K, row_K = np.empty(len(member_K)), confidence_M[member_K], round_M[member_K]
        if weights.are_whole(weight_K):
            kernels.ridge_pass(models.inverse_GDD[group], models.theta_GD[group], x_ND, y_N, row_K, z_K)
        else:  # rows times the root of their weight
            root_K = np.sqrt(weight_K)
            scaled = (x_ND[row_K] * root_K[:, None], y_N[row_K] * root_K, np.arange(len(row_K)))
            kernels.ridge_pass(models.inverse_GDD[group], models.theta_GD[group], *scaled, z_K)
            z_K /= root_K
        z_M[member_K] = z_K
    if algorithm.interval is not None:
        z_M = np.clip(z_M, *algorithm.interval)
    regret_G, absolute_G = state.mixer.regret_E.copy(), state.mixer.absolute_E.copy()
    charged_N, value_N, fell_back_N = np.empty(len(y_N)), np.empty(len(y_N)), np.zeros(len(y_N), np.bool_)
    fixed = (state.mixer.prior_E, float(mixer.loss_range), algorithm.charge == "played", float(algorithm.default))
    memberships = (start_N, group_M, confidence_M, z_M)
    kernels.hedge_rounds(regret_G, absolute_G, *fixed, y_N, *memberships, p_M, charged_N, value_N, fell_back_N)
    guard.check_predictions(learner, z_M)
    models = guard.checked(learner._taught(models, x_ND, y_N, awake_NG))
    outcome, gap_G = _outcome(y_N, awake_NG, round_M, group_M, z_M, p_M, charged_N, value_N, fell_back_N)
    guard.check_outcome(outcome)
    ledger = accounts.record(state.ledger, outcome)
    ledger = dataclasses.replace(ledger, absolute_E=state.ledger.absolute_E + gap_G)  # round by round, unlike a block's
    return GroupwiseState(models, HedgeState(regret_G, absolute_G, state.mixer.prior_E), ledger), value_N


def _runs(sorted_M: Any, order_M: Any) -> tuple[list[int], list[Any]]:
    """The distinct values of a sorted array, and the part of `order_M` that belongs to each."""
    group_K, first_K = np.unique(sorted_M, return_index=True)
    return group_K.tolist(), np.split(order_M, first_K[1:]) if len(group_K) else []


def _outcome(
    y_N: Array,
    awake_NG: Array,
    round_M: Any,
    group_M: Any,
    z_M: Array,
    p_M: Array,
    charged_N: Array,
    value_N: Array,
    fell_back_N: Any,
) -> tuple[Outcome, Array]:
    """The sums of the rounds for the ledger, and of the absolute regrets of each group."""
    G = awake_NG.shape[1]
    confidence_M, loss_M = awake_NG[round_M, group_M], (z_M - y_N[round_M]) ** 2
    gap_M = np.abs(confidence_M * (charged_N[round_M] - loss_M))

    def per_group(value_M: Array) -> Array:
        return np.bincount(group_M, weights=value_M, minlength=G).astype(np.float64)

    charged_G, loss_G = per_group(confidence_M * charged_N[round_M]), per_group(confidence_M * loss_M)
    outcome = accounts.Outcome(
        awake_E=awake_NG.sum(axis=0),
        loss_E=loss_G,
        charged_E=charged_G,
        regret_E=charged_G - loss_G,
        played=float(((value_N - y_N) ** 2).sum()),
        expected=float(p_M @ loss_M),
        rounds=len(y_N),
        largest=float(gap_M.max(initial=0.0)),
        fell_back=int(fell_back_N.sum()),
        orphans=int((awake_NG.sum(axis=1) == 0).sum()),
    )
    return outcome, per_group(gap_M)
