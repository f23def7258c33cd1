"""DIANA descent-ascent: compress F_m(z) minus a memory h_m of it, so that the noise vanishes at the solution.

    up      Q_m(F_m(z) - h_m),                        h_m <- h_m + a Q_m(F_m(z) - h_m),     a = 1/(1 + omega)
    server  Y = mean h_m + mean Q_m(F_m(z) - h_m),    down Q_s(Y - h_s),   h_s <- h_s + a_s Q_s(Y - h_s)
    all     z+ = prox(z - gamma (h_s + Q_s(Y - h_s)))

Mishchenko, Gorbunov, Takac, Richtarik 2019 (minimisation); Beznosikov, Gorbunov, Berard, Loizou 2022 (DIANA-SGDA). Differs: the
downlink is compressed in the same way, with a memory of its own, and Lipschitz constants replace star-cocoercivity.

Proven (all memories on any values): with K = 1 + 6 omega_s, A = K (L^2 + 6 (omega/M) L~^2) and
gamma <= min{mu/A, a/(2 mu), a_s/(2 mu)}, the function

    V = |z-z*|^2 + gamma^2 (C mean |h_m - F_m(z*)|^2 + S |h_s - F(z*)|^2),    C = 4 K omega/(M a),   S = 4 omega_s/a_s

contracts in expectation, E V+ <= (1 - gamma mu) V; omega/M stands for `variance`, which is omega on a common support. Proof:
E|h_m+ - F_m(z*)|^2 <= (1-a)|h_m-F_m(z*)|^2 + a L_m^2 |z-z*|^2, the same for h_s with E|Y-F(z*)|^2 <= L^2|z-z*|^2 +
(omega/M) mean|F_m(z)-h_m|^2 in place of the last term, and E|g-F(z*)|^2 <= (1+2 omega_s) E|Y-F(z*)|^2 +
2 omega_s |h_s-F(z*)|^2; the weights C and S pay for the memories with half of their own decrease.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.algorithms.base import Message, Operator, Problem, known_constants
from saddlebag.algorithms.methods.one_part import OnePart, require_unbiased, variance
from saddlebag.compression import Unbiased
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.compression import Compressor, Draws, Mean, Vector

__all__ = ["DianaSgda", "diana_sgda"]


@dataclasses.dataclass(frozen=True, eq=False)
class DianaReplica:
    """The iterate and h_s, the memory of the downlink."""

    z_D: Vector
    memory_D: Vector
    iteration: int


@dataclasses.dataclass(frozen=True, eq=False)
class DianaWorker:
    """The memory h_m."""

    memory_D: Vector


@dataclasses.dataclass(frozen=True, eq=False)
class DianaServer:
    """The mean of the h_m."""

    memory_D: Vector


def memory_rate(compressor: Compressor, dimension: int) -> float:
    """The rate a = 1/(1 + omega) at which a memory follows."""
    assert isinstance(compressor, Unbiased)
    return 1.0 / (1.0 + compressor.omega(dimension))


@dataclasses.dataclass(frozen=True, kw_only=True)
class DianaSgda(OnePart):
    """DIANA descent-ascent with a constant step; `OnePart` has the parameters.

    Example:
        >>> from saddlebag.compression import Identity, Natural
        >>> DianaSgda(step_size=0.05, up=Natural(), down=Identity()).init_replica(np.zeros(4)).iteration
        0
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        require_unbiased("diana_sgda", self.up, self.down)

    def init_replica(self, z_D: Vector) -> DianaReplica:
        return DianaReplica(z_D, np.zeros(len(z_D)), iteration=0)

    def init_worker(self, replica: DianaReplica) -> DianaWorker:
        return DianaWorker(np.zeros(len(replica.z_D)))

    def init_server(self, replica: DianaReplica) -> DianaServer:
        return DianaServer(np.zeros(len(replica.z_D)))

    def worker_step(
        self, replica: DianaReplica, own: DianaWorker, operator: Operator, draws: Draws
    ) -> tuple[DianaWorker, Message]:
        return self._track_up(own, operator(replica.z_D, draws), draws)

    def _track_up(self, own: DianaWorker, value_D: Vector, draws: Draws) -> tuple[DianaWorker, Message]:
        """Send what an estimate of F_m adds to the memory."""
        payload = self.up.encode(value_D - own.memory_D, draws)
        rate = memory_rate(self.up, len(value_D))
        return DianaWorker(own.memory_D + rate * payload.dense()), Message((payload,))

    def server_step(
        self, replica: DianaReplica, own: DianaServer, means: tuple[Mean, ...], draws: Draws
    ) -> tuple[DianaServer, Message]:
        innovation_D = means[0].dense()
        payload = self.down.encode(own.memory_D + innovation_D - replica.memory_D, draws)
        rate = memory_rate(self.up, len(innovation_D))
        return DianaServer(own.memory_D + rate * innovation_D), Message((payload,))

    def replay(self, replica: DianaReplica, down: Message, draws: Draws) -> DianaReplica:
        del draws
        innovation_D = down.parts[0].dense()
        z_D = self.prox(replica.z_D - self.step_size * (replica.memory_D + innovation_D), self.step_size)
        rate = memory_rate(self.down, len(z_D))
        return DianaReplica(z_D, replica.memory_D + rate * innovation_D, replica.iteration + 1)


def diana_growth(problem: Problem, up: Unbiased, down: Unbiased, sampling: float = 0.0) -> float:
    """The constant A of the module; `sampling` is Lambda~^2/b where F_m is estimated (see `vr_diana_sgda`)."""
    constants, noise = known_constants(problem, "diana_sgda"), variance(problem, up)
    spread = constants.lipschitz**2 + 6.0 * noise * constants.lipschitz_rms**2
    drawn = 6.0 * (1.0 / problem.num_workers + 5.0 * noise) * sampling
    return (1.0 + 6.0 * down.omega(problem.dimension)) * (spread + drawn)


def proven_step(problem: Problem, method: DianaSgda, sampling: float = 0.0) -> float:
    """min{mu/A, a/(2 mu), a_s/(2 mu)}."""
    mu, d = known_constants(problem, "diana_sgda").strong_monotonicity, problem.dimension
    if not mu > 0:
        raise ConfigError("diana_sgda's theory needs strong monotonicity; give method.step_size a number")
    assert isinstance(method.up, Unbiased)
    assert isinstance(method.down, Unbiased)
    slowest = min(memory_rate(method.up, d), memory_rate(method.down, d))
    return min(mu / diana_growth(problem, method.up, method.down, sampling), slowest / (2.0 * mu))


def diana_sgda(problem: Problem, *, up: Compressor, down: Compressor, step_size: float | None = None) -> DianaSgda:
    """DIANA descent-ascent for a problem; without a step size the proven one.

    Example:
        >>> import saddlebag as sb
        >>> game = sb.make_problem("bilinear", n=5, workers=2, regularisation=0.2)
        >>> method = sb.make_method("diana_sgda", game, up="natural", down="identity", step_size=0.05)
        >>> run = sb.simulate(game, method, stop=sb.Stop(max_rounds=60))
        >>> run.merits["relative_error"] < 1.0
        True
    """
    if step_size is None:
        step_size = proven_step(problem, DianaSgda(step_size=1.0, up=up, down=down))
    return DianaSgda(step_size=step_size, up=up, down=down, prox=problem.prox)
