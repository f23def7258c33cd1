"""ProxSkip-VIP: local steps with control variates, an exchange only now and then, and the solution all the same.

Zhang, Choudhury, Stich, Loizou 2024, "Communication-efficient gradient descent-accent methods for distributed variational
inequalities: unified analysis and local updates" (ICLR); ProxSkip: Mishchenko, Malinovsky, Stich, Richtarik 2022. Workers walk

    zh_m = z_m - gamma (F_m(z_m) - h_m);     with probability p all exchange:  z_m = mean (zh - (gamma/p) h),  else  z_m = zh_m
    h_m <- h_m + (p / gamma)(z_m - zh_m)

A round here is all local steps up to an exchange, whose number, geometric with mean 1/p, everybody draws alike. With every F_m
mu-strongly monotone and L_m-Lipschitz, z = z* and h_m = F_m(z*) are a fixed point, and for gamma <= mu / max L_m^2

    E Psi+ <= max{1 - gamma mu, 1 - p^2} Psi,    Psi = mean |z_m - z*|^2 + (gamma/p)^2 mean |h_m - F_m(z*)|^2

in every local step: |w - w*|^2 <= (1 - 2 gamma mu + gamma^2 L_m^2) |z - z*|^2 for w = z - gamma F_m(z), and ProxSkip's Lemma 4.
So p = sqrt(gamma mu) exchanges about the square root of the iterations. What travels is the displacement, as an increment.
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

__all__ = ["prox_skip_vip"]

_MOST_STEPS = 2**16 - 1  # of a round: `Draws.within` has no more


@dataclasses.dataclass(frozen=True, eq=False)
class SkipReplica:
    """z after the last exchange, and the displacement that was exchanged."""

    z_D: Vector
    displacement_D: Vector
    iteration: int


@dataclasses.dataclass(frozen=True, eq=False)
class SkipWorker:
    """What the server knows of this worker's displacement, its control variate h, and where its last walk ended."""

    sent: FullWorker
    variate_D: Vector
    end_D: Vector


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProxSkipVip(FullExchange):
    """Local steps with control variates; an iteration is a round.

    Attributes:
        probability: p in (0, 1] of an exchange after a local step.
    """

    probability: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.probability <= 1:
            raise ConfigError(f"probability must lie in (0, 1], got {self.probability}")

    unsliceable: ClassVar[str] = ""

    def init_replica(self, z_D: Vector) -> SkipReplica:
        return SkipReplica(z_D, np.zeros(len(z_D)), iteration=0)

    def init_worker(self, replica: SkipReplica) -> SkipWorker:
        zero_D = np.zeros(len(replica.z_D))
        return SkipWorker(FullWorker(zero_D), zero_D, replica.z_D)

    def init_server(self, replica: SkipReplica) -> FullServer:
        return FullServer(np.zeros(len(replica.z_D)))

    def synchronises(self, replica: SkipReplica, draws: Draws) -> bool:
        return replica.iteration % 16 == 0

    def uplink_sizes(self, replica: SkipReplica, draws: Draws) -> tuple[int, ...]:
        del draws
        return (len(replica.z_D),)

    downlink_sizes = uplink_sizes

    def _walk_length(self, draws: Draws) -> int:
        """How many local steps this round has: up to the first coin that says exchange."""
        return next((step + 1 for step in range(_MOST_STEPS) if draws.within(step).coin(self.probability)), _MOST_STEPS)

    def worker_step(
        self, replica: SkipReplica, own: SkipWorker, operator: Operator, draws: Draws
    ) -> tuple[SkipWorker, Message]:
        ratio = self.probability / self.step_size
        variate_D = own.variate_D + ratio * (replica.z_D - own.end_D)
        z_D = replica.z_D
        for step in range(self._walk_length(draws)):
            z_D = z_D - self.step_size * (operator(z_D, draws.within(step)) - variate_D)
        sent, up = self._exchange_up(own.sent, z_D - variate_D / ratio - replica.z_D)
        return SkipWorker(sent, variate_D, z_D), up

    def server_step(
        self, replica: SkipReplica, own: FullServer, means: tuple[Mean, ...], draws: Draws
    ) -> tuple[FullServer, Message]:
        del draws
        return self._exchange_down(own, means, replica.displacement_D)

    def replay(self, replica: SkipReplica, down: Message, draws: Draws) -> SkipReplica:
        del draws
        displacement_D = replica.displacement_D + down.parts[0].dense()
        return SkipReplica(replica.z_D + displacement_D, displacement_D, replica.iteration + 1)


def prox_skip_vip(
    problem: Problem, *, step_size: float | None = None, probability: float | None = None, wire: WireType = "float32"
) -> ProxSkipVip:
    """ProxSkip-VIP for an unconstrained problem; without them gamma = mu / max L_m^2 and p = sqrt(gamma mu).

    Raises:
        ConfigError: the problem is constrained, or not strongly monotone and no step is given.

    Example:
        >>> import saddlebag as sb
        >>> game = sb.make_problem("bilinear", n=5, workers=2, regularisation=0.5)
        >>> method = sb.make_method("prox_skip_vip", game, step_size=0.05, probability=0.2)
        >>> sb.simulate(game, method, stop=1e-6).reason  # where local_sgda stops short of the solution
        'merit'
    """
    if not problem.unconstrained:
        raise ConfigError(f"prox_skip_vip has no prox, and {problem.name} has constraints or a regulariser")
    if step_size is None or probability is None:
        constants = known_constants(problem, "prox_skip_vip")
        mu = constants.strong_monotonicity
        if not mu > 0:
            raise ConfigError("prox_skip_vip's theory needs strong monotonicity; give step_size and probability")
        step_size = step_size or mu / max(constants.lipschitz_workers) ** 2
        probability = probability or min(1.0, (step_size * mu) ** 0.5)
    return ProxSkipVip(step_size=step_size, probability=probability, prox=problem.prox, wire=wire)
