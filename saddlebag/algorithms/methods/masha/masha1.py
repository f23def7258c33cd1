"""MASHA1: extragradient with a pull towards an anchor, unbiased compression of differences, and a prox.

Beznosikov et al. 2022, Algorithm 1. With zbar = tau z + p w, one round is

    zh  = prox(zbar - gamma F(w))                              on every machine, no communication
    g   = Q_s( mean of Q_m( F_m(zh) - F_m(w) ) )               one message up, one down
    z+  = prox(zbar - gamma (F(w) + g))                        from zbar, not from zh

and w is renewed with probability p. The noise of Q is proportional to zh - w, which vanishes at the solution.

VR-MASHA1 (`batch`): a batch of samples replaces F_m in the difference, the same samples at zh and w, so its noise vanishes
too. The stochastic form (`sync_batch`) estimates F_m(w) as well, whose error puts a floor under the accuracy.

PP-MASHA1 (`participants`): b of M workers, uniformly without replacement, compute and send in a round; the mean is over them.
All take part where F(w) is renewed: from a subset it would be another operator's, and the run would stall. Differs: in such
a round everybody's difference is used too, which only lessens the noise.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Unpack

import numpy as np

from saddlebag.algorithms.agreed.auto_step import AutoStep, StepSize, Strain, automatic
from saddlebag.algorithms.base import Message, Operator, Problem, Prox, identity_prox, known_constants
from saddlebag.algorithms.finite_sum import finite_sums, lipschitz_samples
from saddlebag.algorithms.methods.masha.anchor import Anchored, AnchoredKeys, AnchoredReplica, probability_or_theory
from saddlebag.algorithms.methods.one_part import refuse_joint
from saddlebag.compression import Compressor, Draws, Mean, Purpose, Unbiased, Vector, kind_of, mean_noise, uniform_subset
from saddlebag.errors import ConfigError

__all__ = ["Masha1", "masha1"]


@dataclasses.dataclass(frozen=True, eq=False)
class Masha1Worker:
    """F_m(w) as the server knows it."""

    operator_w_D: Vector


@dataclasses.dataclass(frozen=True, eq=False)
class Masha1Server:
    """The mean of the workers' F_m(w)."""

    operator_w_D: Vector


@dataclasses.dataclass(frozen=True, kw_only=True)
class Masha1(Anchored):
    """MASHA1 with its hyper-parameters; see `Anchored`.

    Attributes:
        prox: of the problem.
        participants: b, how many workers take part in a round that does not synchronise; None for all.

    Example:
        >>> import saddlebag as sb
        >>> from saddlebag.compression import RandK
        >>> game = sb.make_problem("bilinear", n=5, workers=2, regularisation=0.2)
        >>> method = Masha1(step_size=0.05, probability=0.5, up=RandK(fraction=0.5), down=RandK(fraction=0.5))
        >>> sb.simulate(game, method, stop=sb.Stop(max_rounds=60)).merits["relative_error"] < 1.0
        True
    """

    prox: Prox = identity_prox
    participants: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, compressor in (("up", self.up), ("down", self.down)):
            if not isinstance(compressor, Unbiased):
                raise ConfigError(
                    f"masha1 needs an unbiased compressor {name}, got {compressor} ({kind_of(compressor)}), "
                    "with which it diverges; use masha2 or an unbiased one such as rand_k or natural"
                )

        refuse_joint("masha1", self.up, self.down, whole=self.participants is None)
        if self.participants is not None and self.participants < 1:
            raise ConfigError(f"participants must be at least 1, got {self.participants}")

    @property
    def unsliceable(self) -> str:
        """Why it does not work slice by slice: see `Sliceable`."""
        drawn = "with participants most workers are idle, and one of them may be the lead"
        return super().unsliceable or ("" if self.participants is None else drawn)

    @property
    def drifting(self) -> tuple[str, ...]:
        """Rounds with idle workers move z; under the rule "next" the coin may make it the anchor at once."""
        return ("z_D", "iteration") if self.rule == "current" else ("z_D", "w_D", "iteration", "syncing")

    def select(self, replica: AnchoredReplica, draws: Draws, members: tuple[int, ...]) -> tuple[int, ...]:
        """All members where F(w) is renewed; else b of them, uniformly without replacement."""
        if self.participants is None or self.participants >= len(members) or self.synchronises(replica, draws):
            return members
        chosen = uniform_subset(draws.common(Purpose.PARTICIPANTS), len(members), self.participants)
        return tuple(members[place] for place in chosen)

    def init_worker(self, replica: AnchoredReplica) -> Masha1Worker:
        return Masha1Worker(np.zeros(len(replica.z_D)))

    def init_server(self, replica: AnchoredReplica) -> Masha1Server:
        return Masha1Server(np.zeros(len(replica.z_D)))

    def _half(self, replica: AnchoredReplica) -> Vector:
        """The half point zh = prox(zbar - gamma F(w))."""
        return self.prox(self._pulled(replica) - self.step_size * replica.operator_w_D, self.step_size)

    def strain(self, before: AnchoredReplica, down: Message, after: AnchoredReplica) -> Strain | None:
        del after
        return None if before.syncing else self._anchored_strain(before, down.parts[-1].dense(), self._half(before))

    def worker_step(
        self, replica: AnchoredReplica, own: Masha1Worker, operator: Operator, draws: Draws
    ) -> tuple[Masha1Worker, Message]:
        known_D, parts = self._worker_full(replica, own.operator_w_D, operator, draws)
        if not replica.syncing:
            difference_D = self._difference(replica, own.operator_w_D, operator, self._half(replica), draws)
            parts = (*parts, self.up.encode(difference_D, draws))
        return Masha1Worker(known_D), Message(parts)

    def server_step(
        self, replica: AnchoredReplica, own: Masha1Server, means: tuple[Mean, ...], draws: Draws
    ) -> tuple[Masha1Server, Message]:
        mean_D, parts = self._server_full(replica, own.operator_w_D, means, draws)
        if not replica.syncing:
            mean, owed_D = means[-1], self._owed(replica, own.operator_w_D)
            payload = mean.compress(self.down, draws) if owed_D is None else self.down.encode(mean.dense() + owed_D, draws)
            parts = (*parts, payload)
        return Masha1Server(mean_D), Message(parts)

    def replay(self, replica: AnchoredReplica, down: Message, draws: Draws) -> AnchoredReplica:
        z_D = replica.z_D
        if not replica.syncing:
            slope_D = replica.operator_w_D.copy()
            down.parts[-1].add_to(slope_D)
            z_D = self.prox(self._pulled(replica) - self.step_size * slope_D, self.step_size)
        return self._replay_anchor(replica, z_D, down, draws)


