"""Online gradient descent on a ball, with the step that needs no constant but the radius; batched over groups.

Zinkevich 2003; step and constant as in Streeter, McMahan 2010: with D = 2 radius the diameter and g the gradients of a
group's own rounds,

    theta <- projection of theta - D / sqrt(2 sum |g|^2) g,        regret <= D sqrt(2 sum |g|^2).

A group's sums run on its own clock: sleeping rounds shrink no step. A round that counts w times has the gradient w g.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.algorithms.groupwise.base import LearnerDefaults, PredictsUnweighted, check_positive, copied, joined
from saddlebag.algorithms.groupwise.learners.linear import LinearLossName, check_loss, predicted, slope
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    import numpy.typing as npt

    from saddlebag.algorithms.groupwise.base import Array, Index, Sums
    from saddlebag.compression import Draws

__all__ = ["Gradient"]

_USUAL = 1e15  # of |x|^2, labels and the radius: |g|^2 then stays below 1e76, and models lie in their ball


@dataclasses.dataclass(frozen=True, eq=False)
class GradientState:
    """The models of G groups: theta, the sum of squared gradient norms, and rounds learned."""

    theta_GD: Array
    square_G: Array
    count_G: Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gradient(PredictsUnweighted, LearnerDefaults):
    """Online gradient descent for each group.

    Attributes:
        dimension: D >= 1 features; give a constant one for an intercept.
        loss: "squared", "absolute" or "logistic".
        radius: models lie in the ball |theta| <= radius; regret is to the best of these.

    Example:
        >>> import numpy as np
        >>> import saddlebag as sb
        >>> from saddlebag.compression import Draws
        >>> learner = sb.make_learner("gradient", 2)
        >>> state = learner.init(3)  # of three groups
        >>> group_K = np.array([0, 2])
        >>> learner.predict(state, np.ones(2), group_K, Draws(0, 0)).shape
        (2,)
    """

    dimension: int
    loss: LinearLossName = "squared"
    radius: float = 3.0

    def __post_init__(self) -> None:
        if self.dimension < 1:
            raise ConfigError(f"dimension must be at least 1, got {self.dimension}")
        check_loss(self.loss)
        check_positive("radius", self.radius)

    def init(self, num_groups: int) -> GradientState:
        return GradientState(np.zeros((num_groups, self.dimension)), np.zeros(num_groups), np.zeros(num_groups))

    def predict(self, state: GradientState, x: Array, group_K: Index, draws: Draws) -> Array:
        del draws
        return predicted(self.loss, state.theta_GD[group_K] @ x)

    def is_usual(self, x: Array, y: float) -> bool:
        return bool(np.vdot(x, x) <= _USUAL) and abs(y) <= _USUAL and self.radius <= _USUAL

    def advance(self, state: GradientState, x: Array, y: float, group_K: Index) -> None:
        self.advance_weighted(state, x, y, group_K, np.ones(len(group_K)))

    def advance_weighted(self, state: GradientState, x: Array, y: float, group_K: Index, weight_K: Array) -> None:
        slope_K = weight_K * slope(self.loss, state.theta_GD[group_K] @ x, y)
        self._step(state, group_K, slope_K[:, None] * x, slope_K**2 * (x @ x), weight_K)

    def _step(self, state: GradientState, group_K: Index, gradient_KD: Array, square_K: Array, count_K: Array) -> None:
        state.square_G[group_K] += square_K
        state.count_G[group_K] += count_K
        total_K = state.square_G[group_K]
        step_K = 2.0 * self.radius / np.sqrt(2.0 * np.where(total_K > 0, total_K, 1.0))
        theta_KD = state.theta_GD[group_K] - step_K[:, None] * gradient_KD
        norm_K = np.sqrt((theta_KD * theta_KD).sum(axis=1))
        theta_KD *= np.minimum(1.0, self.radius / np.maximum(norm_K, 1e-300))[:, None]
        state.theta_GD[group_K] = theta_KD

    def sums(self, state: GradientState, x_N: Array, y_N: Array, member_NG: npt.NDArray[np.bool_]) -> Sums:
        """Gradients at the frozen models, summed; so the block is one round of a steeper loss."""
        return self.sums_weighted(state, x_N, y_N, member_NG.astype(np.float64))

    def sums_weighted(self, state: GradientState, x_N: Array, y_N: Array, weight_NG: Array) -> Sums:
        slope_NG = np.where(weight_NG > 0, slope(self.loss, x_N @ state.theta_GD.T, np.asarray(y_N)[:, None]), 0.0)
        return {"gradient_GD": (weight_NG * slope_NG).T @ x_N, "count_G": weight_NG.sum(axis=0)}

    def merge(self, state: GradientState, sums: Sums) -> GradientState:
        after = copied(state)
        group_K, gradient_GD = np.flatnonzero(sums["count_G"]), sums["gradient_GD"]
        gradient_KD = gradient_GD[group_K]
        self._step(after, group_K, gradient_KD, (gradient_KD**2).sum(axis=1), sums["count_G"][group_K])
        return after

    def grow(self, state: GradientState, extra: int) -> GradientState:
        return joined(state, self.init(extra), axis=0)
