"""Logistic regression online without the exponential constant: AIOLI, batched over groups.

Jezequel, Gaillard, Rudi 2020, "Efficient improper learning for online logistic regression" (COLT). With p_s the probability
that was predicted and u_s its score, each past loss is replaced by a parabola of curvature w_s = p_s (1 - p_s) / (1 + bound):

    A = penalty I + sum w_s x_s x_s',       b = sum (y_s - p_s + w_s u_s) x_s,
    theta_t = argmin theta' A theta / 2 - b' theta + l(theta' x_t, 1) + l(theta' x_t, 0),

so the score solves u + (x' A^-1 x) tanh(u / 2) = x' A^-1 b, one number for each group. To theta* with |theta*' x_t| <= bound,

    regret <= (penalty / 2) |theta*|^2 + (1 + bound) ln det(A_T / penalty):

the price of a bound on scores is linear, where the Newton step's is its exponential. Predictions are not cut to the bound.

A label between 0 and 1 is that share of a 1 and the rest of a 0: both have parabolas of the same curvature. A round that counts
w <= 1 times counts so in A and b.

Shapes: D = features, G = groups, K = active groups of a round, N = rounds of a block.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.algorithms.groupwise.base import LearnerDefaults, PredictsUnweighted, check_positive, copied, joined
from saddlebag.algorithms.groupwise.learners.linear import predicted
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    import numpy.typing as npt

    from saddlebag.algorithms.groupwise.base import Array, Index, Sums
    from saddlebag.compression import Draws

__all__ = ["Aioli", "logistic"]

_MOST_STEPS = 60  # of Newton's method on a concave increasing function from its left: each doubles the digits near the root
_CLOSE = 1e-13
_ROOM, _USUAL = 1e10, 1e25  # of |x|^2 / penalty, and of a penalty: far from float64's ends


@dataclasses.dataclass(frozen=True, eq=False)
class AioliState:
    """The models of G groups: A^-1, b, and rounds learned."""

    inverse_GDD: Array
    moment_GD: Array
    count_G: Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Aioli(PredictsUnweighted, LearnerDefaults):
    """Online logistic regression for each group: probabilities of labels in 0..1.

    Attributes:
        dimension: D >= 1 features; give a constant one for an intercept.
        bound: regret is to models whose scores lie in [-bound, bound].
        penalty: of |theta|^2 / 2, positive.

    Example:
        >>> from saddlebag.compression import Draws
        >>> learner, one = Aioli(dimension=1), np.zeros(1, np.int64)
        >>> state = learner.init(1)
        >>> for _ in range(20):
        ...     state = learner.update(state, np.ones(1), 1.0, one)
        >>> round(float(learner.predict(state, np.ones(1), one, Draws(0, 0))[0]), 3)
        0.914
    """

    dimension: int
    bound: float = 3.0
    penalty: float = 1.0

    def __post_init__(self) -> None:
        if self.dimension < 1:
            raise ConfigError(f"dimension must be at least 1, got {self.dimension}")
        check_positive("bound", self.bound)
        check_positive("penalty", self.penalty)

    def init(self, num_groups: int) -> AioliState:
        inverse_GDD = np.tile(np.eye(self.dimension) / self.penalty, (num_groups, 1, 1))
        return AioliState(inverse_GDD, np.zeros((num_groups, self.dimension)), np.zeros(num_groups))

    def predict(self, state: AioliState, x: Array, group_K: Index, draws: Draws) -> Array:
        del draws
        v_KD = state.inverse_GDD[group_K] @ x
        return predicted("logistic", _scores(v_KD @ x, (v_KD * state.moment_GD[group_K]).sum(axis=1)))

    def is_usual(self, x: Array, y: float) -> bool:
        return bool(np.vdot(x, x) <= _ROOM * self.penalty) and 0.0 <= y <= 1.0 and 1.0 / _USUAL <= self.penalty <= _USUAL

    def advance(self, state: AioliState, x: Array, y: float, group_K: Index) -> None:
        self.advance_weighted(state, x, y, group_K, np.ones(len(group_K)))

    def advance_weighted(self, state: AioliState, x: Array, y: float, group_K: Index, weight_K: Array) -> None:
        inverse_KDD, moment_KD = state.inverse_GDD[group_K], state.moment_GD[group_K]
        v_KD = inverse_KDD @ x
        q_K = v_KD @ x
        score_K = _scores(q_K, (v_KD * moment_KD).sum(axis=1))
        curve_K, pull_K = self._parabola(score_K, y)
        curve_K, pull_K = weight_K * curve_K, weight_K * pull_K
        gain_KD = v_KD * np.sqrt(curve_K / (1.0 + curve_K * q_K))[:, None]
        state.inverse_GDD[group_K] = inverse_KDD - gain_KD[:, :, None] * gain_KD[:, None, :]
        state.moment_GD[group_K] = moment_KD + pull_K[:, None] * x
        state.count_G[group_K] += weight_K

    def _parabola(self, score: Array, y: Array | float) -> tuple[Array, Array]:
        """Its curvature in the score, and what it adds to b along x."""
        p = predicted("logistic", score)
        curve = p * (1.0 - p) / (1.0 + self.bound)
        return curve, y - p + curve * score

    def predict_block(self, state: AioliState, x_ND: Array, weight_NG: Array | npt.NDArray[np.bool_]) -> Array:
        """The predictions of N rows, shape (N, G); those of sleeping groups are to be ignored."""
        return predicted("logistic", self._block_scores(state, x_ND, weight_NG > 0))

    def _block_scores(self, state: AioliState, x_ND: Array, member_NG: npt.NDArray[np.bool_]) -> Array:
        score_NG = np.zeros(member_NG.shape)
        for g in np.flatnonzero(member_NG.any(axis=0)):
            row_ND = x_ND[member_NG[:, g]]
            v_ND = row_ND @ state.inverse_GDD[g]
            score_NG[member_NG[:, g], g] = _scores((v_ND * row_ND).sum(axis=1), v_ND @ state.moment_GD[g])
        return score_NG

    def sums(self, state: AioliState, x_N: Array, y_N: Array, member_NG: npt.NDArray[np.bool_]) -> Sums:
        """The parabolas at the frozen models, summed."""
        return self.sums_weighted(state, x_N, y_N, member_NG.astype(np.float64))

    def sums_weighted(self, state: AioliState, x_N: Array, y_N: Array, weight_NG: Array) -> Sums:
        curve_NG, pull_NG = self._parabola(self._block_scores(state, x_N, weight_NG > 0), np.asarray(y_N)[:, None])
        G, D = state.moment_GD.shape
        gram_GDD = np.zeros((G, D, D))
        for g in np.flatnonzero(weight_NG.any(axis=0)):
            gram_GDD[g] = (x_N * (weight_NG * curve_NG)[:, g, None]).T @ x_N
        return {"gram_GDD": gram_GDD, "moment_GD": (weight_NG * pull_NG).T @ x_N, "count_G": weight_NG.sum(axis=0)}

    def merge(self, state: AioliState, sums: Sums) -> AioliState:
        after, group_K = copied(state), np.flatnonzero(sums["count_G"])
        if not len(group_K):
            return after
        inverse_KDD = np.linalg.inv(np.linalg.inv(state.inverse_GDD[group_K]) + sums["gram_GDD"][group_K])
        after.inverse_GDD[group_K] = (inverse_KDD + inverse_KDD.swapaxes(1, 2)) / 2.0
        after.moment_GD[group_K] += sums["moment_GD"][group_K]
        after.count_G[group_K] += sums["count_G"][group_K]
        return after

    def grow(self, state: AioliState, extra: int) -> AioliState:
        return joined(state, self.init(extra), axis=0)


def logistic(*, dimension: int, bound: float = 3.0, penalty: float = 1.0) -> Aioli:
    """Online logistic regression: probabilities of labels in 0..1, for the log loss.

    Example:
        >>> logistic(dimension=2).init(1).moment_GD
        array([[0., 0.]])
    """
    return Aioli(dimension=dimension, bound=bound, penalty=penalty)


def _scores(q_K: Array, m_K: Array) -> Array:
    """The roots u of u + q tanh(u / 2) = m, for q >= 0: by Newton's method on |m|, where the left side is concave."""
    m_abs_K = np.abs(m_K)
    u_K = m_abs_K / (1.0 + 0.5 * q_K)  # tanh(u / 2) <= u / 2: left of the root
    for _ in range(_MOST_STEPS):
        bend_K = np.tanh(0.5 * u_K)
        step_K = (m_abs_K - u_K - q_K * bend_K) / (1.0 + 0.5 * q_K * (1.0 - bend_K * bend_K))
        u_K = u_K + step_K
        if not (np.abs(step_K) > _CLOSE * (1.0 + u_K)).any():
            break
    return np.copysign(u_K, m_K)


def volumes(learner: Aioli, state: AioliState) -> Array:
    """(1 + bound) ln det(A / penalty) of each group: the proven regret, less (penalty / 2) |theta*|^2."""
    _, log_G = np.linalg.slogdet(learner.penalty * state.inverse_GDD)
    volume_G: Array = -(1.0 + learner.bound) * log_G
    return volume_G
