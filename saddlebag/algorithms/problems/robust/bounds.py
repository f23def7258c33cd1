"""A Lipschitz bound for games whose maximiser enters linearly, up to a quadratic penalty."""

from __future__ import annotations

import numpy as np

__all__ = ["saddle_bound"]


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
