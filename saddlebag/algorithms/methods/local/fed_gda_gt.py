"""FedGDA-GT: local steps along the mean operator, corrected by what a worker knows of it, so that unlike workers reach z*.

Sun, Wei 2022, "A communication-efficient algorithm with linear convergence for federated minimax learning" (NeurIPS). An
iteration is two exchanges of full vectors:

    up F_m(z), down F(z);   then K local steps  u <- u - eta (F_m(u) - F_m(z) + F(z)),  u = z at first;   z <- mean of the u

Differs: the step and its proof are ours. With s = eta K and L_x = max L_m, the mean displacement is - s (F(z) + e) with

    |e| <= delta |F(z)|,   delta = ((1 + eta L_x)^K - 1) / (eta K L_x) - 1,

for |u_k - z| <= ((1 + eta L_x)^k - 1) |F(z)| / L_x by induction. So for a mu-strongly monotone, L-Lipschitz mean F

    |z+ - z*|^2 <= (1 - 2 s (mu - delta L) + s^2 (1 + delta)^2 L^2) |z - z*|^2,

and z* is reached whatever the workers' own solutions are, unlike with `local_sgda`. s = mu / (4 L max(L, L_x)) gives a factor
of at most 1 - s mu. Displacements and F(z) travel as increments.
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

__all__ = ["fed_gda_gt"]


@dataclasses.dataclass(frozen=True, eq=False)
class TrackedReplica:
    """z, F(z) as it was exchanged, the last mean displacement, and which of the two exchanges comes next."""

    z_D: Vector
    operator_D: Vector
    displacement_D: Vector
    iteration: int
    walks: bool


@dataclasses.dataclass(frozen=True, eq=False)
class TrackedWorker:
    """What the server knows of this worker's F_m and displacement, and F_m(z) itself."""

    operator: FullWorker
    displacement: FullWorker
    value_D: Vector


@dataclasses.dataclass(frozen=True, eq=False)
class TrackedServer:
    """The means of both."""

    operator: FullServer
    displacement: FullServer


@dataclasses.dataclass(frozen=True, kw_only=True)
class FedGdaGt(FullExchange):
    """Local steps with gradient tracking; an iteration is two rounds.

    Attributes:
        local_steps: K, at least 1; for K = 1 it is gradient descent-ascent.
    """

    local_steps: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.local_steps < 1:
            raise ConfigError(f"local_steps must be at least 1, got {self.local_steps}")

    unsliceable: ClassVar[str] = ""

    def init_replica(self, z_D: Vector) -> TrackedReplica:
        return TrackedReplica(z_D, np.zeros(len(z_D)), np.zeros(len(z_D)), iteration=0, walks=False)

    def init_worker(self, replica: TrackedReplica) -> TrackedWorker:
        zero_D = np.zeros(len(replica.z_D))
        return TrackedWorker(FullWorker(zero_D), FullWorker(zero_D), zero_D)

    def init_server(self, replica: TrackedReplica) -> TrackedServer:
        zero_D = np.zeros(len(replica.z_D))
        return TrackedServer(FullServer(zero_D), FullServer(zero_D))

    def synchronises(self, replica: TrackedReplica, draws: Draws) -> bool:
        return not replica.walks and replica.iteration % 8 == 0

    def uplink_sizes(self, replica: TrackedReplica, draws: Draws) -> tuple[int, ...]:
        del draws
        return (len(replica.z_D),)

    downlink_sizes = uplink_sizes

    def worker_step(
        self, replica: TrackedReplica, own: TrackedWorker, operator: Operator, draws: Draws
    ) -> tuple[TrackedWorker, Message]:
        if not replica.walks:
            value_D = operator(replica.z_D, draws)
            known, up = self._exchange_up(own.operator, value_D)
            return dataclasses.replace(own, operator=known, value_D=value_D), up
        u_D, correction_D = replica.z_D, replica.operator_D - own.value_D
        for step in range(self.local_steps):
            u_D = u_D - self.step_size * (operator(u_D, draws.within(step)) + correction_D)
        known, up = self._exchange_up(own.displacement, u_D - replica.z_D)
        return dataclasses.replace(own, displacement=known), up

    def server_step(
        self, replica: TrackedReplica, own: TrackedServer, means: tuple[Mean, ...], draws: Draws
    ) -> tuple[TrackedServer, Message]:
        del draws
        if not replica.walks:
            mean, down = self._exchange_down(own.operator, means, replica.operator_D)
            return dataclasses.replace(own, operator=mean), down
        mean, down = self._exchange_down(own.displacement, means, replica.displacement_D)
        return dataclasses.replace(own, displacement=mean), down

    def replay(self, replica: TrackedReplica, down: Message, draws: Draws) -> TrackedReplica:
        del draws
        if not replica.walks:
            operator_D = replica.operator_D + down.parts[0].dense()
            return dataclasses.replace(replica, operator_D=operator_D, walks=True)
        displacement_D = replica.displacement_D + down.parts[0].dense()
        return TrackedReplica(
            replica.z_D + displacement_D, replica.operator_D, displacement_D, replica.iteration + 1, walks=False
        )


def squared_rate(step_size: float, local_steps: int, mu: float, lipschitz: float, largest: float) -> float:
    """The proven factor on |z - z*|^2 in an iteration: L of the mean, `largest` of all L_m."""
    s, x = step_size * local_steps, step_size * largest
    delta = ((1.0 + x) ** local_steps - 1.0) / (x * local_steps) - 1.0
    return 1.0 - 2.0 * s * (mu - delta * lipschitz) + (s * (1.0 + delta) * lipschitz) ** 2


def proven_step(local_steps: int, mu: float, lipschitz: float, largest: float) -> float:
    """Eta with eta K = mu / (4 L max(L, L_x)), whose factor is at most 1 - eta K mu."""
    return mu / (4.0 * lipschitz * max(lipschitz, largest)) / local_steps


def fed_gda_gt(
    problem: Problem, *, step_size: float | None = None, local_steps: int = 10, wire: WireType = "float32"
) -> FedGdaGt:
    """FedGDA-GT for an unconstrained problem; without a step size the proven one.

    Raises:
        ConfigError: the problem is constrained, or not strongly monotone and no step is given.

    Example:
        >>> import saddlebag as sb
        >>> game = sb.make_problem("bilinear", n=5, workers=2, regularisation=0.5)
        >>> method = sb.make_method("fed_gda_gt", game, step_size=0.02, local_steps=4)
        >>> sb.simulate(game, method, stop=1e-6).reason  # where local_sgda stops short of the solution
        'merit'
    """
    if not problem.unconstrained:
        raise ConfigError(f"fed_gda_gt has no prox, and {problem.name} has constraints or a regulariser")
    if step_size is None:
        constants = known_constants(problem, "fed_gda_gt")
        if not constants.strong_monotonicity > 0:
            raise ConfigError("fed_gda_gt's theory needs strong monotonicity; give method.step_size a number")
        numbers = constants.strong_monotonicity, constants.lipschitz, max(constants.lipschitz_workers)
        step_size = proven_step(local_steps, *numbers)
    return FedGdaGt(step_size=step_size, local_steps=local_steps, prox=problem.prox, wire=wire)
