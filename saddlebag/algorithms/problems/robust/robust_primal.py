"""The primal function of robust logistic regression, phi(x) = max_q f(x, q), and its minimiser.

The inner maximum is a projection, so phi is smooth and strongly convex in the F coordinates of x alone, whatever the
number of samples: a few Newton steps give the saddle point to rounding.

Shapes: N = samples, F = features.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.algorithms.problems.data.rows import Rows, norm
from saddlebag.algorithms.problems.simplex import project_simplex

if TYPE_CHECKING:
    from collections.abc import Callable

    from saddlebag.compression.payload import Vector

_MAX_STEPS = 100
_SMALLEST_STEP = 1e-6
_ARMIJO = 1e-4
_ROUNDING = 1e-15  # of the gradient, relative to the scale of its terms


def logistic(margin_N: Vector) -> tuple[Vector, Vector]:
    """log(1 + exp(-m)) and minus its derivative 1/(1 + exp(m)), without overflow at any margin."""
    tail_N = np.exp(-np.abs(margin_N))
    loss_N = np.log1p(tail_N) + np.maximum(-margin_N, 0.0)
    slope_N = np.where(margin_N >= 0, tail_N, 1.0) / (1.0 + tail_N)
    return loss_N, slope_N


@dataclasses.dataclass(frozen=True, eq=False)
class Point:
    """phi at x.

    Attributes:
        x_F: the point.
        margin_N: b_i a_i'x.
        loss_N: log(1 + exp(-margin)).
        slope_N: minus its derivative.
        weight_N: the maximiser q.
        value: phi(x) = f(x, q).
    """

    x_F: Vector
    margin_N: Vector
    loss_N: Vector
    slope_N: Vector
    weight_N: Vector
    value: float


@dataclasses.dataclass(frozen=True, eq=False)
class Primal:
    """phi(x) = (lam/2)|x|^2 + max over the simplex of q'loss(x)/sqrt N - (nu/2)|q - 1/sqrt N|^2.

    Attributes:
        rows: b_i a_i, the rows times their labels.
        lam: of the regulariser of x.
        nu: of the regulariser of q.
    """

    rows: Rows
    lam: float
    nu: float

    def at(self, x_F: Vector) -> Point:
        """The value of phi and what it is made of; one product with the rows."""
        unit = self.rows.shape[0] ** -0.5
        margin_N = self.rows.times(x_F)
        loss_N, slope_N = logistic(margin_N)
        weight_N = project_simplex(unit + loss_N * (unit / self.nu), 1 / unit)
        distance_N = weight_N - unit
        penalty = 0.5 * self.lam * norm(x_F) ** 2 - 0.5 * self.nu * norm(distance_N) ** 2
        value = unit * float(np.sum(weight_N * loss_N)) + penalty
        return Point(x_F, margin_N, loss_N, slope_N, weight_N, value)

    def gradient(self, point: Point, weight_N: Vector) -> Vector:
        """grad_x f(x, q), which at the maximiser q is the gradient of phi (Danskin 1966)."""
        pull_F = self.rows.transposed_times(weight_N * point.slope_N)
        gradient_F: Vector = self.lam * point.x_F - self.rows.shape[0] ** -0.5 * pull_F
        return gradient_F

    def hessian(self, point: Point) -> Callable[[Vector], Vector]:
        """The map d -> H d, H a generalised Hessian of phi (the projection is differentiable on its active set)."""
        num_rows = self.rows.shape[0]
        active_N = point.weight_N > 0
        curvature_N = num_rows**-0.5 * point.weight_N * point.slope_N * (1 - point.slope_N)

        def times(d_F: Vector) -> Vector:
            along_N = self.rows.times(d_F)
            change_N = point.slope_N * along_N
            change_N = np.where(active_N, change_N - change_N[active_N].mean(), 0.0)
            bend_N = curvature_N * along_N + point.slope_N * change_N / (num_rows * self.nu)
            return self.lam * d_F + self.rows.transposed_times(bend_N)

        return times

    def minimise(self) -> Point:
        """The minimiser, to rounding: semi-smooth Newton steps (Qi, Sun 1993) by conjugate gradients, with backtracking."""
        point = self.at(np.zeros(self.rows.shape[1]))
        for _ in range(_MAX_STEPS):
            gradient_F = self.gradient(point, point.weight_N)
            if norm(gradient_F) <= _ROUNDING * (1 + norm(point.x_F)):
                break
            candidate = self._step(point, gradient_F)
            if candidate is None:
                break
            point = candidate
        return point

    def _step(self, point: Point, gradient_F: Vector) -> Point | None:
        """The next point, or None when rounding hides all progress."""
        slope = norm(gradient_F)
        direction_F = _conjugate_gradients(self.hessian(point), -gradient_F, min(0.1, slope**0.5))
        descent = float(gradient_F @ direction_F)
        size = 1.0
        while size >= _SMALLEST_STEP:
            candidate = self.at(point.x_F + size * direction_F)
            if candidate.value < point.value + _ARMIJO * size * descent:
                return candidate
            # near the solution the value no longer tells, but the gradient does
            if norm(self.gradient(candidate, candidate.weight_N)) <= 0.5 * slope:
                return candidate
            size /= 2
        return None


def _conjugate_gradients(times: Callable[[Vector], Vector], right_F: Vector, tolerance: float) -> Vector:
    """H^-1 right to a relative residual (Hestenes, Stiefel 1952); a descent direction at any stage."""
    solution_F = np.zeros_like(right_F)
    residual_F = direction_F = right_F
    square = float(residual_F @ residual_F)
    goal = tolerance**2 * square
    for _ in range(2 * len(right_F) + 10):
        if square <= goal:
            break
        image_F = times(direction_F)
        size = square / float(direction_F @ image_F)
        solution_F = solution_F + size * direction_F
        residual_F = residual_F - size * image_F
        previous, square = square, float(residual_F @ residual_F)
        direction_F = residual_F + (square / previous) * direction_F
    return solution_F
