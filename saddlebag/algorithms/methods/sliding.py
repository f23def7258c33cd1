"""Local steps: extragradient on a strongly monotone sub-problem, to a residual that the caller's step can bear."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from saddlebag.algorithms.base import Prox
    from saddlebag.compression import Vector

_ROUNDING = 1e-13  # of L |u|: a residual below it is that of float64


def solve(
    operator: Callable[[Vector], Vector],
    prox: Prox,
    start_D: Vector,
    *,
    lipschitz: float,
    relative: float,
    most: int,
    missed: Callable[[], None] = lambda: None,
) -> Vector:
    """A point u with |T(u) + h'(u)| <= relative |u - start| for some h'(u) in dh(u), or the last of `most` steps.

    Extragradient with step 1/(2 L): for a T that is m-strongly monotone each step contracts the squared distance by
    1 - m/(2 L), and the criterion holds after O((L/m) log(1/relative)) steps. The element of dh(u) is that of the last prox.

    Args:
        operator: T, float64 (D,) -> float64 (D,).
        prox: of h.
        start_D: where to begin, feasible.
        lipschitz: L of T.
        relative: the tolerance.
        most: steps, at least 1.
        missed: called where these were not enough, for another reason than rounding.
    """
    step_size, u_D, residual = 1.0 / (2.0 * lipschitz), start_D, 0.0
    value_D = operator(u_D)
    for _ in range(most):
        half_D = operator(prox(u_D - step_size * value_D, step_size))
        next_D = prox(u_D - step_size * half_D, step_size)
        value_D = operator(next_D)
        residual = float(np.linalg.norm(value_D - half_D + (u_D - next_D) / step_size))
        u_D = next_D
        if residual <= relative * float(np.linalg.norm(u_D - start_D)):
            break
    else:
        if residual > _ROUNDING * lipschitz * float(np.linalg.norm(u_D)):
            missed()
    return u_D
