"""VR-DIANA descent-ascent: DIANA-SGDA on the loopless SVRG estimate of every F_m.

    G_m = (1/b) sum over a batch of (F_{m,i}(z) - F_{m,i}(w)) + F_m(w),   the same samples at z and w,

takes the place of F_m(z) in DIANA's messages; w <- z with probability p, by a coin common to all workers, costs r samples and
no traffic. Beznosikov, Gorbunov, Berard, Loizou 2022 (VR-DIANA-SGDA); Kovalev, Horvath, Richtarik 2020 (loopless SVRG).
Differs: as `diana_sgda`, and the coin is common.

Proven: with K, C, S and a as in `diana_sgda`, T = K (1 + 5 omega) Lambda~^2/(M b) and
gamma <= min{mu/A, a/(2 mu), a_s/(2 mu), p/(2 mu)}, A = K (L^2 + 6 (omega/M) L~^2) + 6 T, the function of DIANA plus
gamma^2 (4 T/p) |w - z*|^2 contracts by 1 - gamma mu in expectation. Proof: the batch adds (1 + omega) Lambda~^2/(M b) |z-w|^2
to E|Y-F(z*)|^2 and a Lambda_m^2/b |z-w|^2 to the memory of worker m, together gamma^2 T |z-w|^2 <= 2 gamma^2 T (|z-z*|^2 +
|w-z*|^2); the weight 4 T/p pays for the second term with half of its own decrease and adds 4 T to the first.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.algorithms.finite_sum import as_finite_sum, batch_index, check_batch, finite_sums, lipschitz_samples
from saddlebag.algorithms.methods.diana_sgda import DianaReplica, DianaSgda, DianaWorker, proven_step
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.algorithms.base import Message, Operator, Problem
    from saddlebag.compression import Compressor, Draws, Vector

__all__ = ["VrDianaSgda", "vr_diana_sgda"]


@dataclasses.dataclass(frozen=True, eq=False)
class VrDianaReplica(DianaReplica):
    """DIANA's replica and the reference point w."""

    anchor_D: Vector


@dataclasses.dataclass(frozen=True, eq=False)
class VrDianaWorker(DianaWorker):
    """The memory h_m and F_m(w)."""

    anchor_operator_D: Vector


@dataclasses.dataclass(frozen=True, kw_only=True)
class VrDianaSgda(DianaSgda):
    """VR-DIANA descent-ascent with a constant step.

    Attributes:
        batch: b, samples an iteration.
        probability: p, the chance that w is renewed.

    Example:
        >>> from saddlebag.compression import Identity, Natural
        >>> method = VrDianaSgda(step_size=0.05, up=Natural(), down=Identity(), batch=1, probability=0.1)
        >>> method.init_replica(np.zeros(4)).iteration
        0
    """

    batch: int
    probability: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_batch("batch", self.batch)
        if not 0 < self.probability <= 1:
            raise ConfigError(f"probability must lie in (0, 1], got {self.probability}")

    def init_replica(self, z_D: Vector) -> VrDianaReplica:
        return VrDianaReplica(z_D, np.zeros(len(z_D)), iteration=0, anchor_D=z_D)

    def init_worker(self, replica: DianaReplica) -> VrDianaWorker:
        return VrDianaWorker(np.zeros(len(replica.z_D)), np.zeros(len(replica.z_D)))

    def worker_step(
        self, replica: DianaReplica, own: DianaWorker, operator: Operator, draws: Draws
    ) -> tuple[VrDianaWorker, Message]:
        assert isinstance(replica, VrDianaReplica)
        assert isinstance(own, VrDianaWorker)
        if replica.iteration == 0:  # w = z: the estimate is F_m(w) itself
            estimate_D = anchor_operator_D = operator(replica.z_D, draws)
        else:
            samples = as_finite_sum(operator)
            index_B = batch_index(samples, self.batch, draws)
            change_D = samples.batch(replica.z_D, index_B) - samples.batch(replica.anchor_D, index_B)
            estimate_D = change_D + own.anchor_operator_D
            anchor_operator_D = own.anchor_operator_D
            if draws.coin(self.probability):
                anchor_operator_D = operator(replica.z_D, draws)
        memory, up = self._track_up(own, estimate_D, draws)
        return VrDianaWorker(memory.memory_D, anchor_operator_D), up

    def replay(self, replica: DianaReplica, down: Message, draws: Draws) -> VrDianaReplica:
        assert isinstance(replica, VrDianaReplica)
        after = super().replay(replica, down, draws)
        anchor_D = replica.z_D if draws.coin(self.probability) else replica.anchor_D
        return VrDianaReplica(after.z_D, after.memory_D, after.iteration, anchor_D)


def vr_diana_sgda(
    problem: Problem,
    *,
    up: Compressor,
    down: Compressor,
    batch: int = 1,
    step_size: float | None = None,
    probability: float | None = None,
) -> VrDianaSgda:
    """VR-DIANA for a problem whose operators are finite sums; without a probability b/r, without a step the proven one.

    Example:
        >>> import saddlebag as sb
        >>> game = sb.make_problem("finite_bilinear", n=5, workers=2, num_samples=4, regularisation=0.5)
        >>> method = sb.make_method("vr_diana_sgda", game, batch=2, up=sb.make_compressor("rand_k", k=5), down="identity")
        >>> run = sb.simulate(game, method, stop=sb.Stop(max_rounds=200))
        >>> run.merits["relative_error"] < 1.0
        True
    """
    check_batch("batch", batch)
    sums = finite_sums(problem)
    if probability is None:
        probability = min(1.0, batch / max(part.num_samples for part in sums))
    method = VrDianaSgda(step_size=1.0, up=up, down=down, batch=batch, probability=probability, prox=problem.prox)
    if step_size is None:
        sampling = lipschitz_samples(sums) ** 2 / batch
        step_size = proven_step(problem, method, sampling)
        assert problem.constants is not None
        step_size = min(step_size, probability / (2.0 * problem.constants.strong_monotonicity))
    return dataclasses.replace(method, step_size=step_size)
