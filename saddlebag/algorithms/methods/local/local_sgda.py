"""Local descent-ascent: every worker takes H steps z <- prox(z - gamma F_m(z)) of its own, then the points are averaged.

Deng, Mahdavi 2021, "Local stochastic gradient descent ascent: convergence analysis and communication efficiency"
(deterministic operators here). One exchange of full vectors for H steps.

Where every F_m is mu-strongly monotone and gamma <= mu / max L_m^2, a local step is a contraction with factor
sqrt(1 - gamma mu), so the averaged point converges linearly, by (1 - gamma mu)^(H/2) a round. For H = 1 the limit is z* and
gamma <= mu/L^2 suffices; for H > 1 and workers that differ it is another point, at a distance of order gamma (H - 1): the
price of saved exchanges. Differs: the displacement of the mean travels, as an increment, not the points.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from saddlebag.algorithms.base import known_constants
from saddlebag.algorithms.methods.full import FullExchange, FullServer, FullWorker
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.algorithms.base import Message, Operator, Problem
    from saddlebag.algorithms.methods.full import WireType
    from saddlebag.compression import Draws, Mean, Vector

__all__ = ["LocalSgda", "local_sgda"]

_SYNC_EVERY = 16  # rounds between comparisons of digests; full vectors travel in every round


@dataclasses.dataclass(frozen=True, eq=False)
class LocalReplica:
    """z and the mean displacement of the last round, as it was exchanged."""

    z_D: Vector
    displacement_D: Vector
    iteration: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocalSgda(FullExchange):
    """Local steps between exchanges; an iteration is a round.

    Attributes:
        local_steps: H, at least 1.

    Example:
        >>> import saddlebag as sb
        >>> game = sb.make_problem("bilinear", n=5, workers=2, regularisation=0.2)
        >>> run = sb.simulate(game, LocalSgda(step_size=0.02, local_steps=4), stop=sb.Stop(max_rounds=60))
        >>> run.merits["relative_error"] < 1.0
        True
    """

    local_steps: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.local_steps < 1:
            raise ConfigError(f"local_steps must be at least 1, got {self.local_steps}")

    unsliceable: ClassVar[str] = ""

    def init_replica(self, z_D: Vector) -> LocalReplica:
        return LocalReplica(z_D, np.zeros(len(z_D)), iteration=0)

    def init_worker(self, replica: LocalReplica) -> FullWorker:
        return FullWorker(np.zeros(len(replica.z_D)))

    def init_server(self, replica: LocalReplica) -> FullServer:
        return FullServer(np.zeros(len(replica.z_D)))

    def synchronises(self, replica: LocalReplica, draws: Draws) -> bool:
        return draws.round % _SYNC_EVERY == 0

    def uplink_sizes(self, replica: LocalReplica, draws: Draws) -> tuple[int, ...]:
        del draws
        return (len(replica.z_D),)

    downlink_sizes = uplink_sizes

    def worker_step(
        self, replica: LocalReplica, own: FullWorker, operator: Operator, draws: Draws
    ) -> tuple[FullWorker, Message]:
        z_D = replica.z_D
        for _ in range(self.local_steps):
            z_D = self.prox(z_D - self.step_size * operator(z_D, draws), self.step_size)
        return self._exchange_up(own, z_D - replica.z_D)

    def server_step(
        self, replica: LocalReplica, own: FullServer, means: tuple[Mean, ...], draws: Draws
    ) -> tuple[FullServer, Message]:
        del draws
        return self._exchange_down(own, means, replica.displacement_D)

    def replay(self, replica: LocalReplica, down: Message, draws: Draws) -> LocalReplica:
        del draws
        displacement_D = replica.displacement_D + down.parts[0].dense()
        return LocalReplica(replica.z_D + displacement_D, displacement_D, replica.iteration + 1)


def local_sgda(
    problem: Problem, *, step_size: float | None = None, local_steps: int = 1, wire: WireType = "float32"
) -> LocalSgda:
    """Local descent-ascent for a problem; without a step size mu / max L_m^2 (mu/L^2 for one local step).

    Example:
        >>> import saddlebag as sb
        >>> game = sb.make_problem("bilinear", n=5, workers=2, regularisation=0.2)
        >>> method = sb.make_method("local_sgda", game, step_size=0.05, local_steps=2)
        >>> run = sb.simulate(game, method, stop=sb.Stop(max_rounds=60))
        >>> run.merits["relative_error"] < 1.0
        True
    """
    if step_size is None:
        constants = known_constants(problem, "local_sgda")
        if not constants.strong_monotonicity > 0:
            raise ConfigError("local_sgda's theory needs strong monotonicity; give method.step_size a number")
        largest = constants.lipschitz if local_steps == 1 else max(constants.lipschitz_workers)
        step_size = constants.strong_monotonicity / largest**2
    return LocalSgda(step_size=step_size, local_steps=local_steps, prox=problem.prox, wire=wire)
