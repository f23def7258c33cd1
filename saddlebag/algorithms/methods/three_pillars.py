"""Three Pillars: similarity, local steps on the server's own F_1, and compression of what is left.

F = F_1 + G, where G = F - F_1 has the small Lipschitz constant s. The server holds the data of F_1 and treats it implicitly, by
local steps that cost no traffic; only G is linearised, so the number of rounds depends on s and not on L. With w^k = z^k with
probability p (a common coin), else w^{k-1}, one round is

    up      Q_m( F_m(z^k) - F_m(w^{k-1}) + a (F_m(z^k) - F_m(z^{k-1})) ),   a = 1/(1 + eta mu/2)
    server  D = F(w^{k-1}) + mean of those - F_1(z^k) - a (F_1(z^k) - F_1(z^{k-1}))          (an estimate of G at z^{k+1})
            z^{k+1}:  0 in z - ((1-p) z^k + p w^k - eta D) + eta (F_1(z) + dh(z)), up to |residual| <= sigma |z - z^k|
    down    z^{k+1} - z^k

Where the coin falls F_m(w^k) = F_m(z^k) rides along in full. Perm-k is exact on what the workers share, so compressing F_m and
subtracting F_1 on the server is compressing F_m - F_1, which no worker could evaluate.

Beznosikov, Takac, Gasnikov 2023, "Similarity, compression and local steps: three pillars of efficient communications for
distributed variational inequalities". Differs: the step on G is optimistic, as in `optimistic_masha` and in SVOGS (2024), with
one exchange a round where their forward-backward-forward has two; the sub-problem is solved to a tolerance; constants are ours.

Partial participation (`participants`): b of M workers send; the noise of the choice is governed by s too.

Proven (docs/theory/three_pillars.md): with eta <= min{1/(8 s), sqrt(p)/(4 N), p/(4 mu)}, sigma = sqrt(eta mu)/8 and p <= 1/2 a
Lyapunov function falls by 1 + eta mu/2 in expectation in every round: O(M + sqrt(M) s/mu) rounds with Perm-k and p = 1/M, which
meets the lower bound for such methods (same paper).
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from typing import Any

import numpy as np

from saddlebag.algorithms.base import Message, Operator, Problem, Prox, check_step, identity_prox, known_constants
from saddlebag.algorithms.methods.full import WireType, check_wire_type, increment
from saddlebag.algorithms.methods.masha.optimistic_masha import proven_step
from saddlebag.algorithms.methods.one_part import refuse_joint, require_unbiased
from saddlebag.algorithms.methods.sliding import solve
from saddlebag.compression import (
    Compressor,
    Draws,
    Identity,
    Mean,
    Payload,
    Purpose,
    Unbiased,
    Vector,
    mean_noise,
    uniform_subset,
)
from saddlebag.errors import ConfigError

__all__ = ["ThreePillars", "three_pillars"]

_PROJECTION = float(np.finfo(np.float64).tiny)  # a step so small that the prox is the projection on the domain of h


@dataclasses.dataclass(frozen=True, eq=False)
class PillarsReplica:
    """z, the iterate before it, and the last anchor w; `syncing` when the next round only collects F(w^0)."""

    z_D: Vector
    before_D: Vector
    w_D: Vector
    iteration: int
    syncing: bool


@dataclasses.dataclass(frozen=True, eq=False)
class PillarsWorker:
    """F_m(w) as the server knows it, and F_m at the iterate of iteration `at`."""

    operator_w_D: Vector
    operator_z_D: Vector
    at: int


@dataclasses.dataclass(frozen=True, eq=False)
class PillarsServer:
    """The mean of the workers' F_m(w), and F_1 at the iterate before."""

    operator_w_D: Vector
    pivot_z_D: Vector


