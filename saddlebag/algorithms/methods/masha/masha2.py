"""MASHA2: the anchored method for contractive compressors, with error feedback on both sides; no prox.

Beznosikov et al. 2022, Algorithm 2. With zh = tau z + p w - gamma F(w), one round is

    x_m = e_m + gamma (F_m(zh) - F_m(w)),   up C_m(x_m),   e_m <- x_m - C_m(x_m)
    X   = e + mean of C_m(x_m),             down g = C_s(X),  e <- X - g
    z+  = zh - g                                              (gamma is in the message)

The memories hold displacements that are still owed; the bookkeeping is linear, so there is no prox and no constraint.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Unpack

import numpy as np

from saddlebag.algorithms.agreed.auto_step import AutoStep, StepSize, Strain, automatic
from saddlebag.algorithms.base import Message, Operator, Problem, known_constants
from saddlebag.algorithms.finite_sum import finite_sums, lipschitz_samples
from saddlebag.algorithms.methods.masha.anchor import Anchored, AnchoredKeys, AnchoredReplica, probability_or_theory
from saddlebag.compression import Compressor, Contractive, Draws, Mean, Vector, feed_back, kind_of
from saddlebag.errors import ConfigError

__all__ = ["Masha2", "masha2"]

_EDGE = 1.44  # instability shows at a strain of 1 / 1.2, measured with Top-k and unscaled Rand-k
_PATIENCE = 3.0  # iterations; error memories return what they owe later


@dataclasses.dataclass(frozen=True, eq=False)
class Masha2Worker:
    """F_m(w) as the server knows it, and the error memory e_m."""

    operator_w_D: Vector
    memory_D: Vector


@dataclasses.dataclass(frozen=True, eq=False)
class Masha2Server:
    """The mean of the workers' F_m(w), and the server's error memory e."""

    operator_w_D: Vector
    memory_D: Vector


@dataclasses.dataclass(frozen=True, kw_only=True)
class Masha2(Anchored):
    """MASHA2 with its hyper-parameters; see `Anchored`.

    Example:
        >>> import saddlebag as sb
        >>> from saddlebag.compression import TopK
        >>> game = sb.make_problem("bilinear", n=5, workers=2, regularisation=0.2)
        >>> method = Masha2(step_size=0.05, probability=0.5, up=TopK(fraction=0.5), down=TopK(fraction=0.5))
        >>> sb.simulate(game, method, stop=sb.Stop(max_rounds=60)).merits["relative_error"] < 1.0
        True
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, compressor in (("up", self.up), ("down", self.down)):
            if not isinstance(compressor, Contractive):
                raise ConfigError(
                    f"masha2 needs a contractive compressor {name}, got {compressor} ({kind_of(compressor)}), "
                    "with which its error feedback diverges; use masha1 or a contractive one such as top_k"
                )

    def init_worker(self, replica: AnchoredReplica) -> Masha2Worker:
        return Masha2Worker(np.zeros(len(replica.z_D)), np.zeros(len(replica.z_D)))

    def init_server(self, replica: AnchoredReplica) -> Masha2Server:
        return Masha2Server(np.zeros(len(replica.z_D)), np.zeros(len(replica.z_D)))

    def _half(self, replica: AnchoredReplica) -> Vector:
        """The half point zh = zbar - gamma F(w)."""
        return self._pulled(replica) - self.step_size * replica.operator_w_D

    def strain(self, before: AnchoredReplica, down: Message, after: AnchoredReplica) -> Strain | None:
        del after
        if before.syncing:
            return None
        strain = self._anchored_strain(before, down.parts[-1].dense() / self.step_size, self._half(before))
        return dataclasses.replace(strain, change=_EDGE * strain.change, patience=_PATIENCE)

    def worker_step(
        self, replica: AnchoredReplica, own: Masha2Worker, operator: Operator, draws: Draws
    ) -> tuple[Masha2Worker, Message]:
        known_D, parts = self._worker_full(replica, own.operator_w_D, operator, draws)
        memory_D = own.memory_D
        if not replica.syncing:
            difference_D = self._difference(replica, own.operator_w_D, operator, self._half(replica), draws)
            payload, memory_D = feed_back(self.up, self.step_size * difference_D, memory_D, draws)
            parts = (*parts, payload)
        return Masha2Worker(known_D, memory_D), Message(parts)

    def server_step(
        self, replica: AnchoredReplica, own: Masha2Server, means: tuple[Mean, ...], draws: Draws
    ) -> tuple[Masha2Server, Message]:
        mean_D, parts = self._server_full(replica, own.operator_w_D, means, draws)
        memory_D = own.memory_D
        if not replica.syncing:
            displacement_D, owed_D = means[-1].dense(), self._owed(replica, own.operator_w_D)
            if owed_D is not None:
                displacement_D = displacement_D + self.step_size * owed_D
            payload, memory_D = feed_back(self.down, displacement_D, memory_D, draws)
            parts = (*parts, payload)
        return Masha2Server(mean_D, memory_D), Message(parts)

    def replay(self, replica: AnchoredReplica, down: Message, draws: Draws) -> AnchoredReplica:
        z_D = replica.z_D
        if not replica.syncing:
            z_D = self._half(replica) - down.parts[-1].dense()
        return self._replay_anchor(replica, z_D, down, draws)


