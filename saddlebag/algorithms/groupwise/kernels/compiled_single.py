"""One round, or the rows of one request, as compiled loops: what `single.py` calls. Imported by `loader.py` only.

Sums are formed in another order than numpy's: equal up to rounding, not bit for bit.

Legend: N rows, G groups, D features, K awake groups, R rows of a learner's buffer.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.algorithms.groupwise.kernels.compiled import hedge_weights, jit

if TYPE_CHECKING:
    import numpy.typing as npt

    from saddlebag.algorithms.groupwise.base import Array, Index

_VANISHING = 1e-200  # of a sum of weights, as in `mixing`


@jit
def score(theta_D: Array, x_D: Array) -> float:
    """A linear model's prediction."""
    z = 0.0
    for j in range(len(theta_D)):
        z += theta_D[j] * x_D[j]
    return z


@jit
def round_mixed(
    theta_GD: Array,
    x_D: Array,
    awake_G: Array,
    regret_G: Array,
    absolute_G: Array,
    prior_G: Array,
    low: float,
    high: float,
    default: float,
    p_G: Array,
    z_G: Array,
) -> tuple[bool, float, bool]:
    """Predict one round: `p_G` and `z_G`, which come as zeros, are filled where groups are awake.

    Returns whether all is well (predictions finite, memberships in [0, 1]), the mixture, and whether the prior was taken.
    """
    group_K = np.flatnonzero(awake_G)
    confidence_K = awake_G[group_K]
    p_K = np.empty(len(group_K))
    if len(group_K) == 0:
        return True, default, False
    fell_back = hedge_weights(group_K, confidence_K, regret_G, absolute_G, prior_G, p_K)
    fine, value = True, 0.0
    for k in range(len(group_K)):
        g = group_K[k]
        z = score(theta_GD[g], x_D)
        fine = fine and math.isfinite(z) and 0.0 < confidence_K[k] <= 1.0
        z_G[g], p_G[g] = min(max(z, low), high), p_K[k]
        value += p_K[k] * z_G[g]
    return fine, value, fell_back


@jit
def rows_mixed(
    theta_GD: Array,
    x_ND: Array,
    awake_NG: Array,
    log_weight_G: Array,
    prior_G: Array,
    low: float,
    high: float,
    default: float,
    p_NG: Array,
    z_NG: Array,
    value_N: Array,
    fell_back_N: npt.NDArray[np.bool_],
) -> bool:
    """Predict N rows from one state, as `shared_distribution` weighs them; the last four arrays are results, and come as zeros.

    Returns whether all is well, as `round_mixed`.
    """
    G, fine, top = len(prior_G), True, -math.inf
    for g in range(G):
        top = max(top, log_weight_G[g])
    weight_G = np.zeros(G)
    if top > -math.inf:
        for g in range(G):
            weight_G[g] = math.exp(log_weight_G[g] - top)
    for n in range(len(x_ND)):
        total, awake = 0.0, 0
        for g in range(G):
            confidence = awake_NG[n, g]
            if confidence != 0.0:
                z = score(theta_GD[g], x_ND[n])
                fine = fine and math.isfinite(z) and 0.0 < confidence <= 1.0
                z_NG[n, g], p_NG[n, g] = min(max(z, low), high), weight_G[g] * confidence
                total += p_NG[n, g]
                awake += 1
        if awake == 0:
            value_N[n] = default
            continue
        if not total >= _VANISHING:
            total, fell_back_N[n] = exact_weights(awake_NG[n], log_weight_G, prior_G, p_NG[n])
        for g in range(G):
            p_NG[n, g] /= total
            value_N[n] += p_NG[n, g] * z_NG[n, g]
    return fine


