"""Follow the perturbed leader over an offline oracle: online linear and combinatorial optimisation, batched over groups.

Kalai, Vempala 2005: decisions d in R^n, a cost vector s each round, and an oracle M(c) = argmin_d c . d. Play

    M(s_1 + .. + s_{t-1} + u / eps_t),     u uniform in [0, 1]^n, fresh in every round, independent for every group,

with eps_t = sqrt(D / (2 R A t)) on the group's own clock (t its rounds so far, the coming one included). With D the L1
diameter of the decisions, |d . s| <= R, |s|_1 <= A (changing rates as in Hutter, Poland 2005),

    E cost <= min + R A sum_t eps_t + D / eps_T <= min + 2 sqrt(2 D R A T).

Fresh noise makes this hold against adaptive adversaries, which the reduction to groups needs. A round that counts w times
has the costs w s, and is w on the clock: sum eps_t w_t^2 R A is then at most sqrt(2 D R A W), W the sum of the weights, and the
bound for the T rounds, W <= T, stays.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Protocol

import numpy as np

from saddlebag.algorithms.groupwise.base import LearnerDefaults, PredictsUnweighted, check_positive, copied, joined
from saddlebag.compression import Purpose

if TYPE_CHECKING:
    from typing import Any

    import numpy.typing as npt

    from saddlebag.algorithms.groupwise.base import Array, Index, Sums
    from saddlebag.compression import Draws

__all__ = ["Oracle", "PerturbedLeader"]


class Oracle(Protocol):
    """An offline minimiser over a set of decisions.

    Example:
        >>> from saddlebag.algorithms.groupwise import grid_graph
        >>> oracle: Oracle = grid_graph(2, 2)
        >>> oracle.best(np.ones((1, oracle.dimension))).sum().item()  # the edges of a cheapest path
        2.0
    """

    @property
    def dimension(self) -> int:
        """The length n of a decision."""

    @property
    def diameter(self) -> float:
        """The largest L1 distance of two decisions."""

    @property
    def largest(self) -> float:
        """The largest sum of a decision's entries in absolute value: its cost when every entry costs 1."""

    def best(self, cost_KN: Array) -> Array:
        """The cheapest decision for each row of costs; float64 (K, n)."""


@dataclasses.dataclass(frozen=True, eq=False)
class PerturbedState:
    """Sums of costs, (G, n), and rounds learned, (G,)."""

    cost_GN: Array
    count_G: Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class PerturbedLeader(PredictsUnweighted, LearnerDefaults):
    """Follow the perturbed leader for each group; the label of a round is its vector of costs, contexts are not used.

    Attributes:
        oracle: the offline minimiser.
        cost_bound: each entry of a cost vector lies in [0, cost_bound].

    Example:
        >>> from saddlebag.algorithms.groupwise import grid_graph
        >>> from saddlebag.compression import Draws
        >>> learner = PerturbedLeader(oracle=grid_graph(2, 2))
        >>> state = learner.init(1)
        >>> for _ in range(200):  # the way over the upper right corner, edges 0 and 2, costs nothing
        ...     state = learner.update(state, None, np.array([0.0, 1.0, 0.0, 1.0]), np.array([0]))
        >>> learner.predict(state, None, np.array([0]), Draws(0, 200)).tolist()
        [[1.0, 0.0, 1.0, 0.0]]
    """

    oracle: Oracle
    cost_bound: float = 1.0

    def __post_init__(self) -> None:
        check_positive("cost_bound", self.cost_bound)

    def _constants(self) -> tuple[float, float]:
        """D, and R A."""
        return self.oracle.diameter, self.oracle.largest * self.cost_bound * self.oracle.dimension * self.cost_bound

    def init(self, num_groups: int) -> PerturbedState:
        return PerturbedState(np.zeros((num_groups, self.oracle.dimension)), np.zeros(num_groups))

    def predict(self, state: PerturbedState, x: Any, group_K: Index, draws: Draws) -> Array:
        del x
        if not len(group_K):
            return np.zeros((0, self.oracle.dimension))
        n = self.oracle.dimension
        noise_KN = np.stack([draws.of(int(g)).own(Purpose.PERTURBATION).uniforms(n) for g in group_K])
        diameter, product = self._constants()
        scale_K = np.sqrt(2.0 * product * (state.count_G[group_K] + 1.0) / diameter)
        return self.oracle.best(state.cost_GN[group_K] + scale_K[:, None] * noise_KN)

    def advance(self, state: PerturbedState, x: Any, y: Array, group_K: Index) -> None:
        del x
        state.cost_GN[group_K] += y
        state.count_G[group_K] += 1.0

    def advance_weighted(self, state: PerturbedState, x: Any, y: Array, group_K: Index, weight_K: Array) -> None:
        del x
        state.cost_GN[group_K] += weight_K[:, None] * y
        state.count_G[group_K] += weight_K

    def sums(self, state: PerturbedState, x_N: Any, y_N: Array, member_NG: npt.NDArray[np.bool_]) -> Sums:
        return self.sums_weighted(state, x_N, y_N, member_NG.astype(np.float64))

    def sums_weighted(self, state: PerturbedState, x_N: Any, y_N: Array, weight_NG: Array) -> Sums:
        cost_GN = weight_NG.T @ np.asarray(y_N).reshape(len(weight_NG), self.oracle.dimension)
        return {"cost_GN": cost_GN, "count_G": weight_NG.sum(axis=0)}

    def merge(self, state: PerturbedState, sums: Sums) -> PerturbedState:
        after = copied(state)
        after.cost_GN[:] += sums["cost_GN"]
        after.count_G[:] += sums["count_G"]
        return after

    def grow(self, state: PerturbedState, extra: int) -> PerturbedState:
        return joined(state, self.init(extra), axis=0)

    def expected_regret_bound(self, rounds: int) -> float:
        """2 sqrt(2 D R A T) after T rounds of a group."""
        diameter, product = self._constants()
        return 2.0 * math.sqrt(2.0 * diameter * product * rounds)