def masha2(
    problem: Problem,
    *,
    up: Compressor,
    down: Compressor,
    step_size: StepSize = None,
    probability: float | None = None,
    **keys: Unpack[AnchoredKeys],
) -> Masha2 | AutoStep:
    """MASHA2 for a problem without prox; with `batch` VR-MASHA2, with `sync_batch` too its stochastic form.

    Without a step size, the proven one for the "current" rule; see `proven_step`.

    Raises:
        ConfigError: the problem has a prox, a compressor is not contractive, or constants are needed and unknown.

    Example:
        >>> import saddlebag as sb
        >>> game = sb.make_problem("bilinear", n=5, workers=2, regularisation=0.2)
        >>> method = sb.make_method(
        ...     "masha2", game, step_size=0.1, up=sb.make_compressor("top_k", k=5), down=sb.make_compressor("top_k", k=5)
        ... )
        >>> run = sb.simulate(game, method, stop=sb.Stop(max_rounds=60))
        >>> run.merits["relative_error"] < 1.0
        True
    """
    if not problem.unconstrained:
        raise ConfigError(f"masha2 has no prox and {problem.name} needs one; use masha1")
    p = probability_or_theory(problem, up, probability, keys.get("batch"), keys.get("sync_batch"))
    method = Masha2(step_size=1.0, probability=p, up=up, down=down, **keys)
    if isinstance(step_size, str):
        return automatic(method, step_size, problem)
    return dataclasses.replace(method, step_size=proven_step(problem, method) if step_size is None else step_size)


def proven_step(problem: Problem, method: Masha2) -> float:
    """min{sqrt(p) / (9 delta L^), p / (2 mu)}, delta = 1/alpha; 97 delta delta_s for 9 delta with a compressed downlink.

    L^ is L~, with batches of b samples sqrt(L~^2 + Lambda~^2/b): a batch's difference d_m has mean |d_m|^2 of at most that
    squared times |zh - w|^2, and its noise adds no more than gamma^2 Lambda~^2/(M b) |zh - w|^2 to the main inequality, where
    the proof spends 2 gamma^2 L~^2 (section 9.4).
    """
    p, constants, d = method.probability, known_constants(problem, "masha2"), problem.dimension
    if method.sync_grid is not None:
        raise ConfigError("masha2's theory has exact synchronisations; with sync_grid give method.step_size a number or 'auto'")
    if p > 0.5 or method.rule != "current":
        raise ConfigError(f"masha2's theory needs probability <= 1/2 and rule 'current', got {p} and {method.rule!r}")
    assert isinstance(method.up, Contractive)
    assert isinstance(method.down, Contractive)
    delta, delta_down = 1.0 / method.up.alpha(d), 1.0 / method.down.alpha(d)
    sampling = 0.0 if method.batch is None else lipschitz_samples(finite_sums(problem)) ** 2 / method.batch
    factor = 9.0 * delta if delta_down == 1.0 else 97.0 * delta * delta_down
    step_size = math.sqrt(p) / (factor * math.sqrt(constants.lipschitz_rms**2 + sampling))
    if constants.strong_monotonicity > 0:
        step_size = min(step_size, p / (2.0 * constants.strong_monotonicity))
    return step_size
