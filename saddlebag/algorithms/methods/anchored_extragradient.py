"""Anchored extragradient, uncompressed: the last iterate of merely monotone problems, at the best possible rate.

    zh = z + b (z^0 - z) - (1 - b) gamma F(z),    z+ = z + b (z^0 - z) - gamma F(zh),    b = 1/(k + 1),  k = 0, 1, ...

Yoon, Ryu 2021, "Accelerated algorithms for smooth convex-concave minimax problems with O(1/k^2) rate on squared gradient norm";
in this form Lee, Kim 2021, "Fast extra gradient methods", Theorem 4.1 with rho = 0. No constraints.

With gamma <= 1/L and any z* with F(z*) = 0, |F(z^k)|^2 <= 4 |z^0 - z*|^2/(gamma k)^2, where extragradient has an ergodic rate
and optimistic methods one of order 1/k. Proof: with F = F(z^k), G = F(zh), H = F(z^{k+1}) and

    V_k = (gamma k^2/2)|F|^2 - k <F, z^0 - z^k>,

monotonicity between z^{k+1} and z^k gives

    V_k - V_{k+1} >= gamma (k^2/2 |F|^2 - (k+1)^2/2 |H|^2 + (k+1)^2 <H, G> - k(k+1) <F, G>)
                   = (gamma/2)(|k F - (k+1) G|^2 - (k+1)^2 |H - G|^2) >= 0,

the last by z^{k+1} - zh = gamma (k F - (k+1) G)/(k+1) and gamma L <= 1. So V_k <= V_0 = 0, and <F, z^0 - z^k> is at most
<F, z^0 - z*> <= |F||z^0 - z*|.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from saddlebag.algorithms.base import known_constants
from saddlebag.algorithms.methods.extragradient import Extragradient, ExtragradientReplica
from saddlebag.algorithms.methods.full import advanced
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.algorithms.base import Message, Problem
    from saddlebag.algorithms.methods.full import WireType
    from saddlebag.compression import Draws, Vector

__all__ = ["anchored_extragradient"]


@dataclasses.dataclass(frozen=True, eq=False)
class AnchoredPoint(ExtragradientReplica):
    """Extragradient's replica, and z^0."""

    start_D: Vector


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnchoredExtragradient(Extragradient):
    """Anchored extragradient with a constant step; rounds and messages are those of extragradient."""

    unsliceable: ClassVar[str] = ""

    def init_replica(self, z_D: Vector) -> AnchoredPoint:
        return AnchoredPoint(**vars(super().init_replica(z_D)), start_D=z_D)

    def replay(self, replica: ExtragradientReplica, down: Message, draws: Draws) -> AnchoredPoint:
        del draws
        assert isinstance(replica, AnchoredPoint)
        operator_D = advanced(replica.operator_D, down.parts[0])
        pull = 1.0 / (replica.iteration + 1)
        moved_D = replica.z_D + pull * (replica.start_D - replica.z_D)
        moved_D -= (self.step_size if replica.at_half else (1.0 - pull) * self.step_size) * operator_D
        if replica.at_half:
            return AnchoredPoint(moved_D, moved_D, operator_D, replica.iteration + 1, at_half=False, start_D=replica.start_D)
        return AnchoredPoint(replica.z_D, moved_D, operator_D, replica.iteration, at_half=True, start_D=replica.start_D)


def anchored_extragradient(
    problem: Problem, *, step_size: float | None = None, wire: WireType = "float32"
) -> AnchoredExtragradient:
    """Anchored extragradient for a problem without constraints; without a step size 1/L.

    Raises:
        ConfigError: the problem has a prox, or the step is needed and L unknown.

    Example:
        >>> import saddlebag as sb
        >>> game = sb.make_problem("bilinear", n=5, workers=2, regularisation=0.01)
        >>> run = sb.simulate(game, sb.make_method("anchored_extragradient", game), stop=sb.Stop(max_rounds=60))
        >>> run.merits["relative_error"] < 1.0
        True
    """
    if not problem.unconstrained:
        raise ConfigError(f"anchored_extragradient has no prox, and {problem.name} has constraints or a regulariser")
    if step_size is None:
        step_size = 1.0 / known_constants(problem, "anchored_extragradient").lipschitz
    return AnchoredExtragradient(step_size=step_size, wire=wire)
