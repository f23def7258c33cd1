"""FedGDA-GT with compressed innovations: local steps along the mean operator, few bits each way, and unlike workers reach z*.

Every machine knows h, about F(z). An iteration is two exchanges, each of one compressed vector up and one down:

    up    C(F_m(z) - h_m),  h_m <- h_m + C(.);       down  C_s(mean h_m - h),  h <- h + C_s(.)
    K local steps  u <- u - eta (F_m(u) - F_m(z) + h),  u = z at first
    up    C(u_m - z + s h),  s = eta K;              down  C_s(mean),   z <- z - s h + C_s(.)

FedGDA-GT: Sun, Wei 2022 (`fed_gda_gt.py`); memories as in EF21 (Richtarik, Sokolov, Fatkhullin 2021). The combination and
its proof are ours. What a walk adds to - s h is small, and is 0 where h is, so it needs no memory. With q^2 = 1 - alpha, q_s of
C_s, L of F, L_x = max L_m, L~ the root of the mean L_m^2, and, after the first exchange, R = |z - z*|,
A^2 = mean |F_m(z) - h_m|^2, B = |mean h_m - h|; with
delta = ((1 + eta L_x)^K - 1)/(eta K L_x) - 1, d = (1 + q)(1 + q_s) delta and k = s (1 + d):

    R+ <= (sqrt(1 - 2 s mu + s^2 L^2) + s d L) R + k (A + B)
    A+ <= q (A + L~ k (L R + A + B))
    B+ <= q_s (B + (1 + q)(A + L~ k (L R + A + B)))

for root mean squares over the draws. So all three vanish at the rate of the largest eigenvalue of a 3 x 3 matrix of numbers,
where it is below 1, as it is for small s if mu > 0. Proof: |u_k - z| <= ((1 + eta L_x)^k - 1)|h|/L_x by induction, so
|u_m - z + s h| <= s delta |h|, of which compression makes s d |h| at most; |h| <= L R + A + B. z - s F(z) is at most the first
root from z*, and h differs from F(z) by A + B at most. Memories: |C(x) - x| <= q |x|, |C(x)| <= (1 + q)|x|, Minkowski.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from saddlebag.algorithms.base import Message, Operator, known_constants
from saddlebag.algorithms.methods.one_part import OnePart
from saddlebag.compression import Contractive, kind_of, track
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.algorithms.base import Constants, Problem
    from saddlebag.compression import Compressor, Draws, Mean, Vector

__all__ = ["compressed_fed_gda_gt"]

_TRIED = 0.5 ** np.arange(0, 24, 0.25)  # steps s L_x among which the proven one is


@dataclasses.dataclass(frozen=True, eq=False)
class TrackedReplica:
    """z, h, and which of the two exchanges comes next."""

    z_D: Vector
    known_D: Vector
    iteration: int
    walks: bool


@dataclasses.dataclass(frozen=True, eq=False)
class TrackedWorker:
    """What the server knows of this worker's F_m: h_m; and F_m(z) itself."""

    known_D: Vector
    value_D: Vector


@dataclasses.dataclass(frozen=True, eq=False)
class TrackedServer:
    """The mean of the h_m."""

    mean_D: Vector


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompressedFedGdaGt(OnePart):
    """Local steps with compressed gradient tracking; an iteration is two rounds. See `OnePart`; `step_size` is eta.

    Attributes:
        local_steps: K, at least 1.
    """

    local_steps: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.local_steps < 1:
            raise ConfigError(f"local_steps must be at least 1, got {self.local_steps}")
        for name, compressor in (("up", self.up), ("down", self.down)):
            if not isinstance(compressor, Contractive):
                raise ConfigError(
                    f"compressed_fed_gda_gt needs a contractive compressor {name}, got {compressor} ({kind_of(compressor)}), "
                    "whose errors its memories would pile up; use one such as grid"
                )

    @property
    def _whole_step(self) -> float:
        return self.step_size * self.local_steps

    def init_replica(self, z_D: Vector) -> TrackedReplica:
        return TrackedReplica(z_D, np.zeros(len(z_D)), iteration=0, walks=False)

    def init_worker(self, replica: TrackedReplica) -> TrackedWorker:
        zero_D = np.zeros(len(replica.z_D))
        return TrackedWorker(zero_D, zero_D)

    def init_server(self, replica: TrackedReplica) -> TrackedServer:
        return TrackedServer(np.zeros(len(replica.z_D)))

    def worker_step(
        self, replica: TrackedReplica, own: TrackedWorker, operator: Operator, draws: Draws
    ) -> tuple[TrackedWorker, Message]:
        if not replica.walks:
            value_D = operator(replica.z_D, draws)
            payload, known_D = track(self.up, value_D, own.known_D, draws)
            return TrackedWorker(known_D, value_D), Message((payload,))
        u_D, correction_D = replica.z_D, replica.known_D - own.value_D
        for step in range(self.local_steps):
            u_D = u_D - self.step_size * (operator(u_D, draws.within(step)) + correction_D)
        return own, Message((self.up.encode(u_D - replica.z_D + self._whole_step * replica.known_D, draws),))

    def server_step(
        self, replica: TrackedReplica, own: TrackedServer, means: tuple[Mean, ...], draws: Draws
    ) -> tuple[TrackedServer, Message]:
        if replica.walks:
            return own, Message((means[0].compress(self.down, draws),))
        mean_D = own.mean_D + means[0].dense()
        payload, _ = track(self.down, mean_D, replica.known_D, draws)
        return TrackedServer(mean_D), Message((payload,))

    def replay(self, replica: TrackedReplica, down: Message, draws: Draws) -> TrackedReplica:
        del draws
        if not replica.walks:
            known_D = replica.known_D.copy()
            down.parts[0].add_to(known_D)
            return dataclasses.replace(replica, known_D=known_D, walks=True)
        z_D = replica.z_D - self._whole_step * replica.known_D
        down.parts[0].add_to(z_D)
        return TrackedReplica(z_D, replica.known_D, replica.iteration + 1, walks=False)


