"""Lipschitz bounds for games whose maximiser enters linearly, up to a quadratic penalty, and whose samples are divided.

Shapes: N = samples, S = samples of one worker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from saddlebag.algorithms.base import Constants

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from saddlebag.compression.payload import Index


def divided_constants(lipschitz: Callable[[Index, int], float], shards: Sequence[Index], mu: float) -> Constants:
    """Constants of F and of every F_m, where the mean F is the case of a single worker that holds everything.

    Args:
        lipschitz: (samples, how many times their part counts) -> a Lipschitz constant of F_m.
        shards: the samples of each worker; every sample is in exactly one.
        mu: strong monotonicity of F.

    Example:
        >>> shards = (np.array([0, 2]), np.array([1]))
        >>> divided_constants(lambda index_S, weight: float(weight * len(index_S)), shards, 0.1)
        Constants(lipschitz=3.0, lipschitz_workers=(4.0, 2.0), strong_monotonicity=0.1, similarity=None)
    """
    everything_N = np.arange(sum(map(len, shards)))
    return Constants(lipschitz(everything_N, 1), tuple(lipschitz(shard_S, len(shards)) for shard_S in shards), mu)


def saddle_bound(curvature: float, coupling: float, lam: float, nu: float) -> float:
    """An upper bound of |J| for J = [[P, C], [-C', nu I]] with lam I <= P <= a I and |C| <= c.

    |Ju|^2 = |P u1|^2 + |C'u1|^2 + |C u2|^2 + nu^2 |u2|^2 + 2 <(P - nu I) u1, C u2> for u = (u1, u2), hence with
    d = max(a - nu, nu - lam) the square of |J| is at most the larger eigenvalue of

        [[a^2 + c^2, d c], [d c, c^2 + nu^2]].

    On a convex set a bound of the Jacobian of an operator is a Lipschitz constant.

    Args:
        curvature: a.
        coupling: c.
        lam: lower bound of P.
        nu: of the penalty.

    Example:
        >>> round(saddle_bound(3.0, 0.0, 1.0, 2.0), 12), round(saddle_bound(1.0, 1.0, 1.0, 1.0), 12)
        (3.0, 1.414213562373)
    """
    mixed = max(curvature - nu, nu - lam) * coupling
    square = [[curvature**2 + coupling**2, mixed], [mixed, coupling**2 + nu**2]]
    return float(np.sqrt(np.linalg.eigvalsh(square)[-1]))
