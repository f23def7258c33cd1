"""Optimistic gradient (past extragradient), uncompressed: z+ = prox(z - gamma (2 F(z) - F(z_previous))).

Popov 1980. One round an iteration: the fair uncompressed baseline.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from saddlebag.algorithms.agreed.auto_step import AutoStep, StepSize, Strain, automatic, optimistic_strain
from saddlebag.algorithms.base import known_constants
from saddlebag.algorithms.methods.full import FullExchange, FullServer, FullWorker, advancing

if TYPE_CHECKING:
    from saddlebag.algorithms.base import Message, Operator, Problem
    from saddlebag.algorithms.methods.full import WireType
    from saddlebag.compression import Draws, Mean, Vector

__all__ = ["Ogda", "ogda"]

_SYNC_EVERY = 16  # rounds between comparisons of digests; full vectors travel in every round


@dataclasses.dataclass(frozen=True, eq=False)
class OgdaReplica:
    """z and F at the previous iterate; at the first step the previous iterate is z itself."""

    z_D: Vector
    operator_D: Vector
    iteration: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ogda(FullExchange):
    """Optimistic gradient descent-ascent with a constant step.

    Example:
        >>> import saddlebag as sb
        >>> game = sb.make_problem("bilinear", n=5, workers=2, regularisation=0.2)
        >>> sb.simulate(game, Ogda(step_size=0.2), stop=sb.Stop(max_rounds=60)).merits["relative_error"] < 1.0
        True
    """

    unsliceable: ClassVar[str] = ""

    def init_replica(self, z_D: Vector) -> OgdaReplica:
        return OgdaReplica(z_D, np.zeros(len(z_D)), iteration=0)

    def init_worker(self, replica: OgdaReplica) -> FullWorker:
        return FullWorker(np.zeros(len(replica.z_D)))

    def init_server(self, replica: OgdaReplica) -> FullServer:
        return FullServer(np.zeros(len(replica.z_D)))

    def synchronises(self, replica: OgdaReplica, draws: Draws) -> bool:
        del draws
        return replica.iteration % _SYNC_EVERY == 0

    def uplink_sizes(self, replica: OgdaReplica, draws: Draws) -> tuple[int, ...]:
        del draws
        return (len(replica.z_D),)

    downlink_sizes = uplink_sizes

    def worker_step(
        self, replica: OgdaReplica, own: FullWorker, operator: Operator, draws: Draws
    ) -> tuple[FullWorker, Message]:
        return self._exchange_up(own, operator(replica.z_D, draws))

    def server_step(
        self, replica: OgdaReplica, own: FullServer, means: tuple[Mean, ...], draws: Draws
    ) -> tuple[FullServer, Message]:
        del draws
        return self._exchange_down(own, means, replica.operator_D)

    def replay(self, replica: OgdaReplica, down: Message, draws: Draws) -> OgdaReplica:
        del draws
        operator_D: Vector = np.empty(len(replica.z_D))
        z_D: Vector = np.empty(len(replica.z_D))
        for here in advancing(operator_D, replica.operator_D, down.parts[0]):
            step_B = np.multiply(operator_D[here], 2.0 if replica.iteration else 1.0, out=z_D[here])
            if replica.iteration:
                np.subtract(step_B, replica.operator_D[here], out=step_B)
            np.multiply(step_B, self.step_size, out=step_B)
            np.subtract(replica.z_D[here], step_B, out=step_B)
        z_D = self.prox(z_D, self.step_size)
        return OgdaReplica(z_D, operator_D, replica.iteration + 1)

    def strain(self, before: OgdaReplica, down: Message, after: OgdaReplica) -> Strain | None:
        """Of the optimistic step."""
        del down
        return optimistic_strain(before, after, after.operator_D - before.operator_D)

    def stay(self, before: OgdaReplica, after: OgdaReplica) -> OgdaReplica:
        """With z where it was."""
        return dataclasses.replace(after, z_D=before.z_D)


def ogda(problem: Problem, *, step_size: StepSize = None, wire: WireType = "float32") -> Ogda | AutoStep:
    """OGDA for a problem; without a step size 1 / (2 L).

    Example:
        >>> import saddlebag as sb
        >>> game = sb.make_problem("bilinear", n=5, workers=2, regularisation=0.2)
        >>> method = sb.make_method("ogda", game, step_size="auto")
        >>> run = sb.simulate(game, method, stop=sb.Stop(max_rounds=60))
        >>> run.merits["relative_error"] < 1.0
        True
    """
    if isinstance(step_size, str):
        return automatic(Ogda(step_size=1.0, prox=problem.prox, wire=wire), step_size, problem)
    if step_size is None:
        step_size = 1.0 / (2.0 * known_constants(problem, "ogda").lipschitz)
    return Ogda(step_size=step_size, prox=problem.prox, wire=wire)
