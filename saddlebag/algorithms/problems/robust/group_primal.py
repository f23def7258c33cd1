"""The primal function of group-robust training, phi(x) = max over the weights p of f(x, p), and its minimiser.

With a penalty on p the inner maximum is a projection and phi is smooth and strongly convex in the F coordinates of x
alone: a few Newton steps give the saddle point to rounding, whatever the numbers of samples and groups.

Shapes: N = samples, F = features, G = groups.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from saddlebag.algorithms.problems.data.rows import Rows, norm
from saddlebag.algorithms.problems.robust.robust_primal import logistic
from saddlebag.algorithms.problems.simplex import project_simplex

if TYPE_CHECKING:
    from saddlebag.compression.payload import Vector

_MAX_STEPS = 100
_SMALLEST_STEP = 1e-6
_ARMIJO = 1e-4
_ROUNDING = 1e-14  # of the gradient, relative to the scale of its terms


@dataclasses.dataclass(frozen=True, eq=False)
class GroupPoint:
    """phi at x.

    Attributes:
        x_F: the point.
        slope_N: minus the derivative of each sample's loss.
        weight_G: the maximiser p.
        value: phi(x).
    """

    x_F: Vector
    slope_N: Vector
    weight_G: Vector
    value: float


@dataclasses.dataclass(frozen=True, eq=False)
class GroupPrimal:
    """phi(x) = (lam/2)|x|^2 + max over the simplex of p'l(x) - (nu/2)|p - 1/G|^2, l_g(x) the mean logistic loss of group g.

    With a single group it is the regularised logistic loss.

    Attributes:
        rows: b_i a_i, the rows times their labels.
        mean_GN: row g averages over group g.
        lam: of the regulariser of x, positive.
        nu: of the penalty of p, positive.
    """

    rows: Rows
    mean_GN: npt.NDArray[np.float64]
    lam: float
    nu: float

    def at(self, x_F: Vector) -> GroupPoint:
        """The value of phi and what it is made of."""
        loss_N, slope_N = logistic(self.rows.times(x_F))
        loss_G = np.vecdot(self.mean_GN, loss_N)
        even = 1.0 / len(loss_G)
        weight_G = project_simplex(even + loss_G / self.nu, 1.0)
        value = 0.5 * self.lam * norm(x_F) ** 2 + float(np.sum(weight_G * loss_G)) - 0.5 * self.nu * norm(weight_G - even) ** 2
        return GroupPoint(x_F, slope_N, weight_G, value)

    def gradient(self, point: GroupPoint) -> Vector:
        """The gradient of phi (Danskin 1966)."""
        gradient_F: Vector = self.lam * point.x_F - self.rows.transposed_times((point.weight_G @ self.mean_GN) * point.slope_N)
        return gradient_F

    def hessian(self, point: GroupPoint) -> npt.NDArray[np.float64]:
        """A generalised Hessian: lam I + sum p_g H_g + J'PJ/nu, J the gradients of the l_g, P the projection's derivative."""
        curvature_N = (point.weight_G @ self.mean_GN) * point.slope_N * (1.0 - point.slope_N)
        hessian_FF = self.rows.scaled(np.sqrt(curvature_N)).gram() + self.lam * np.eye(len(point.x_F))
        active = np.flatnonzero(point.weight_G > 0)
        slopes_GF = np.array([self.rows.transposed_times(self.mean_GN[g] * point.slope_N) for g in active])
        slopes_GF = slopes_GF - slopes_GF.mean(axis=0)
        hessian_FF += slopes_GF.T @ slopes_GF / self.nu
        return hessian_FF

    def minimise(self) -> GroupPoint:
        """The minimiser, to rounding: semi-smooth Newton steps (Qi, Sun 1993) with backtracking."""
        point = self.at(np.zeros(self.rows.shape[1]))
        for _ in range(_MAX_STEPS):
            gradient_F = self.gradient(point)
            if norm(gradient_F) <= _ROUNDING * (1.0 + self.lam * norm(point.x_F)):
                break
            candidate = self._step(point, gradient_F)
            if candidate is None:
                break
            point = candidate
        return point

    def _step(self, point: GroupPoint, gradient_F: Vector) -> GroupPoint | None:
        """The next point, or None when rounding hides all progress."""
        direction_F = -np.linalg.solve(self.hessian(point), gradient_F)
        descent, slope = float(gradient_F @ direction_F), norm(gradient_F)
        size = 1.0
        while size >= _SMALLEST_STEP:
            candidate = self.at(point.x_F + size * direction_F)
            if candidate.value < point.value + _ARMIJO * size * descent:
                return candidate
            if norm(self.gradient(candidate)) <= 0.5 * slope:  # near the solution the value no longer tells
                return candidate
            size /= 2
        return None
