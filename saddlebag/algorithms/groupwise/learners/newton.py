"""Online Newton Step with predictions kept in an interval, batched over groups.

Hazan, Agarwal, Kale 2007; the domain {theta: |theta' x_t| <= bound}, which changes with the round and whose projection is a
formula, is that of Luo, Agarwal, Cesa-Bianchi, Langford 2016 (Theorem 1). With sigma the loss's curvature (`curvature`) and
A = penalty I + sigma sum g g' over a group's own rounds,

    score s = clip(u' x, -bound, bound),   theta = u - (u' x - s) A^-1 x / (x' A^-1 x),   g = l'(s) x,   u <- theta - A^-1 g,

    regret <= (penalty / 2) |theta*|^2 + (1 / (2 sigma)) ln det(A_T / penalty)  to every theta* with |theta*' x_t| <= bound.

A round that counts w <= 1 times has the loss w l, of which g is w l'(s) x, and adds sigma w l'(s)^2 x x' to A: then
w^2 l'^2 x' A^-1 x is at most w / sigma times what ln det(A) grows by, and the bound stays.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.algorithms.groupwise.base import LearnerDefaults, PredictsUnweighted, check_positive, copied, joined
from saddlebag.algorithms.groupwise.learners.linear import LinearLossName, check_loss, curvature, predicted, slope
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    import numpy.typing as npt

    from saddlebag.algorithms.groupwise.base import Array, Index, Sums
    from saddlebag.compression import Draws

__all__ = ["Newton"]

_SMALL = 1e-300
_ROOM, _FAR, _USUAL = 1e10, 1e3, 1e25  # of |x|^2 / penalty, of a label to the bound, of a penalty: far from float64's ends


@dataclasses.dataclass(frozen=True, eq=False)
class NewtonState:
    """The models of G groups: A^-1, u, and rounds learned."""

    inverse_GDD: Array
    theta_GD: Array
    count_G: Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Newton(PredictsUnweighted, LearnerDefaults):
    """Online Newton Step for each group.

    Attributes:
        dimension: D >= 1 features; give a constant one for an intercept.
        loss: "squared" or "logistic".
        bound: scores, and for "squared" labels too, lie in [-bound, bound].
        penalty: of |theta|^2 / 2, positive.

    Example:
        >>> import numpy as np
        >>> import saddlebag as sb
        >>> from saddlebag.compression import Draws
        >>> learner = sb.make_learner("newton", 2)
        >>> state = learner.init(3)  # of three groups
        >>> group_K = np.array([0, 2])
        >>> learner.predict(state, np.ones(2), group_K, Draws(0, 0)).shape
        (2,)
    """

    dimension: int
    loss: LinearLossName = "squared"
    bound: float = 1.0
    penalty: float = 1.0

    def __post_init__(self) -> None:
        if self.dimension < 1:
            raise ConfigError(f"dimension must be at least 1, got {self.dimension}")
        check_loss(self.loss, ("squared", "logistic"))
        check_positive("bound", self.bound)
        check_positive("penalty", self.penalty)

    @property
    def _sigma(self) -> float:
        """The loss's curvature on the interval of scores."""
        return curvature(self.loss, self.bound)

    def init(self, num_groups: int) -> NewtonState:
        inverse_GDD = np.tile(np.eye(self.dimension) / self.penalty, (num_groups, 1, 1))
        return NewtonState(inverse_GDD, np.zeros((num_groups, self.dimension)), np.zeros(num_groups))

    def _scores(self, state: NewtonState, x: Array, group_K: Index) -> Array:
        return np.clip(state.theta_GD[group_K] @ x, -self.bound, self.bound)

    def predict(self, state: NewtonState, x: Array, group_K: Index, draws: Draws) -> Array:
        del draws
        return predicted(self.loss, self._scores(state, x, group_K))

    def is_usual(self, x: Array, y: float) -> bool:
        return bool(np.vdot(x, x) <= _ROOM * self.penalty) and abs(y) <= _FAR * max(1.0, self.bound) and self.penalty <= _USUAL

    def advance(self, state: NewtonState, x: Array, y: float, group_K: Index) -> None:
        self.advance_weighted(state, x, y, group_K, np.ones(len(group_K)))

    def advance_weighted(self, state: NewtonState, x: Array, y: float, group_K: Index, weight_K: Array) -> None:
        score_K = self._scores(state, x, group_K)
        inverse_KDD, theta_KD = state.inverse_GDD[group_K], state.theta_GD[group_K]
        v_KD = inverse_KDD @ x
        q_K = v_KD @ x
        excess_K = theta_KD @ x - score_K
        slope_K = slope(self.loss, score_K, y)
        shrink_K = 1.0 / (
            1.0 + weight_K * (self._sigma * slope_K**2 * q_K)
        )  # A^-1 g after the update of A is A^-1 g before it, shrunk
        theta_KD -= v_KD * (excess_K / np.maximum(q_K, _SMALL) + weight_K * (slope_K * shrink_K))[:, None]
        gain_KD = v_KD * (slope_K * np.sqrt(weight_K * (self._sigma * shrink_K)))[:, None]
        inverse_KDD -= gain_KD[:, :, None] * gain_KD[:, None, :]
        state.inverse_GDD[group_K], state.theta_GD[group_K] = inverse_KDD, theta_KD
        state.count_G[group_K] += weight_K

    def sums(self, state: NewtonState, x_N: Array, y_N: Array, member_NG: npt.NDArray[np.bool_]) -> Sums:
        """Gradients at the frozen models and their outer products, summed."""
        return self.sums_weighted(state, x_N, y_N, member_NG.astype(np.float64))

    def sums_weighted(self, state: NewtonState, x_N: Array, y_N: Array, weight_NG: Array) -> Sums:
        score_NG = np.clip(x_N @ state.theta_GD.T, -self.bound, self.bound)
        slope_NG = np.where(weight_NG > 0, slope(self.loss, score_NG, np.asarray(y_N)[:, None]), 0.0)
        root_NG = np.sqrt(weight_NG)
        G, D = state.theta_GD.shape
        outer_GDD = np.zeros((G, D, D))
        for g in np.flatnonzero(weight_NG.any(axis=0)):
            row_ND = x_N * (root_NG * slope_NG)[:, g, None]
            outer_GDD[g] = row_ND.T @ row_ND
        return {"gradient_GD": (weight_NG * slope_NG).T @ x_N, "outer_GDD": outer_GDD, "count_G": weight_NG.sum(axis=0)}

    def merge(self, state: NewtonState, sums: Sums) -> NewtonState:
        after, group_K = copied(state), np.flatnonzero(sums["count_G"])
        if not len(group_K):
            return after
        gram_KDD = np.linalg.inv(state.inverse_GDD[group_K]) + self._sigma * sums["outer_GDD"][group_K]
        inverse_KDD = np.linalg.inv(gram_KDD)
        inverse_KDD = (inverse_KDD + inverse_KDD.swapaxes(1, 2)) / 2.0
        after.inverse_GDD[group_K] = inverse_KDD
        after.theta_GD[group_K] -= (inverse_KDD @ sums["gradient_GD"][group_K][..., None])[..., 0]
        after.count_G[group_K] += sums["count_G"][group_K]
        return after

    def grow(self, state: NewtonState, extra: int) -> NewtonState:
        return joined(state, self.init(extra), axis=0)
