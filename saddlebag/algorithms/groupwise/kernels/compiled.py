"""Ridge regression and AdaNormalHedge as compiled loops over many rounds. Imported by `loader.py` only.

A learner sees no weight, so all its rounds are taken in one go, while its inverse stays in the cache; the mixer follows.
Sums are formed in another order than numpy's products of matrices form them: equal up to rounding, not bit for bit.

Of an inverse only the lower triangle is kept, read and written once in two rounds: the rank-one steps of the last two are
pending, and are taken row by row as the rows are multiplied with the next two contexts.

Legend: N rounds, G groups, D features, M memberships in all, K those of one group or one round.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numba
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from saddlebag.algorithms.groupwise.base import Array, Index

_ANY_ORDER = {"reassoc", "contract", "nsz"}  # of sums
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": _ANY_ORDER}


def jit(function: Any) -> Any:
    """Compiled at the first call, and kept on disk where numba finds a place to write."""
    try:
        return numba.njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:
        return numba.njit(**_OPTIONS)(function)


@jit
def last_product(row_D: Array, pending_2D: Array, x_2D: Array, u_2D: Array) -> None:
    """The last row of `pair_products`, where there is an odd number of them."""
    last = len(row_D) - 1
    p, q, v, w, f, g = pending_2D[0, last], pending_2D[1, last], x_2D[0, last], x_2D[1, last], 0.0, 0.0
    for j in range(last + 1):
        row_D[j] -= p * pending_2D[0, j] + q * pending_2D[1, j]
        f += x_2D[0, j] * row_D[j]
        g += x_2D[1, j] * row_D[j]
    for j in range(last):
        u_2D[0, j] += v * row_D[j]
        u_2D[1, j] += w * row_D[j]
    u_2D[0, last], u_2D[1, last] = f, g


@jit
def pair_products(inverse_DD: Array, pending_2D: Array, x_2D: Array, u_2D: Array) -> None:
    """Take A^-1's two pending steps while forming u = A^-1 x for two contexts; two rows at a time share what they read."""
    D = x_2D.shape[1]
    p_D, q_D, v_D, w_D, f_D, g_D = pending_2D[0], pending_2D[1], x_2D[0], x_2D[1], u_2D[0], u_2D[1]
    for i in range(0, D - 1, 2):
        one_D, two_D = inverse_DD[i], inverse_DD[i + 1]
        p_i, p_k, q_i, q_k = p_D[i], p_D[i + 1], q_D[i], q_D[i + 1]
        v_i, v_k, w_i, w_k = v_D[i], v_D[i + 1], w_D[i], w_D[i + 1]
        f_i, f_k, g_i, g_k = 0.0, 0.0, 0.0, 0.0
        for j in range(i):
            one = one_D[j] - p_i * p_D[j] - q_i * q_D[j]
            two = two_D[j] - p_k * p_D[j] - q_k * q_D[j]
            one_D[j] = one
            two_D[j] = two
            f_D[j] += v_i * one + v_k * two
            g_D[j] += w_i * one + w_k * two
            f_i += v_D[j] * one
            f_k += v_D[j] * two
            g_i += w_D[j] * one
            g_k += w_D[j] * two
        one_D[i] -= p_i * p_i + q_i * q_i
        two_D[i] -= p_k * p_i + q_k * q_i
        two_D[i + 1] -= p_k * p_k + q_k * q_k
        corner, side, end = one_D[i], two_D[i], two_D[i + 1]
        f_D[i], f_D[i + 1] = f_i + v_i * corner + v_k * side, f_k + v_i * side + v_k * end
        g_D[i], g_D[i + 1] = g_i + w_i * corner + w_k * side, g_k + w_i * side + w_k * end
    if D % 2:
        last_product(inverse_DD[D - 1], pending_2D, x_2D, u_2D)


@jit
def ridge_pair(
    inverse_DD: Array, theta_D: Array, pending_2D: Array, u_2D: Array, x_2D: Array, y: float, later_y: float
) -> tuple[float, float]:
    """Two rounds of one group: theta moves, their steps are left pending; returns the predictions, each before its label."""
    pair_products(inverse_DD, pending_2D, x_2D, u_2D)
    x_D, later_D, u_D, after_D = x_2D[0], x_2D[1], u_2D[0], u_2D[1]
    s, z, shared, later_s, later_z = 1.0, 0.0, 0.0, 1.0, 0.0
    for j in range(len(theta_D)):
        s += x_D[j] * u_D[j]
        z += x_D[j] * theta_D[j]
        shared += later_D[j] * u_D[j]
    gain, root, shared = (y - z) / s, 1.0 / math.sqrt(s), shared / s
    for j in range(len(theta_D)):
        theta_D[j] += gain * u_D[j]
        pending_2D[0, j] = root * u_D[j]
        after_D[j] -= shared * u_D[j]  # the first round's step, of which the product did not know
        later_s += later_D[j] * after_D[j]
        later_z += later_D[j] * theta_D[j]
    gain, root = (later_y - later_z) / later_s, 1.0 / math.sqrt(later_s)
    for j in range(len(theta_D)):
        theta_D[j] += gain * after_D[j]
        pending_2D[1, j] = root * after_D[j]
    return z, later_z