def growth(
    step_size: float, local_steps: int, constants: Constants, alpha: float, alpha_down: float
) -> npt.NDArray[np.float64]:
    """The matrix by which (R, A, B) grow at most in an iteration, (3, 3); see the module."""
    mu, lipschitz, rms = constants.strong_monotonicity, constants.lipschitz, constants.lipschitz_rms
    s, x = step_size * local_steps, step_size * max(constants.lipschitz_workers)
    delta = ((1.0 + x) ** local_steps - 1.0) / (x * local_steps) - 1.0
    q, q_down = (1.0 - alpha) ** 0.5, (1.0 - alpha_down) ** 0.5
    d = (1.0 + q) * (1.0 + q_down) * delta
    k = s * (1.0 + d)
    root = max(1.0 - 2.0 * s * mu + (s * lipschitz) ** 2, 0.0) ** 0.5
    moved = rms * k * np.array([lipschitz, 1.0, 1.0])
    news = np.array([0.0, 1.0, 0.0]) + moved
    return np.stack(
        [
            np.array([root + s * d * lipschitz, k, k]),
            q * news,
            q_down * (np.array([0.0, 0.0, 1.0]) + (1.0 + q) * news),
        ]
    )


def proven_step(local_steps: int, constants: Constants, alpha: float, alpha_down: float) -> float:
    """Eta of the smallest proven rate among s L_x = 2^0, 2^-1/4, ..., 2^-24.

    Raises:
        ConfigError: none of them has a rate below 1.
    """
    steps = _TRIED / max(constants.lipschitz_workers) / local_steps
    rates = [
        max(abs(np.linalg.eigvals(growth(float(eta), local_steps, constants, alpha, alpha_down)))) for eta in steps.tolist()
    ]
    best = int(np.argmin(rates))
    if not rates[best] < 1.0:
        raise ConfigError("compressed_fed_gda_gt has no proven step for these constants; give method.step_size a number")
    return float(steps[best])


def compressed_fed_gda_gt(
    problem: Problem, *, up: Compressor, down: Compressor, step_size: float | None = None, local_steps: int = 10
) -> CompressedFedGdaGt:
    """FedGDA-GT with compressed innovations for an unconstrained problem; without a step size the proven one.

    Raises:
        ConfigError: the problem is constrained, a compressor is not contractive, or no step is proven and none given.

    Example:
        >>> import saddlebag as sb
        >>> game = sb.make_problem("bilinear", n=5, workers=2, regularisation=0.5)
        >>> method = sb.make_method("compressed_fed_gda_gt", game, step_size=0.02, local_steps=4, up="grid", down="grid")
        >>> sb.simulate(game, method, stop=1e-6).reason
        'merit'
    """
    if not problem.unconstrained:
        raise ConfigError(f"compressed_fed_gda_gt has no prox, and {problem.name} has constraints or a regulariser")
    if step_size is None:
        checked = CompressedFedGdaGt(step_size=1.0, local_steps=local_steps, up=up, down=down)
        constants = known_constants(problem, "compressed_fed_gda_gt")
        assert isinstance(checked.up, Contractive)
        assert isinstance(checked.down, Contractive)
        alphas = checked.up.alpha(problem.dimension), checked.down.alpha(problem.dimension)
        step_size = proven_step(local_steps, constants, *alphas)
    return CompressedFedGdaGt(step_size=step_size, local_steps=local_steps, up=up, down=down, prox=problem.prox)
