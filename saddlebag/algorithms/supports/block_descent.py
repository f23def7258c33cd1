"""Block descent by the Gauss-Southwell-Lipschitz rule, with block constants that the server estimates as it goes.

    worker m   up   F_m(z) - h_m in float32,  h_m <- h_m + that
    server     g, the mean of the h_m, and the k blocks of largest |g_b|^2 / L_b
               down their steps  -g_b / L_b, and no others
    replicas   z <- z + step

The first step moves all blocks, by -gamma g; each later one moves k of them. L_b begins as |dg_b| / |dz_b| over the first,
and after a step on a set S

    rho^2 = (sum over S of |dg_b|^2 / L_b) / (sum over S of L_b |dz_b|^2),      L_b <- max(rho, forget) L_b  for b in S:

rho is the Lipschitz constant that was seen in the norm in which the step is 1, coupling between blocks included. The estimates
are the server's alone, so they cost no bits. For minimisation; nothing is proven of the estimates.

Sources: Nutini, Schmidt, Laradji, Friedlander, Koepke 2015; Nutini, Laradji, Schmidt 2017 (the rule, with L_b given). Differs:
L_b by secants, in the manner of Barzilai, Borwein 1988, where they backtrack on function values, which no machine here knows.

Shapes: D = coordinates, B = blocks, K = chosen blocks.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.algorithms.base import Message, check_step, known_constants
from saddlebag.compression import Dense, Identity, Sparse, track
from saddlebag.compression.values import cast
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.algorithms.base import Operator, Problem
    from saddlebag.compression import Draws, Mean, Vector

__all__ = ["block_descent"]

_WHOLE = Identity()
_SYNC_EVERY = 16  # rounds between comparisons of digests
_LEAST = 1e-3  # of the largest first estimate: a block that hardly moved says little


@dataclasses.dataclass(frozen=True, eq=False)
class BlockReplica:
    """The iterate."""

    z_D: Vector
    iteration: int


@dataclasses.dataclass(frozen=True, eq=False)
class BlockWorker:
    """What the server knows of F_m: h_m."""

    known_D: Vector


@dataclasses.dataclass(frozen=True, eq=False)
class BlockServer:
    """The mean of the h_m; the step that went out last; the constants, 0 before the first step has been seen."""

    mean_D: Vector
    step_D: Vector
    constant_B: Vector


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockDescent:
    """The method with its hyper-parameters.

    Attributes:
        step_size: gamma of the first step, in which all blocks move.
        block: coordinates of a block; the last one may be shorter.
        k: blocks that move in an iteration.
        forget: how far a constant may fall in a step, in (0, 1]; 1 for never.
    """

    step_size: float
    block: int
    k: int
    forget: float = 0.5

    def __post_init__(self) -> None:
        check_step(self.step_size)
        for name in ("block", "k"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigError(f"block_descent.{name} must be a whole number of at least 1, got {value!r}")
        if not 0 < self.forget <= 1:
            raise ConfigError(f"block_descent.forget must lie in (0, 1], got {self.forget}")

    def init_replica(self, z_D: Vector) -> BlockReplica:
        return BlockReplica(z_D, 0)

    def init_worker(self, replica: BlockReplica) -> BlockWorker:
        return BlockWorker(np.zeros(len(replica.z_D)))

    def init_server(self, replica: BlockReplica) -> BlockServer:
        d = len(replica.z_D)
        return BlockServer(np.zeros(d), np.zeros(d), np.zeros(-(-d // self.block)))

    def synchronises(self, replica: BlockReplica, draws: Draws) -> bool:
        del draws
        return replica.iteration % _SYNC_EVERY == 0

    def uplink_sizes(self, replica: BlockReplica, draws: Draws) -> tuple[int, ...]:
        del draws
        return (len(replica.z_D),)

    downlink_sizes = uplink_sizes

    def worker_step(
        self, replica: BlockReplica, own: BlockWorker, operator: Operator, draws: Draws
    ) -> tuple[BlockWorker, Message]:
        payload, known_D = track(_WHOLE, operator(replica.z_D, draws), own.known_D, draws)
        return BlockWorker(known_D), Message((payload,))

    def server_step(
        self, replica: BlockReplica, own: BlockServer, means: tuple[Mean, ...], draws: Draws
    ) -> tuple[BlockServer, Message]:
        del replica, draws
        d, mean_D = len(own.mean_D), own.mean_D + means[0].dense()
        if not own.step_D.any():  # the first step, or nothing to do at the last one
            step = Dense(cast(-self.step_size * mean_D))
            return BlockServer(mean_D, step.dense(), own.constant_B), Message((step,))
        constant_B = self._seen(own, mean_D)
        gain_B = self._sums(mean_D) / constant_B
        chosen_K = np.sort(np.argsort(-gain_B, kind="stable")[: self.k])
        index = (chosen_K[:, None] * self.block + np.arange(self.block)).reshape(-1)
        index = index[index < d]
        sparse = Sparse(d, index, Dense(cast(-mean_D[index] / constant_B[index // self.block])))
        return BlockServer(mean_D, sparse.dense(), constant_B), Message((sparse,))

    def _seen(self, own: BlockServer, mean_D: Vector) -> Vector:
        """The constants after what the last step has shown."""
        change_B, moved_B = self._sums(mean_D - own.mean_D), self._sums(own.step_D)
        if not own.constant_B.any():
            seen_B = np.sqrt(change_B / np.where(moved_B > 0.0, moved_B, 1.0))
            return np.maximum(seen_B, _LEAST * seen_B.max() if seen_B.any() else 1.0 / self.step_size)
        moved = moved_B > 0.0
        span = float((own.constant_B * moved_B).sum())
        seen = float((change_B[moved] / own.constant_B[moved]).sum())
        factor = max((seen / span) ** 0.5 if span > 0.0 else 1.0, self.forget)
        return np.where(moved, factor * own.constant_B, own.constant_B)

    def _sums(self, x_D: Vector) -> Vector:
        """|x_b|^2 of each block."""
        sum_B: Vector = np.add.reduceat(np.square(x_D), np.arange(0, len(x_D), self.block))
        return sum_B

    def replay(self, replica: BlockReplica, down: Message, draws: Draws) -> BlockReplica:
        del draws
        z_D = replica.z_D.copy()
        down.parts[0].add_to(z_D)
        return BlockReplica(z_D, replica.iteration + 1)


def block_descent(
    problem: Problem,
    *,
    block: int = 4,
    k: int = 1,
    forget: float = 0.5,
    step_size: float | None = None,
) -> BlockDescent:
    """Block descent with block constants that are estimated.

    Args:
        problem: a minimisation without constraints.
        block: coordinates of a block.
        k: blocks that move in an iteration.
        forget: how far a constant may fall in a step; 1 for never.
        step_size: of the first step, in which all blocks move; without one a thousandth of 1 / L.

    Raises:
        ConfigError: the problem has constraints, a constant is needed and unknown, or a parameter is out of range.

    Example:
        >>> import saddlebag as sb
        >>> problem = sb.make_problem("quadratic", n=20, workers=2, rotation=0.0, strong_monotonicity=0.1)
        >>> run = sb.simulate(problem, sb.make_method("block_descent", problem, k=2), stop=1e-6)
        >>> run.reason
        'merit'
    """
    if not problem.unconstrained:
        raise ConfigError(f"block_descent needs a problem without constraints, got {problem.name}")
    if step_size is None:
        step_size = 1e-3 / known_constants(problem, "block_descent").lipschitz
    return BlockDescent(step_size=step_size, block=block, k=k, forget=forget)


block_descent.sends = "sends whole vectors up, blocks down"  # type: ignore[attr-defined]  # what a list of methods says of it
