"""Extragradient, uncompressed: zh = prox(z - gamma F(z)), z+ = prox(z - gamma F(zh)).

Korpelevich 1976. Two rounds an iteration, full vectors both ways, sent as increments.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from saddlebag.algorithms.agreed.auto_step import AutoStep, StepSize, Strain, automatic
from saddlebag.algorithms.base import Message, Operator, Problem, known_constants, square
from saddlebag.algorithms.methods.full import FullExchange, FullServer, FullWorker, WireType, advancing

if TYPE_CHECKING:
    from saddlebag.compression import Draws, Mean, Vector

__all__ = ["Extragradient", "extragradient"]


@dataclasses.dataclass(frozen=True, eq=False)
class ExtragradientReplica:
    """z, the point where F is asked next (z itself or the half point), and the last F that was exchanged."""

    z_D: Vector
    point_D: Vector
    operator_D: Vector
    iteration: int
    at_half: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Extragradient(FullExchange):
    """Extragradient with a constant step.

    Example:
        >>> import saddlebag as sb
        >>> game = sb.make_problem("bilinear", n=5, workers=2, regularisation=0.2)
        >>> sb.simulate(game, Extragradient(step_size=0.2), stop=sb.Stop(max_rounds=60)).merits["relative_error"] < 1.0
        True
    """

    unsliceable: ClassVar[str] = ""

    def init_replica(self, z_D: Vector) -> ExtragradientReplica:
        return ExtragradientReplica(z_D, z_D, np.zeros(len(z_D)), iteration=0, at_half=False)

    def init_worker(self, replica: ExtragradientReplica) -> FullWorker:
        return FullWorker(np.zeros(len(replica.z_D)))

    def init_server(self, replica: ExtragradientReplica) -> FullServer:
        return FullServer(np.zeros(len(replica.z_D)))

    def synchronises(self, replica: ExtragradientReplica, draws: Draws) -> bool:
        del draws
        return not replica.at_half

    def uplink_sizes(self, replica: ExtragradientReplica, draws: Draws) -> tuple[int, ...]:
        del draws
        return (len(replica.z_D),)

    downlink_sizes = uplink_sizes

    def worker_step(
        self, replica: ExtragradientReplica, own: FullWorker, operator: Operator, draws: Draws
    ) -> tuple[FullWorker, Message]:
        return self._exchange_up(own, operator(replica.point_D, draws))

    def server_step(
        self, replica: ExtragradientReplica, own: FullServer, means: tuple[Mean, ...], draws: Draws
    ) -> tuple[FullServer, Message]:
        del draws
        return self._exchange_down(own, means, replica.operator_D)

    def replay(self, replica: ExtragradientReplica, down: Message, draws: Draws) -> ExtragradientReplica:
        del draws
        operator_D: Vector = np.empty(len(replica.z_D))
        moved_D: Vector = np.empty(len(replica.z_D))
        for here in advancing(operator_D, replica.operator_D, down.parts[0]):
            step_B = np.multiply(operator_D[here], self.step_size, out=moved_D[here])
            np.subtract(replica.z_D[here], step_B, out=step_B)
        moved_D = self.prox(moved_D, self.step_size)
        if replica.at_half:
            return ExtragradientReplica(moved_D, moved_D, operator_D, replica.iteration + 1, at_half=False)
        return ExtragradientReplica(replica.z_D, moved_D, operator_D, replica.iteration, at_half=True)

    def strain(self, before: ExtragradientReplica, down: Message, after: ExtragradientReplica) -> Strain | None:
        """Gamma |F(zh) - F(z)| / |zh - z| at the end of an iteration."""
        del down
        if not before.at_half:
            return None
        return Strain(square(after.operator_D - before.operator_D), square(before.point_D - before.z_D))

    def stay(self, before: ExtragradientReplica, after: ExtragradientReplica) -> ExtragradientReplica:
        """With z where it was."""
        return dataclasses.replace(after, z_D=before.z_D, point_D=before.z_D)


def extragradient(problem: Problem, *, step_size: StepSize = None, wire: WireType = "float32") -> Extragradient | AutoStep:
    """Extragradient for a problem; without a step size 1 / (2 L).

    Example:
        >>> import saddlebag as sb
        >>> game = sb.make_problem("bilinear", n=5, workers=2, regularisation=0.2)
        >>> method = sb.make_method("extragradient", game, step_size="auto")
        >>> run = sb.simulate(game, method, stop=sb.Stop(max_rounds=60))
        >>> run.merits["relative_error"] < 1.0
        True
    """
    if isinstance(step_size, str):
        return automatic(Extragradient(step_size=1.0, prox=problem.prox, wire=wire), step_size, problem)
    if step_size is None:
        step_size = 1.0 / (2.0 * known_constants(problem, "extragradient").lipschitz)
    return Extragradient(step_size=step_size, prox=problem.prox, wire=wire)
