"""Optimistic MASHA: one new operator value and one compressed message an iteration, made for similar workers and Perm-k.

In iteration k everybody sets w^k = z^k with probability p (a common coin), else w^k = w^{k-1}; then

    up    Q_m( F_m(z^k) - F_m(w^{k-1}) + a (F_m(z^k) - F_m(z^{k-1})) )
    down  g = Q_s( mean of those )
    all   z^{k+1} = prox( (1-p) z^k + p w^k - eta (F(w^{k-1}) + g) ),      a = 1/(1 + eta mu/2).

Where the coin falls, F_m(w^k) = F_m(z^k), which is known already, rides along in full. Perm-k's noise is the spread of the
workers' messages, so it is governed by the similarity s, a Lipschitz constant of the F_m - F.

Beznosikov, Gasnikov 2022, "Compression and data similarity: combination of two techniques for communication-efficient
solving of distributed variational inequalities" (Optimistic MASHA); the optimistic step with a pull towards an anchor is that
of Kovalev et al. 2022. Differs: reconstructed from a description; the downlink may be compressed; constants are ours.

Proven, h and prox allowed, p <= 1/2: with eta <= min{1/(8 L), sqrt(p)/(4 N), p/(4 mu)} and r = 1 + eta mu/2, the function

    Psi_k = |z^k-z*|^2 + (1-p)|w^{k-1}-z*|^2 - (2 eta/r) <F(z^k)-F(z^{k-1}), z^k-z*>
            + (eta L + 4 eta^2 N^2) |z^k-z^{k-1}|^2 + 4 eta^2 N^2 |z^k-w^{k-1}|^2     >=  (7/8)|z^k-z*|^2 + (1-p)|w^{k-1}-z*|^2

falls by the factor r in expectation, E Psi_{k+1} <= Psi_k / r. Proof: docs/theory/optimistic_masha.md. N is `optimistic_noise`.
Hence, with Perm-k and p = 1/M, O(M + L/mu + sqrt(M) s/mu) iterations, each of two d-vectors over all workers in the mean.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from saddlebag.algorithms.base import Message, Operator, Problem, Prox, check_step, identity_prox, known_constants
from saddlebag.algorithms.methods.full import WireType, check_wire_type, synchronise
from saddlebag.algorithms.methods.one_part import require_unbiased
from saddlebag.compression import Compressor, Draws, Grid, Mean, Payload, Unbiased, Vector, mean_noise
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.algorithms.base import Constants

__all__ = ["OptimisticMasha", "optimistic_masha"]


@dataclasses.dataclass(frozen=True, eq=False)
class OptimisticReplica:
    """z, the last anchor w and F(w) as all machines know them; `syncing` when the next round only exchanges F(w^0)."""

    z_D: Vector
    w_D: Vector
    operator_w_D: Vector
    iteration: int
    syncing: bool


@dataclasses.dataclass(frozen=True, eq=False)
class OptimisticWorker:
    """F_m(w) as the server knows it, and F_m at the last iterate."""

    operator_w_D: Vector
    operator_z_D: Vector


@dataclasses.dataclass(frozen=True, eq=False)
class OptimisticServer:
    """The mean of the workers' F_m(w)."""

    operator_w_D: Vector


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimisticMasha:
    """Optimistic MASHA with its hyper-parameters.

    Attributes:
        step_size: eta > 0.
        probability: p in (0, 1]: the chance of a new anchor, and the pull towards it.
        momentum: a in (0, 1], the weight of the optimistic correction.
        up, down: the workers' and the server's compressor, unbiased.
        prox: of the problem.
        wire: type of full vectors on the wire.
        sync_grid: step of the `grid` through which synchronisations after the first are sent, as innovations of what the
            other side knows; None for full vectors. What the replicas' F(w) then lacks rides on the compressed difference, so
            the slope stays unbiased; no theorem covers it.

    Example:
        >>> import saddlebag as sb
        >>> from saddlebag.compression import RandK
        >>> game = sb.make_problem("bilinear", n=5, workers=2, regularisation=0.2)
        >>> method = OptimisticMasha(step_size=0.05, probability=0.5, up=RandK(fraction=0.5), down=RandK(fraction=0.5))
        >>> sb.simulate(game, method, stop=sb.Stop(max_rounds=60)).merits["relative_error"] < 1.0
        True
    """

    step_size: float
    probability: float
    up: Compressor
    down: Compressor
    momentum: float = 1.0
    prox: Prox = identity_prox
    wire: WireType = "float32"
    sync_grid: float | None = None

    def __post_init__(self) -> None:
        check_step(self.step_size)
        for name in ("probability", "momentum"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(f"{name} must lie in (0, 1], got {getattr(self, name)}")
        check_wire_type(self.wire)
        require_unbiased("optimistic_masha", self.up, self.down)
        if self.sync_grid is not None:
            Grid(step=self.sync_grid)  # refuses steps that are out of range

    unsliceable: ClassVar[str] = ""

    def init_replica(self, z_D: Vector) -> OptimisticReplica:
        return OptimisticReplica(z_D, z_D, np.zeros(len(z_D)), iteration=0, syncing=True)

    def init_worker(self, replica: OptimisticReplica) -> OptimisticWorker:
        return OptimisticWorker(np.zeros(len(replica.z_D)), np.zeros(len(replica.z_D)))

    def init_server(self, replica: OptimisticReplica) -> OptimisticServer:
        return OptimisticServer(np.zeros(len(replica.z_D)))

    def synchronises(self, replica: OptimisticReplica, draws: Draws) -> bool:
        return replica.syncing or draws.coin(self.probability)

    def uplink_sizes(self, replica: OptimisticReplica, draws: Draws) -> tuple[int, ...]:
        """The increment of F_m(w) if there is one, then the compressed difference if there is one."""
        return (len(replica.z_D),) * (self.synchronises(replica, draws) + (not replica.syncing))

    downlink_sizes = uplink_sizes

    def worker_step(
        self, replica: OptimisticReplica, own: OptimisticWorker, operator: Operator, draws: Draws
    ) -> tuple[OptimisticWorker, Message]:
        value_D = operator(replica.z_D, draws)
        parts: tuple[Payload, ...] = ()
        known_D = own.operator_w_D
        if self.synchronises(replica, draws):
            payload, known_D = self._tell(replica, value_D, known_D, draws)
            parts = (payload,)
        if not replica.syncing:
            message_D = value_D - own.operator_w_D + self.momentum * (value_D - own.operator_z_D)
            parts = (*parts, self.up.encode(message_D, draws))
        return OptimisticWorker(known_D, value_D), Message(parts)

    def server_step(
        self, replica: OptimisticReplica, own: OptimisticServer, means: tuple[Mean, ...], draws: Draws
    ) -> tuple[OptimisticServer, Message]:
        mean_D = own.operator_w_D
        parts: tuple[Payload, ...] = ()
        if self.synchronises(replica, draws):
            mean_D = mean_D + means[0].dense()
            payload, _ = self._tell(replica, mean_D, replica.operator_w_D, draws)
            parts = (payload,)
        if not replica.syncing:
            mean = means[-1]
            if self.sync_grid is None:
                payload = mean.compress(self.down, draws)
            else:  # with what the replicas' F(w) lacks of the mean that the differences were taken from
                payload = self.down.encode(mean.dense() + (own.operator_w_D - replica.operator_w_D), draws)
            parts = (*parts, payload)
        return OptimisticServer(mean_D), Message(parts)

    def _tell(self, replica: OptimisticReplica, x_D: Vector, known_D: Vector, draws: Draws) -> tuple[Payload, Vector]:
        """`synchronise`, in full the first time."""
        return synchronise(x_D, known_D, self.wire, self.sync_grid if replica.iteration else None, draws)

    def replay(self, replica: OptimisticReplica, down: Message, draws: Draws) -> OptimisticReplica:
        operator_w_D = replica.operator_w_D
        if self.synchronises(replica, draws):
            operator_w_D = operator_w_D + down.parts[0].dense()
        if replica.syncing:
            return dataclasses.replace(replica, operator_w_D=operator_w_D, syncing=False)
        w_D = replica.z_D if draws.coin(self.probability) else replica.w_D
        pulled_D = (1.0 - self.probability) * replica.z_D + self.probability * w_D
        slope_D = replica.operator_w_D + down.parts[-1].dense()  # F at the anchor of the iteration before
        z_D = self.prox(pulled_D - self.step_size * slope_D, self.step_size)
        return OptimisticReplica(z_D, w_D, operator_w_D, replica.iteration + 1, syncing=False)


def optimistic_noise(problem: Problem, up: Unbiased, down: Unbiased) -> float:
    """The constant N with E|g - E g|^2 <= N^2 (2 |z^k - w^{k-1}|^2 + 2 a^2 |z^k - z^{k-1}|^2).

    With (A, B) = `mean_noise` its square is (1 + omega_s) V + omega_s L^2, where V is the smaller of
    A s^2 + max(A - B, 0) L^2 (s the similarity, where it is known) and A L~^2 + max(-B, 0) L^2. Perm-k: V = s^2.
    """
    constants, d = known_constants(problem, "optimistic_masha"), problem.dimension
    a, b = mean_noise(up, d, problem.num_workers)
    square = constants.lipschitz**2
    spread = a * constants.lipschitz_rms**2 + max(-b, 0.0) * square
    if constants.similarity is not None:
        spread = min(spread, a * constants.similarity**2 + max(a - b, 0.0) * square)
    omega_down = down.omega(d)
    return math.sqrt((1.0 + omega_down) * spread + omega_down * square)


def proven_step(constants: Constants, noise: float, p: float) -> float:
    """min{1/(8 L), sqrt(p)/(4 N), p/(4 mu)}."""
    if p > 0.5:
        raise ConfigError(f"optimistic_masha's theory needs probability <= 1/2, got {p}; give method.step_size a number")
    bounds = [math.inf]
    if constants.lipschitz > 0:
        bounds.append(1.0 / (8.0 * constants.lipschitz))
    if noise > 0:
        bounds.append(math.sqrt(p) / (4.0 * noise))
    if constants.strong_monotonicity > 0:
        bounds.append(p / (4.0 * constants.strong_monotonicity))
    if min(bounds) == math.inf:
        raise ConfigError("the theory bounds no step for identical workers and mu = 0; give method.step_size a number")
    return min(bounds)


def optimistic_masha(
    problem: Problem,
    *,
    up: Compressor,
    down: Compressor,
    step_size: float | None = None,
    probability: float | None = None,
    momentum: float | None = None,
    wire: WireType = "float32",
    sync_grid: float | None = None,
) -> OptimisticMasha:
    """Optimistic MASHA for a problem.

    Without a probability the uplink's density 1/beta, at most 1/2 (1/M for Perm-k); without a step the proven one; without a
    momentum 1/(1 + eta mu/2), with mu = 0 where it is not known.

    Example:
        >>> import saddlebag as sb
        >>> game = sb.make_problem("bilinear", n=5, workers=2, regularisation=0.2)
        >>> method = sb.make_method("optimistic_masha", game, up=sb.make_compressor("perm_k", workers=2), down="identity")
        >>> run = sb.simulate(game, method, stop=sb.Stop(max_rounds=60))
        >>> run.merits["relative_error"] < 1.0
        True
    """
    p = min(0.5, up.bits(problem.dimension) / (32.0 * problem.dimension)) if probability is None else probability
    method = OptimisticMasha(step_size=1.0, probability=p, up=up, down=down, prox=problem.prox, wire=wire)
    method = dataclasses.replace(method, sync_grid=sync_grid)
    if step_size is None:
        if sync_grid is not None:
            raise ConfigError(
                "optimistic_masha's theory has exact synchronisations; with sync_grid give method.step_size a number"
            )
        assert isinstance(method.up, Unbiased)
        assert isinstance(method.down, Unbiased)
        noise = optimistic_noise(problem, method.up, method.down)
        step_size = proven_step(known_constants(problem, "optimistic_masha"), noise, p)
    if momentum is None:
        mu = 0.0 if problem.constants is None else problem.constants.strong_monotonicity
        momentum = 1.0 / (1.0 + step_size * mu / 2.0)
    return dataclasses.replace(method, step_size=step_size, momentum=momentum)
