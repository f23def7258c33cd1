"""Ridge regression and AdaNormalHedge as compiled loops over many rounds. Imported by `loader.py` only.

A learner sees no weight, so all its rounds are taken in one go, while its inverse stays in the cache; the mixer follows.
Sums are formed in another order than numpy's products of matrices form them: equal up to rounding, not bit for bit.

Of an inverse only the lower triangle is kept, read and written once in a round: the rank-one step of the last round is pending,
and is taken row by row as the row is multiplied with the new context.

Legend: N rounds, G groups, D features, M memberships in all, K those of one group or one round.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numba

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from saddlebag.algorithms.groupwise.base import Array, Index

__all__ = ["hedge_rounds", "ridge_pass"]

_ANY_ORDER = {"reassoc", "contract", "nsz"}  # of sums
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": _ANY_ORDER}


def jit(function: Any) -> Any:
    """Compiled at the first call, and kept on disk where numba finds a place to write."""
    try:
        return numba.njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:
        return numba.njit(**_OPTIONS)(function)


@jit
def ridge_step(inverse_DD: Array, theta_D: Array, pending_D: Array, u_D: Array, x_D: Array, y: float) -> None:
    """One round of one group: take A^-1's pending step while forming u = A^-1 x, move theta, leave the new step pending."""
    D = len(x_D)
    for i in range(D):
        step, x, below = pending_D[i], x_D[i], 0.0
        row_D = inverse_DD[i]
        for j in range(i):
            entry = row_D[j] - step * pending_D[j]
            row_D[j] = entry
            u_D[j] += x * entry
            below += x_D[j] * entry
        row_D[i] -= step * step
        u_D[i] = below + x * row_D[i]
    s, score = 1.0, 0.0
    for j in range(D):
        s += x_D[j] * u_D[j]
        score += x_D[j] * theta_D[j]
    gain, root = (y - score) / s, 1.0 / math.sqrt(s)
    for j in range(D):
        theta_D[j] += gain * u_D[j]
        pending_D[j] = root * u_D[j]


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
    D = len(theta_D)
    pending_D, u_D = theta_D * 0.0, theta_D * 0.0
    for k in range(len(row_K)):
        x_D, z = x_ND[row_K[k]], 0.0
        for j in range(D):
            z += theta_D[j] * x_D[j]
        z_K[k] = z
        ridge_step(inverse_DD, theta_D, pending_D, u_D, x_D, y_N[row_K[k]])
    for i in range(D):
        for j in range(i + 1):
            inverse_DD[i, j] -= pending_D[i] * pending_D[j]
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
