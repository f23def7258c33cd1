"""Pruning as a bi-level problem: the mask of the upper level, the weights that are retrained under it of the lower one.

    min over masks m with k ones   l(m * theta(m)),    theta(m) = argmin over theta of l(m * theta) + gamma/2 |theta|^2

With z = m * theta and g = grad l(z), and the Hessian of l left out, theta(m) answers to m by -diag(g)/gamma, so

    d l / d m = (theta - m * g / gamma) * g                            first-order, since l is bilinear in (m, theta)

After `dense` iterations of an inner method on all weights the k largest stay. Then every (`every` + 1)-th round is one of the
mask and the others are of the inner method in the k coordinates of the mask, at z = m * theta:

    worker m   up     the compressed gradient at z, of all coordinates
    server     s <- clip(s - beta dl/dm / rms(dl/dm), 0, 1);   m = the k largest of s          s is the server's alone
               down   which coordinates of the mask change, a set of indices without values
    replicas   m, and theta as it was: weights that come back have the values with which they left

Source: Zhang et al. 2022, "BiP" (the problem, its gradient, the alternation). Differs: scores start from the ranks of |theta|
and their slopes are scaled to mean square 1; the lower level is any method here, so its memories stay between masks.

Shapes: D = weights, A = those of the mask.
"""

from __future__ import annotations

import dataclasses
import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from saddlebag.algorithms.base import Message, restarted
from saddlebag.algorithms.supports.narrowing import OfTable, inner_of, put, taken
from saddlebag.compression import Levels, Sparse
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from saddlebag.algorithms.base import Operator, Problem
    from saddlebag.compression import Compressor, Draws, Index, Mean, Vector

__all__ = ["bilevel_pruning"]

_OF = MappingProxyType({"name": "compressed_adamw"})
_SYNC_EVERY = 16  # rounds between comparisons of digests


@dataclasses.dataclass(frozen=True, eq=False)
class BilevelReplica:
    """The inner method's replica, whose z is theta, and the mask, of zeros and ones."""

    state: Any
    mask_D: Vector
    iteration: int

    @property
    def z_D(self) -> Vector:
        """The pruned weights, m * theta."""
        return cast("Vector", self.state.z_D * self.mask_D)


@dataclasses.dataclass(frozen=True, eq=False)
class BilevelServer:
    """The inner method's server, and the scores of the mask."""

    state: Any
    score_D: Vector