@dataclasses.dataclass(frozen=True, kw_only=True)
class ThreePillars:
    """Three Pillars with its hyper-parameters.

    Attributes:
        step_size: eta > 0.
        probability: p in (0, 1]: the chance of a new anchor, and the pull towards it.
        up: the workers' compressor, unbiased; Perm-k is the one that similarity helps.
        pivot: F_1, which the server evaluates; the method carries it as it carries the prox.
        pivot_lipschitz: of F_1, for the local steps.
        momentum: a in (0, 1].
        tolerance: sigma > 0 of the sub-problem.
        local_steps: most local steps in a round; where they end short of the tolerance, a `RuntimeWarning` says so.
        participants: b, how many workers take part in a round that does not synchronise; None for all.
        prox, wire: as everywhere; the downlink is a full vector.

    Example:
        >>> import saddlebag as sb
        >>> from saddlebag.compression import RandK
        >>> game = sb.make_problem("bilinear", n=5, workers=2, regularisation=0.2)
        >>> method = ThreePillars(
        ...     step_size=0.1, probability=0.5, up=RandK(fraction=0.5), pivot=game.operator(0), pivot_lipschitz=2.0
        ... )
        >>> sb.simulate(game, method, stop=sb.Stop(max_rounds=60)).merits["relative_error"] < 1.0
        True
    """

    step_size: float
    probability: float
    up: Compressor
    pivot: Operator = dataclasses.field(compare=False, repr=False)
    pivot_lipschitz: float
    momentum: float = 1.0
    tolerance: float = 1e-3
    local_steps: int = 1000
    participants: int | None = None
    prox: Prox = identity_prox
    wire: WireType = "float32"

    drifting = ("z_D", "before_D", "iteration")

    def __post_init__(self) -> None:
        check_step(self.step_size)
        for name in ("probability", "momentum"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(f"{name} must lie in (0, 1], got {getattr(self, name)}")
        for name in ("tolerance", "pivot_lipschitz"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be positive and finite, got {getattr(self, name)}")
        for name in ("local_steps", "participants"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        check_wire_type(self.wire)
        require_unbiased("three_pillars", self.up, Identity())
        refuse_joint("three_pillars", self.up, Identity(), whole=self.participants is None)

    def init_replica(self, z_D: Vector) -> PillarsReplica:
        return PillarsReplica(z_D, z_D, z_D, iteration=0, syncing=True)

    def init_worker(self, replica: PillarsReplica) -> PillarsWorker:
        return PillarsWorker(np.zeros(len(replica.z_D)), np.zeros(len(replica.z_D)), at=-2)

    def init_server(self, replica: PillarsReplica) -> PillarsServer:
        return PillarsServer(np.zeros(len(replica.z_D)), np.zeros(len(replica.z_D)))

    def synchronises(self, replica: PillarsReplica, draws: Draws) -> bool:
        return replica.syncing or draws.coin(self.probability)

    def select(self, replica: PillarsReplica, draws: Draws, members: tuple[int, ...]) -> tuple[int, ...]:
        """All members where F(w) is renewed; else b of them, uniformly without replacement."""
        if self.participants is None or self.participants >= len(members) or self.synchronises(replica, draws):
            return members
        chosen = uniform_subset(draws.common(Purpose.PARTICIPANTS), len(members), self.participants)
        return tuple(members[place] for place in chosen)

    def uplink_sizes(self, replica: PillarsReplica, draws: Draws) -> tuple[int, ...]:
        """The increment of F_m(w) if there is one, then the compressed difference if there is one."""
        return (len(replica.z_D),) * (self.synchronises(replica, draws) + (not replica.syncing))

    def downlink_sizes(self, replica: PillarsReplica, draws: Draws) -> tuple[int, ...]:
        del draws
        return (len(replica.z_D),)

    def worker_step(
        self, replica: PillarsReplica, own: PillarsWorker, operator: Operator, draws: Draws
    ) -> tuple[PillarsWorker, Message]:
        value_D = operator(replica.z_D, draws)
        parts: tuple[Payload, ...] = ()
        known_D = own.operator_w_D
        if self.synchronises(replica, draws):
            payload, known_D = increment(value_D, known_D, self.wire)
            parts = (payload,)
        if replica.syncing:
            return PillarsWorker(known_D, value_D, at=-1), Message(parts)
        before_D = own.operator_z_D
        if own.at != replica.iteration - 1:  # it was idle
            before_D = operator(replica.before_D, draws)
        message_D = value_D - own.operator_w_D + self.momentum * (value_D - before_D)
        parts = (*parts, self.up.encode(message_D, draws))
        return PillarsWorker(known_D, value_D, at=replica.iteration), Message(parts)

    def server_step(
        self, replica: PillarsReplica, own: PillarsServer, means: tuple[Mean, ...], draws: Draws
    ) -> tuple[PillarsServer, Message]:
        mean_D = own.operator_w_D
        if self.synchronises(replica, draws):
            mean_D = mean_D + means[0].dense()
        pivot_D = self.pivot(replica.z_D, draws)
        moved_D = replica.z_D
        if not replica.syncing:
            linear_D = own.operator_w_D + means[-1].dense() - pivot_D - self.momentum * (pivot_D - own.pivot_z_D)
            pull_D = (1.0 - self.probability) * replica.z_D + self.probability * self._anchor(replica, draws)
            moved_D = self._solve(pull_D - self.step_size * linear_D, replica.z_D, draws)
        payload, _ = increment(moved_D, replica.z_D, self.wire)
        return PillarsServer(mean_D, pivot_D), Message((payload,))

    def _anchor(self, replica: PillarsReplica, draws: Draws) -> Vector:
        return replica.z_D if draws.coin(self.probability) else replica.w_D

    def _solve(self, centre_D: Vector, start_D: Vector, draws: Draws) -> Vector:
        def operator(u_D: Vector) -> Vector:
            return self.pivot(u_D, draws) + (u_D - centre_D) / self.step_size

        lipschitz = self.pivot_lipschitz + 1.0 / self.step_size
        relative = self.tolerance / self.step_size
        limits: dict[str, Any] = {"lipschitz": lipschitz, "relative": relative, "most": self.local_steps}
        return solve(operator, self.prox, start_D, missed=self._say_short, **limits)

    def _say_short(self) -> None:
        """Always in the same words, which Python therefore shows once."""
        warnings.warn(
            f"three_pillars: {self.local_steps} local steps ended short of the tolerance {self.tolerance:g}, "
            "on which the theory relies; raise local_steps or tolerance",
            RuntimeWarning,
            stacklevel=2,
        )

    def replay(self, replica: PillarsReplica, down: Message, draws: Draws) -> PillarsReplica:
        if replica.syncing:
            return dataclasses.replace(replica, syncing=False)
        z_D = self.prox(replica.z_D + down.parts[0].dense(), _PROJECTION)  # rounded, it may have left the domain
        return PillarsReplica(z_D, replica.z_D, self._anchor(replica, draws), replica.iteration + 1, syncing=False)


def similarity_noise(problem: Problem, up: Unbiased, participants: int | None = None) -> float:
    """The constant N of the theorem; for Perm-k, or one uncompressed participant, sqrt(12/7) s.

    Its square is 12/7 (A s^2 + max(A - B, 0)(L^2 + c s^2) + c s^2) with (A, B) = `mean_noise` for b workers and
    c = (M - b)/((M - 1) b): compression, then the choice of b of M workers. 12/7 is the price of an inexact resolvent.
    """
    constants, m = known_constants(problem, "three_pillars"), problem.num_workers
    if constants.similarity is None:
        raise ConfigError(f"three_pillars: {problem.name} has no known similarity; give method.step_size a number")
    b = m if participants is None else min(participants, m)
    a_noise, b_noise = mean_noise(up, problem.dimension, b)
    choice = (m - b) / ((m - 1) * b) if b < m else 0.0
    square = constants.similarity**2
    spread = a_noise * square + max(a_noise - b_noise, 0.0) * (constants.lipschitz**2 + choice * square) + choice * square
    return math.sqrt(12.0 / 7.0 * spread)


def three_pillars(
    problem: Problem,
    *,
    up: Compressor,
    down: Compressor,
    step_size: float | None = None,
    probability: float | None = None,
    participants: int | None = None,
    tolerance: float | None = None,
    local_steps: int = 1000,
    pivot_lipschitz: float | None = None,
    wire: WireType = "float32",
) -> ThreePillars:
    """Three Pillars for a problem, with worker 0's operator as F_1.

    Without a probability the uplink's density times b/M, at most 1/2 (1/M for Perm-k); without a step the proven one; without a
    tolerance sqrt(eta mu)/8, or 1e-3 where mu is not known.

    Raises:
        ConfigError: `down` is not the identity: z travels in full; or a parameter does not fit.

    Example:
        >>> import saddlebag as sb
        >>> game = sb.make_problem("bilinear", n=5, workers=2, regularisation=0.2)
        >>> method = sb.make_method("three_pillars", game, up=sb.make_compressor("rand_k", k=5), down="identity")
        >>> run = sb.simulate(game, method, stop=sb.Stop(max_rounds=60))
        >>> run.merits["relative_error"] < 1.0
        True
    """
    if not isinstance(down, Identity):
        raise ConfigError(f"three_pillars sends the iterate in full and takes no compressor down, got {down}; leave it out")
    constants, m, d = problem.constants, problem.num_workers, problem.dimension
    if probability is None:
        probability = min(0.5, up.bits(d) / (32.0 * d) * (min(participants or m, m) / m))
    if pivot_lipschitz is None:
        pivot_lipschitz = known_constants(problem, "three_pillars").lipschitz_workers[0]
    given: dict[str, Any] = {"probability": probability, "up": up, "pivot": problem.operator(0), "wire": wire}
    given |= {"pivot_lipschitz": pivot_lipschitz, "participants": participants, "local_steps": local_steps}
    method = ThreePillars(step_size=1.0, prox=problem.prox, **given)
    if step_size is None:
        assert isinstance(method.up, Unbiased)
        noise = similarity_noise(problem, method.up, participants)
        known = known_constants(problem, "three_pillars")
        # only G = F - F_1 is linearised: s takes the place of L
        step_size = proven_step(dataclasses.replace(known, lipschitz=known.similarity or 0.0), noise, probability)
    mu = 0.0 if constants is None else constants.strong_monotonicity
    if tolerance is None:
        tolerance = math.sqrt(step_size * mu) / 8.0 if mu > 0 else 1e-3
    momentum = 1.0 / (1.0 + step_size * mu / 2.0)
    return dataclasses.replace(method, step_size=step_size, momentum=momentum, tolerance=tolerance)