@jit
def hedge_weights(group_K: Index, confidence_K: Array, regret_G: Array, absolute_G: Array, prior_G: Array, p_K: Array) -> bool:
    """AdaNormalHedge's p over the awake, in the log domain; returns whether the prior was taken."""
    top = -math.inf
    for k in range(len(group_K)):
        g = group_K[k]
        scale = 3.0 * (absolute_G[g] + 1.0)
        up, down = max(regret_G[g] + 1.0, 0.0), max(regret_G[g] - 1.0, 0.0)
        a = up * up / scale
        rise = -math.expm1(down * down / scale - a)
        p_K[k] = a + math.log(rise * prior_G[g]) if rise > 0.0 else -math.inf
        top = max(top, p_K[k])
    fell_back, total = top == -math.inf, 0.0
    for k in range(len(group_K)):
        weight = prior_G[group_K[k]] if fell_back else math.exp(p_K[k] - top)
        p_K[k] = weight * confidence_K[k]
        total += p_K[k]
    for k in range(len(group_K)):
        p_K[k] /= total
    return fell_back


@jit
def ridge_pass(inverse_DD: Array, theta_D: Array, x_ND: Array, y_N: Array, row_K: Index, z_K: Array) -> None:
    """All rounds of one group: `z_K` becomes its predictions, each before its label; inverse and theta change in place."""
    D, K = len(theta_D), len(row_K)
    pending_2D, u_2D, x_2D = np.zeros((2, D)), np.zeros((2, D)), np.zeros((2, D))
    for k in range(0, K, 2):
        x_2D[0], y, later_y = x_ND[row_K[k]], y_N[row_K[k]], 0.0
        if k + 1 < K:
            x_2D[1], later_y = x_ND[row_K[k + 1]], y_N[row_K[k + 1]]
        else:
            x_2D[1] = 0.0  # a round of zeros moves nothing
        z_K[k], later_z = ridge_pair(inverse_DD, theta_D, pending_2D, u_2D, x_2D, y, later_y)
        if k + 1 < K:
            z_K[k + 1] = later_z
    for i in range(D):
        for j in range(i + 1):
            inverse_DD[i, j] -= pending_2D[0, i] * pending_2D[0, j] + pending_2D[1, i] * pending_2D[1, j]
        for j in range(i):
            inverse_DD[j, i] = inverse_DD[i, j]


@jit
def hedge_rounds(
    regret_G: Array,
    absolute_G: Array,
    prior_G: Array,
    loss_range: float,
    charge_played: bool,
    default: float,
    y_N: Array,
    start_N: Index,
    group_M: Index,
    confidence_M: Array,
    z_M: Array,
    p_M: Array,
    charged_N: Array,
    value_N: Array,
    fell_back_N: npt.NDArray[np.bool_],
) -> None:
    """Mix N rounds of predictions under squared loss.

    Memberships are sorted by rounds; those of round t are `start_N[t]` to `start_N[t + 1]` (N + 1 entries). R and C change in
    place; the last four arrays are results: weights, what experts were compared with, the mixture, and whether the prior was
    taken.
    """
    for t in range(len(y_N)):
        a, b, y = start_N[t], start_N[t + 1], y_N[t]
        if a == b:
            value_N[t], charged_N[t] = default, (default - y) ** 2
            continue
        fell_back_N[t] = hedge_weights(group_M[a:b], confidence_M[a:b], regret_G, absolute_G, prior_G, p_M[a:b])
        value, expected = 0.0, 0.0
        for m in range(a, b):
            value += p_M[m] * z_M[m]
            expected += p_M[m] * (z_M[m] - y) ** 2
        charged = (value - y) ** 2 if charge_played else expected
        value_N[t], charged_N[t] = value, charged
        for m in range(a, b):
            r = confidence_M[m] * (charged - (z_M[m] - y) ** 2) / loss_range
            regret_G[group_M[m]] += r
            absolute_G[group_M[m]] += abs(r)