@dataclasses.dataclass(frozen=True, kw_only=True)
class BilevelPruning(OfTable):
    """An inner method under a mask of the upper level; see the module.

    Attributes:
        method: the inner one.
        up: compresses gradients in rounds of the mask.
        sparsity: the share of weights that go, in (0, 1).
        dense: iterations before the first mask.
        every: iterations of the inner method between rounds of the mask.
        rate: beta.
        gamma: of the lower level.
    """

    up: Compressor
    sparsity: float = 0.9
    dense: int = 100
    every: int = 5
    rate: float = 0.001
    gamma: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.sparsity < 1:
            raise ConfigError(f"bilevel_pruning.sparsity must lie between 0 and 1, got {self.sparsity}")
        for name, least in (("dense", 0), ("every", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ConfigError(f"bilevel_pruning.{name} must be a whole number of at least {least}, got {value!r}")
        for name in ("rate", "gamma"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"bilevel_pruning.{name} must be a positive number, got {getattr(self, name)}")

    def _of_mask(self, replica: BilevelReplica) -> bool:
        """Whether this round is one of the mask."""
        return replica.iteration >= self.dense and (replica.iteration - self.dense) % (self.every + 1) == 0

    def _small(self, replica: BilevelReplica) -> tuple[Index, Any, Any]:
        """The coordinates of the mask, the inner method and its replica there."""
        index_A, d = np.flatnonzero(replica.mask_D), len(replica.mask_D)
        return index_A, taken(self.method, index_A, d), taken(replica.state, index_A, d)

    def _inner(self, replica: BilevelReplica) -> Any:
        return replica.state

    def init_replica(self, z_D: Vector) -> BilevelReplica:
        return BilevelReplica(self.method.init_replica(z_D), np.ones(len(z_D)), 0)

    def restart(self, replica: BilevelReplica) -> BilevelReplica:
        """The replica from which new memories start: mask, theta and the place in the schedule stay."""
        return dataclasses.replace(replica, state=restarted(self.method, replica.state))

    def init_server(self, replica: BilevelReplica) -> BilevelServer:
        return BilevelServer(self.method.init_server(replica.state), _scores(replica))

    def synchronises(self, replica: BilevelReplica, draws: Draws) -> bool:
        del replica
        return draws.round % _SYNC_EVERY == 0

    def uplink_sizes(self, replica: BilevelReplica, draws: Draws) -> tuple[int, ...]:
        if self._of_mask(replica):
            return (len(replica.mask_D),)
        _, method, small = self._small(replica)
        return cast("tuple[int, ...]", method.uplink_sizes(small, draws))

    def downlink_sizes(self, replica: BilevelReplica, draws: Draws) -> tuple[int, ...]:
        if self._of_mask(replica):
            return (len(replica.mask_D),)
        _, method, small = self._small(replica)
        return cast("tuple[int, ...]", method.downlink_sizes(small, draws))

    def worker_step(self, replica: BilevelReplica, own: Any, operator: Operator, draws: Draws) -> tuple[Any, Message]:
        if self._of_mask(replica):
            return own, Message((self.up.encode(operator(replica.z_D, draws), draws),))
        (index_A, method, small), d = self._small(replica), len(replica.mask_D)

        def asked(theta_A: Vector, key: Draws) -> Vector:
            point_D = np.zeros(d)
            point_D[index_A] = theta_A
            value_A: Vector = operator(point_D, key)[index_A]
            return value_A

        after, up = method.worker_step(small, taken(own, index_A, d), asked, draws)
        return put(own, after, index_A, d), up

    def server_step(
        self, replica: BilevelReplica, own: BilevelServer, means: tuple[Mean, ...], draws: Draws
    ) -> tuple[BilevelServer, Message]:
        d = len(replica.mask_D)
        if not self._of_mask(replica):
            index_A, method, small = self._small(replica)
            after, down = method.server_step(small, taken(own.state, index_A, d), means, draws)
            return dataclasses.replace(own, state=put(own.state, after, index_A, d)), down
        score_D = _scores(replica) if replica.iteration == self.dense else own.score_D
        gradient_D = means[0].dense()
        slope_D = (replica.state.z_D - replica.mask_D * gradient_D / self.gamma) * gradient_D
        size = float(np.square(slope_D).mean()) ** 0.5
        if size > 0.0:
            score_D = np.clip(score_D - self.rate / size * slope_D, 0.0, 1.0)
        kept = max(1, round((1.0 - self.sparsity) * d))
        mask_D = np.zeros(d)
        mask_D[np.argsort(-score_D, kind="stable")[:kept]] = 1.0
        changed_K = np.flatnonzero(mask_D != replica.mask_D)
        ones = Levels(np.ones(len(changed_K), np.int8), np.ones(min(len(changed_K), 1), np.float32), max(len(changed_K), 1))
        return dataclasses.replace(own, score_D=score_D), Message((Sparse(d, changed_K, ones),))

    def replay(self, replica: BilevelReplica, down: Message, draws: Draws) -> BilevelReplica:
        if self._of_mask(replica):
            changed_D = down.parts[0].dense() != 0.0
            mask_D = np.where(changed_D, 1.0 - replica.mask_D, replica.mask_D)
            return dataclasses.replace(replica, mask_D=mask_D, iteration=replica.iteration + 1)
        index_A, method, small = self._small(replica)
        after = put(replica.state, method.replay(small, down, draws), index_A, len(replica.mask_D))
        return dataclasses.replace(replica, state=after, iteration=replica.iteration + 1)


def _scores(replica: BilevelReplica) -> Vector:
    """Half the mask and half the rank of |theta|, so that the largest are those of the mask."""
    rank_D = np.empty(len(replica.mask_D))
    rank_D[np.argsort(np.abs(replica.state.z_D), kind="stable")] = np.arange(len(rank_D)) / max(len(rank_D), 1)
    return 0.5 * (replica.mask_D + rank_D)


def bilevel_pruning(
    problem: Problem,
    *,
    up: Compressor,
    down: Compressor,
    of: Mapping[str, Any] = _OF,
    sparsity: float = 0.9,
    dense: int = 100,
    every: int = 5,
    rate: float = 0.001,
    gamma: float = 1.0,
    step_size: float | None = None,
) -> BilevelPruning:
    """Prune while training, the mask by its own first-order steps.

    Args:
        problem: a minimisation without constraints, such as a network's.
        up: of the workers, in both kinds of rounds.
        down: of the server in rounds of weights; masks travel as sets of indices.
        of: the inner method as a table: its name, and what it takes beside compressors and a step size.
        sparsity: the share of weights that go.
        dense: iterations before the first mask.
        every: iterations of the inner method between rounds of the mask.
        rate: beta, the step of the scores.
        gamma: of the lower level.
        step_size: of the inner method.

    Raises:
        ConfigError: the problem has constraints, a parameter is out of range, or the inner method does not fit.

    Example:
        >>> import saddlebag as sb
        >>> problem = sb.make_problem("digits_cnn", data="digits", workers=2, size="small", attack="none")
        >>> grid = {"name": "grid", "step": 0.25}
        >>> method = sb.make_method("bilevel_pruning", problem, sparsity=0.8, dense=2, step_size=0.01, up=grid, down=grid)
        >>> run = sb.simulate(problem, method, stop=sb.Stop(max_rounds=4))
        >>> round(float((run.z == 0).mean()), 2)
        0.8
    """
    if not problem.unconstrained:
        raise ConfigError(f"bilevel_pruning needs a problem without constraints, got {problem.name}")
    method = inner_of("bilevel_pruning", problem, of, up, down, step_size)
    return BilevelPruning(method=method, up=up, sparsity=sparsity, dense=dense, every=every, rate=rate, gamma=gamma)
