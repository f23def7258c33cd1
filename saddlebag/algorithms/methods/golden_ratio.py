"""Golden ratio, uncompressed: steps that every machine finds by itself, with a theorem, and one exchange an iteration.

    zb^k = ((phi - 1) z^k + zb^{k-1})/phi
    lambda_k = min{ rho lambda_{k-1},  phi theta_{k-1} |z^k - z^{k-1}|^2/(4 lambda_{k-1} |F(z^k) - F(z^{k-1})|^2),  most }
    z^{k+1} = prox_{lambda_k h}( zb^k - lambda_k F(z^k) ),  theta_k = phi lambda_k/lambda_{k-1},  rho = 1/phi + 1/phi^2

Malitsky 2020, "Golden ratio algorithms for variational inequalities", Algorithm 1 (adaptive), with phi = 3/2: steps may grow
by a ninth an iteration. No constant is needed. Differs: the first displacement is there to see |dF|/|dz|; the method starts
where it leads, with lambda = |dz|/(2 |dF|).

Proven for monotone F, with E_k = phi/(phi - 1) |zb^k - z*|^2 + (theta_{k-1}/2)|z^k - z^{k-1}|^2:

    E_{k+1} + theta_k |z^k - zb^k|^2 + 2 lambda_k (<F(z^k), z^k - z*> + h(z^k) - h(z*)) <= E_k.

Proof: add the prox inequality of z^{k+1} at z* to that of z^k at z^{k+1}, the latter multiplied by lambda_k/lambda_{k-1}, where
z^k - zb^{k-1} = phi (z^k - zb^k). The squares give

    |z^{k+1} - z*|^2 <= |zb^k - z*|^2 + (theta_k - 1)|z^{k+1} - zb^k|^2 - theta_k (|z^k - zb^k|^2 + |z^{k+1} - z^k|^2)
                        + 2 lambda_k |F(z^k) - F(z^{k-1})||z^{k+1} - z^k| - 2 lambda_k (...).

Write z^{k+1} by zb^{k+1} and zb^k: the factor of |z^{k+1} - zb^k|^2 becomes theta_k - 1 - 1/phi <= 0. By the rule lambda_k^2
|F(z^k) - F(z^{k-1})|^2 <= theta_k theta_{k-1} |z^k - z^{k-1}|^2/4, so the product is covered by half of its squares.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.algorithms.base import Message, Operator, Problem, check_step, square
from saddlebag.algorithms.methods.full import FullExchange, FullServer, FullWorker, WireType, advanced

if TYPE_CHECKING:
    from saddlebag.compression import Draws, Mean, Vector

__all__ = ["golden_ratio"]

_PHI = 1.5
_GROWTH = 1.0 / _PHI + 1.0 / _PHI**2
_MOST = 1e9  # of lambda: the theorem wants a bound, of any size
_SYNC_EVERY = 16  # rounds between comparisons of digests; full vectors travel in every round


@dataclasses.dataclass(frozen=True, eq=False)
class GoldenReplica:
    """z^k, zb^{k-1}, F(z^{k-1}), |z^k - z^{k-1}|^2, lambda_{k-1} and theta_{k-1}."""

    z_D: Vector
    mean_D: Vector
    operator_D: Vector
    moved: float
    step_size: float
    theta: float
    iteration: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class GoldenRatio(FullExchange):
    """Malitsky's adaptive method; `step_size` is the first displacement's, any that is not far too large."""

    def init_replica(self, z_D: Vector) -> GoldenReplica:
        return GoldenReplica(z_D, z_D, np.zeros(len(z_D)), 0.0, self.step_size, 1.0, 0)

    def init_worker(self, replica: GoldenReplica) -> FullWorker:
        return FullWorker(np.zeros(len(replica.z_D)))

    def init_server(self, replica: GoldenReplica) -> FullServer:
        return FullServer(np.zeros(len(replica.z_D)))

    def synchronises(self, replica: GoldenReplica, draws: Draws) -> bool:
        del draws
        return replica.iteration % _SYNC_EVERY == 0

    def uplink_sizes(self, replica: GoldenReplica, draws: Draws) -> tuple[int, ...]:
        del draws
        return (len(replica.z_D),)

    downlink_sizes = uplink_sizes

    def worker_step(
        self, replica: GoldenReplica, own: FullWorker, operator: Operator, draws: Draws
    ) -> tuple[FullWorker, Message]:
        return self._exchange_up(own, operator(replica.z_D, draws))

    def server_step(
        self, replica: GoldenReplica, own: FullServer, means: tuple[Mean, ...], draws: Draws
    ) -> tuple[FullServer, Message]:
        del draws
        return self._exchange_down(own, means, replica.operator_D)

    def replay(self, replica: GoldenReplica, down: Message, draws: Draws) -> GoldenReplica:
        del draws
        operator_D = advanced(replica.operator_D, down.parts[0])
        step_size, theta, mean_D = self._next(replica, operator_D)
        z_D = self.prox(mean_D - step_size * operator_D, step_size)
        return GoldenReplica(z_D, mean_D, operator_D, square(z_D - replica.z_D), step_size, theta, replica.iteration + 1)

    def _next(self, replica: GoldenReplica, operator_D: Vector) -> tuple[float, float, Vector]:
        """lambda_k, theta_k and zb^k."""
        if replica.iteration == 0:
            return replica.step_size, 1.0, replica.z_D
        change, before = square(operator_D - replica.operator_D), replica.step_size
        seen = change > 0.0 and replica.moved > 0.0 and math.isfinite(change) and math.isfinite(replica.moved)
        if replica.iteration == 1:  # the start proper
            first = 0.5 * math.sqrt(replica.moved) / math.sqrt(change) if seen else before
            return min(first, _MOST), 1.0, replica.z_D
        bound = _PHI * replica.theta / (4.0 * before) * (replica.moved / change) if seen else math.inf
        step_size = min(_GROWTH * before, bound, _MOST) or before
        mean_D = ((_PHI - 1.0) * replica.z_D + replica.mean_D) / _PHI
        return step_size, _PHI * step_size / before, mean_D


def golden_ratio(problem: Problem, *, step_size: float | None = None, wire: WireType = "float32") -> GoldenRatio:
    """The golden ratio method for a problem; `step_size` is the first displacement's, 1e-3/L or 1e-6 where L is unknown.

    Example:
        >>> import saddlebag as sb
        >>> game = sb.make_problem("bilinear", n=5, workers=2, regularisation=0.2)
        >>> run = sb.simulate(game, sb.make_method("golden_ratio", game), stop=sb.Stop(max_rounds=60))
        >>> run.merits["relative_error"] < 1.0
        True
    """
    if step_size is None:
        step_size = 1e-6 if problem.constants is None else 1e-3 / problem.constants.lipschitz
    check_step(step_size)
    return GoldenRatio(step_size=step_size, prox=problem.prox, wire=wire)
