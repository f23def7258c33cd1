"""Lipschitz constants estimated from operator values, for problems whose constants are unknown.

What is estimated is the norm of the Jacobian J of an operator at a few points, from difference quotients: products J v are
two operator values each, and nothing is exchanged. With k products the best that can be known is the norm of J on the space
they span. Two spaces are used:

    players known   z = (x, y) of a smooth min-max problem: J = S H with S = diag(I, -I) and H symmetric, so J' = S J S and
                    the power method on J'J needs operator values only (two products a step);
    unknown         the Krylov space of J from a random start (Arnoldi 1951): for a normal J, such as that of minimisation
                    or of a bilinear coupling with a multiple of I, it finds the extreme eigenvalues as Lanczos does.

Both give lower bounds of |J| at those points, so a safety factor follows. No sample can prove a bound: strong monotonicity is
reported as 0, and a method that stays stable only below the true 1/L may still diverge; `step_size = "auto"` checks as it runs.

Shapes: D = coordinates, K = products.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from saddlebag.algorithms.agreed.common_part import common_part
from saddlebag.algorithms.base import Constants
from saddlebag.algorithms.problems.data.rows import norm
from saddlebag.compression.draws import Draws
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from saddlebag.algorithms.agreed.common_part import CommonPart
    from saddlebag.algorithms.base import Operator, Problem
    from saddlebag.compression.payload import Vector

    Map = Callable[[Vector], Vector]

SAFETY = 1.25
"""Times the largest norm that was found."""

_PRODUCTS = 24
_POINTS = 3
_RELATIVE = 1e-3  # change of the power method's estimate at which it stops
_STEP = float(np.finfo(np.float64).eps) ** (1 / 3)  # balances rounding and curvature of a central difference


def estimate_norm(operator: Map, z_D: Vector, *, num_min: int | None = None, products: int = _PRODUCTS, seed: int = 0) -> float:
    """A lower bound of the norm of the operator's Jacobian at a point, near to it after a few dozen products.

    Args:
        operator: F, differentiable around the point.
        z_D: the point.
        num_min: coordinates of the minimising player, which come first, if F is the field of a smooth min-max problem.
        products: Jacobian-vector products, two operator values each.
        seed: of the start.

    Raises:
        ConfigError: `num_min` or `products` is out of range.

    Example:
        >>> round(estimate_norm(lambda z_D: np.array([3.0, 1.0]) * z_D, np.ones(2)), 6)
        3.0
    """
    if products < 1:
        raise ConfigError(f"products must be at least 1, got {products}")
    if num_min is not None and not 0 <= num_min <= len(z_D):
        raise ConfigError(f"num_min must lie in 0..{len(z_D)}, got {num_min}")
    size = _STEP * max(1.0, norm(z_D))

    def times(v_D: Vector) -> Vector:
        change_D: Vector = (operator(z_D + size * v_D) - operator(z_D - size * v_D)) / (2.0 * size)
        return change_D

    start_D = np.random.default_rng(seed).standard_normal(len(z_D))
    start_D /= norm(start_D)
    if num_min is None:
        return _krylov(times, start_D, min(products, len(z_D)))
    sign_D = np.where(np.arange(len(z_D)) < num_min, 1.0, -1.0)
    return _power(times, sign_D, start_D, products)


def _power(times: Map, sign_D: Vector, v_D: Vector, products: int) -> float:
    """The power method on J'J, J' = S J S."""
    found = 0.0
    for _ in range(max(1, products // 2)):
        image_D = times(v_D)
        before, found = found, norm(image_D)
        if found == 0.0 or abs(found - before) <= _RELATIVE * found:
            break
        v_D = sign_D * times(sign_D * image_D)
        v_D = v_D / max(norm(v_D), np.finfo(np.float64).tiny)
    return found


def _krylov(times: Map, v_D: Vector, products: int) -> float:
    """The norm of J on the Krylov space of its first products, by modified Gram-Schmidt, twice."""
    basis_KD, images_KD = [v_D], []
    for _ in range(products):
        image_D = times(basis_KD[-1])
        images_KD.append(image_D)
        rest_D = image_D
        for _ in range(2):
            for known_D in basis_KD:
                rest_D = rest_D - float(np.sum(known_D * rest_D)) * known_D
        left = norm(rest_D)
        if left <= 1e-9 * norm(image_D):  # the space is invariant
            break
        basis_KD.append(rest_D / left)
    return float(np.linalg.norm(np.array(images_KD), 2))


def estimate_constants(problem: Problem, *, num_min: int | None = None, products: int = _PRODUCTS) -> Constants:
    """Constants from difference quotients at the start and at a few steps from it, with a safety factor.

    L and each L_m are estimated at the points of a short walk of extragradient with the estimates so far. In this process all
    operators are at hand; where every worker has only its own, each estimates L_m alone, sends that one number, and L is at
    most their mean.

    Args:
        problem: its operators are asked about 2 x products x 3 times each.
        num_min: see `estimate_norm`.
        products: Jacobian-vector products at each point.

    Returns:
        Lipschitz constants with the factor `SAFETY`; strong monotonicity 0.
    """
    operators = [problem.operator(worker) for worker in range(problem.num_workers)]
    maps = [_fixed(operator) for operator in operators]

    def mean(z_D: Vector) -> Vector:
        value_D: Vector = np.mean([each(z_D) for each in maps], axis=0)
        return value_D

    z_D, whole, own = problem.start(), 0.0, [0.0] * len(maps)
    for number in range(_POINTS):
        asked = {"num_min": num_min, "products": products, "seed": number}
        whole = max(whole, estimate_norm(mean, z_D, **asked))  # type: ignore[arg-type]
        own = [max(old, estimate_norm(each, z_D, **asked)) for old, each in zip(own, maps, strict=True)]  # type: ignore[arg-type]
        step = 1.0 / (2.0 * SAFETY * whole) if whole > 0 else 1.0
        half_D = problem.prox(z_D - step * mean(z_D), step)
        z_D = problem.prox(z_D - step * mean(half_D), step)
    floor = float(np.finfo(np.float64).tiny)  # a constant operator
    return Constants(max(SAFETY * whole, floor), tuple(max(SAFETY * each, floor) for each in own), 0.0)


def _fixed(operator: Operator) -> Map:
    """The operator at one draw, so that differences are those of a function."""
    draws = Draws(0, 0)
    return lambda z_D: operator(z_D, draws)


class _Known:
    """A problem with other constants, and otherwise the one inside."""

    def __init__(self, inner: Problem, constants: Constants) -> None:
        self._inner, self.constants = inner, constants

    def common_part(self) -> CommonPart | None:
        return common_part(self._inner)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def with_constants(problem: Problem, constants: Constants) -> Problem:
    """The problem with these constants in place of its own."""
    known: Problem = cast("Any", _Known(problem, constants))
    return known