def masha1_noise(
    problem: Problem, up: Unbiased, down: Unbiased, batch: int | None = None, participants: int | None = None
) -> float:
    """The constant Cq with E|g|^2 <= Cq^2 |zh - w|^2 (section 9.1).

    With E|mean Q_m(x_m) - xbar|^2 <= A mean|x_m|^2 - B|xbar|^2 (`mean_noise`: A = omega/b, B = 0 for independent compressors,
    0 and -omega on a common support, 1 and 1 for Perm-k) its square is

        (1 + omega_s)(A (L~^2 + V) + (1 - B)(L^2 + (s L~^2 + V)/b)),

    where b of M workers take part, s = (M - b)/(M - 1), and V = Lambda~^2/n for batches of n samples, 0 without.

    The downlink's omega is taken at D; on a common support it may carry K values only, for which no known omega is larger.
    """
    constants, d, m = known_constants(problem, "masha1"), problem.dimension, problem.num_workers
    b = m if participants is None else min(participants, m)
    a_noise, b_noise = mean_noise(up, d, b)
    sampling = 0.0 if batch is None else lipschitz_samples(finite_sums(problem)) ** 2 / batch
    selection = (m - b) / (m - 1) * constants.lipschitz_rms**2 if b < m else 0.0
    mean_square = constants.lipschitz**2 + (selection + sampling) / b
    spread = a_noise * (constants.lipschitz_rms**2 + sampling) + (1.0 - b_noise) * mean_square
    return math.sqrt((1.0 + down.omega(d)) * spread)


def masha1(
    problem: Problem,
    *,
    up: Compressor,
    down: Compressor,
    step_size: StepSize = None,
    probability: float | None = None,
    participants: int | None = None,
    **keys: Unpack[AnchoredKeys],
) -> Masha1 | AutoStep:
    """MASHA1 for a problem; with `batch` VR-MASHA1, with `sync_batch` too its stochastic form, with `participants` PP-MASHA1.

    Without a step size, the proven one: min{sqrt(p) / (2 Cq), p / (2 mu)} with p = min(1/beta, 1/2), under which
    E(|z-z*|^2 + |w-z*|^2) contracts by 1 - gamma mu / 2 in every iteration (strongly monotone case).

    Example:
        >>> import saddlebag as sb
        >>> game = sb.make_problem("bilinear", n=5, workers=2, regularisation=0.2)
        >>> method = sb.make_method("masha1", game, step_size="auto", up=sb.make_compressor("rand_k", k=5), down="identity")
        >>> run = sb.simulate(game, method, stop=sb.Stop(max_rounds=60))
        >>> run.merits["relative_error"] < 1.0
        True
    """
    p = probability_or_theory(problem, up, probability, keys.get("batch"), keys.get("sync_batch"))
    method = Masha1(step_size=1.0, probability=p, up=up, down=down, participants=participants, prox=problem.prox, **keys)
    if isinstance(step_size, str):
        return automatic(method, step_size, problem)
    return dataclasses.replace(method, step_size=proven_step(problem, method) if step_size is None else step_size)


def proven_step(problem: Problem, method: Masha1) -> float:
    """min{sqrt(p) / (2 Cq), p / (2 mu)}."""
    p, constants = method.probability, known_constants(problem, "masha1")
    if method.sync_grid is not None:
        raise ConfigError("masha1's theory has exact synchronisations; with sync_grid give method.step_size a number or 'auto'")
    if p > 0.5:
        raise ConfigError(f"masha1's theory needs probability <= 1/2, got {p}; give method.step_size a number")
    assert isinstance(method.up, Unbiased)
    assert isinstance(method.down, Unbiased)
    step_size = math.sqrt(p) / (2.0 * masha1_noise(problem, method.up, method.down, method.batch, method.participants))
    if constants.strong_monotonicity > 0:
        step_size = min(step_size, p / (2.0 * constants.strong_monotonicity))
    return step_size