@jit
def exact_weights(awake_G: Array, log_weight_G: Array, prior_G: Array, p_G: Array) -> tuple[float, bool]:
    """Weights of a row whose awake groups all vanish beside the heaviest: their sum, and whether the prior was taken."""
    top, total = -math.inf, 0.0
    for g in range(len(prior_G)):
        if awake_G[g] != 0.0:
            top = max(top, log_weight_G[g])
    fell_back = top == -math.inf
    for g in range(len(prior_G)):
        if awake_G[g] != 0.0:
            p_G[g] = awake_G[g] * (prior_G[g] if fell_back else math.exp(log_weight_G[g] - top))
            total += p_G[g]
    return total, fell_back


@jit
def ridge_learned(inverse_DD: Array, theta_D: Array, x_D: Array, u_D: Array, y: float) -> None:
    """One round of one group, the whole inverse being written; `u_D` is room for D numbers."""
    D = len(x_D)
    s = 1.0
    for i in range(D):
        u_D[i] = score(inverse_DD[i], x_D)
        s += u_D[i] * x_D[i]
    gain, root = (y - score(theta_D, x_D)) / s, 1.0 / math.sqrt(s)
    for i in range(D):
        theta_D[i] += gain * u_D[i]
        u_D[i] *= root
    for i in range(D):
        step, row_D = u_D[i], inverse_DD[i]
        for j in range(D):
            row_D[j] -= step * u_D[j]


@jit
def round_booked(
    y: float,
    p_G: Array,
    z_G: Array,
    awake_G: Array,
    value: float,
    charge_played: bool,
    loss_range: float,
    limit: float,
    before: tuple[Array, Array, Array, Array, Array, Array],
    after_6G: Array,
) -> tuple[bool, float, float, float]:
    """Book one round of whole members under squared loss: `before`, moved on by the round, becomes `after_6G`.

    The six arrays are the ledger's count, loss, charged and absolute, then R and C of the mixer.

    Returns whether it can be booked (whole members, nothing beyond `limit`), the loss of what was played, the expected loss,
    and the largest regret.
    """
    played, expected, largest, worst = (value - y) ** 2, 0.0, 0.0, 0.0
    for g in range(len(awake_G)):
        if awake_G[g] != 0.0:
            if awake_G[g] != 1.0:
                return False, 0.0, 0.0, 0.0
            expected += p_G[g] * (z_G[g] - y) ** 2
    charged = played if charge_played else expected
    for row in range(6):
        after_6G[row] = before[row]
    for g in range(len(awake_G)):
        if awake_G[g] != 0.0:
            loss = (z_G[g] - y) ** 2
            regret = charged - loss
            step = regret / loss_range
            after_6G[0, g] += 1.0
            after_6G[1, g] += loss
            after_6G[2, g] += charged
            after_6G[3, g] += abs(regret)
            after_6G[4, g] += step
            after_6G[5, g] += abs(step)
            largest = max(largest, abs(regret))
        worst = max(worst, max(abs(after_6G[4, g]), after_6G[5, g]))
    fine = played <= limit and expected <= limit and largest <= limit and worst <= limit
    return fine, played, expected, largest


@jit
def models_taught(
    inverse_GDD: Array,
    theta_GD: Array,
    moment_GD: Array,
    count_G: Array,
    since_G: Array,
    row_RD: Array,
    member_RG: npt.NDArray[np.bool_],
    pending: Index,
    x_D: Array,
    y: float,
    awake_G: Array,
) -> bool:
    """Learn one round of whole members, in place; returns whether the buffer has room for it: nothing is learned without."""
    row, u_D = pending[0], np.empty(len(x_D))
    if not 0 <= row < len(row_RD):
        return False
    for g in range(len(awake_G)):
        member_RG[row, g] = awake_G[g] != 0.0
        if member_RG[row, g]:
            ridge_learned(inverse_GDD[g], theta_GD[g], x_D, u_D, y)
            for j in range(len(x_D)):
                moment_GD[g, j] += y * x_D[j]
            count_G[g] += 1.0
            since_G[g] += 1.0
    for j in range(len(x_D)):
        row_RD[row, j] = x_D[j]
    pending[0] = row + 1
    return True
