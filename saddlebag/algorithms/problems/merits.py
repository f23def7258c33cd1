"""Merit functions: how far a point is from solving a variational inequality. Smaller is better, 0 at a solution only.

They are computed on the side, from exact values that a problem knows, and cost a method no counted traffic.

Shapes: D = coordinates of the iterate, G = groups, A, B = actions of the two players.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from saddlebag.algorithms.problems.data.rows import norm
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.algorithms.base import Prox
    from saddlebag.compression.payload import Vector

__all__ = ["affine_gap", "bilinear_gap", "natural_residual", "relative_distance", "worst_group"]

_STEPS = 200  # bisections of the multiplier: each halves its interval, so rounding is reached long before


def relative_distance(z_D: Vector, solution_D: Vector, start_D: Vector) -> float:
    """|z - z*| / |z0 - z*|: 1 at the start; the plain distance when the start solves the problem.

    Example:
        >>> relative_distance(np.array([1.0]), np.array([0.0]), np.array([4.0]))
        0.25
    """
    scale = norm(start_D - solution_D)
    return norm(z_D - solution_D) / (scale if scale > 0 else 1.0)


def natural_residual(z_D: Vector, operator_D: Vector, prox: Prox) -> float:
    """|z - prox(z - F(z), 1)|: 0 exactly at solutions (Facchinei, Pang 2003, Proposition 1.5.8).

    For mu-strongly monotone, L-Lipschitz F the distance to the solution is at most (1 + L)/mu times it (Theorem 2.3.3).

    Args:
        z_D: the point, feasible.
        operator_D: F(z), the mean over the workers.
        prox: of h.

    Example:
        >>> natural_residual(np.array([3.0, 4.0]), np.array([3.0, 4.0]), lambda v_D, step_size: v_D)  # no constraint: |F(z)|
        5.0
    """
    return norm(z_D - prox(z_D - operator_D, 1.0))


def affine_gap(z_D: Vector, matrix_DD: npt.NDArray[np.float64], offset_D: Vector, centre_D: Vector, radius: float) -> float:
    """The restricted gap of F(u) = B u + c: max of <F(u), z - u> over the ball |u - centre| <= radius.

    Nesterov 2007. It is at least 0 for z in the ball, and 0 at a solution inside it. The maximand is concave for monotone F,
    a trust-region problem, solved by its secular equation (More, Sorensen 1983).

    Args:
        z_D: the point.
        matrix_DD: B, with positive semi-definite symmetric part.
        offset_D: c.
        centre_D: of the ball.
        radius: of the ball, positive.

    Raises:
        ConfigError: the radius is not positive, or B is not monotone.

    Example:
        >>> skew = np.array([[0.0, 1.0], [-1.0, 0.0]])
        >>> affine_gap(np.array([3.0, 4.0]), skew, np.zeros(2), np.zeros(2), 2.0)  # radius times |F(z)|
        10.0
    """
    if not radius > 0:
        raise ConfigError(f"radius must be positive, got {radius}")
    value_D, vectors_DD = np.linalg.eigh(matrix_DD + matrix_DD.T)  # of twice the symmetric part
    if value_D[0] < -1e-9 * max(1.0, value_D[-1]):
        raise ConfigError(f"the gap needs a monotone operator; its symmetric part has the eigenvalue {value_D[0] / 2:.1e}")
    value_D = np.maximum(value_D, 0.0)
    # with u = centre + v: <F(u), z - u> = <F(centre), z - centre> + <slope, v> - v'Bv
    base_D = matrix_DD @ centre_D + offset_D
    slope_D = vectors_DD.T @ (matrix_DD.T @ (z_D - centre_D) - base_D)
    v_D = _concave_maximiser(value_D, slope_D, radius)
    return float(base_D @ (z_D - centre_D) + slope_D @ v_D - 0.5 * np.sum(value_D * v_D * v_D))


def _concave_maximiser(curvature_D: Vector, slope_D: Vector, radius: float) -> Vector:
    """The maximiser of slope'v - sum curvature v^2 / 2 over |v| <= radius, in the eigenbasis."""
    steep = norm(slope_D)
    if steep == 0.0:
        return np.zeros_like(slope_D)
    with np.errstate(divide="ignore", invalid="ignore"):
        free_D = np.where(slope_D == 0.0, 0.0, slope_D / curvature_D)
    if norm(free_D) <= radius:
        return free_D
    low, high = 0.0, steep / radius  # |slope / (curvature + multiplier)| decreases, and is at most the radius at `high`
    for _ in range(_STEPS):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        low, high = (middle, high) if norm(slope_D / (curvature_D + middle)) > radius else (low, middle)
    maximiser_D: Vector = slope_D / (curvature_D + high)
    return maximiser_D


def bilinear_gap(payoff_A: Vector, payoff_B: Vector) -> float:
    """The duality gap of a matrix game min over x, max over y of x'Ay on simplices: max_j (A'x)_j - min_i (Ay)_i.

    It is the most that the two players can gain together by answering with their best actions, and bounds what each can.

    Args:
        payoff_A: A y, what each of the minimiser's actions costs.
        payoff_B: A'x, what each of the maximiser's actions earns.

    Example:
        >>> bilinear_gap(np.array([1.0, -1.0]), np.array([0.0, 0.5]))
        1.5
    """
    return float(np.max(payoff_B) - np.min(payoff_A))


def worst_group(loss_N: Vector, mean_GN: npt.NDArray[np.float64]) -> tuple[float, int]:
    """The largest mean over the groups, and whose it is.

    Args:
        loss_N: a loss for each sample.
        mean_GN: each row averages over a group: 1/size on its samples, 0 elsewhere.

    Example:
        >>> worst_group(np.array([1.0, 3.0, 2.0]), np.array([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]]))
        (2.5, 1)
    """
    mean_G = np.vecdot(mean_GN, loss_N)
    worst = int(np.argmax(mean_G))
    return float(mean_G[worst]), worst
