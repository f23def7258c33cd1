"""A worker's operator divided among ranks: F_m = the mean of its parts, added up in one order wherever they are computed.

The parts of a node's ranks are added along a binary tree (rank 0 takes rank 1's sum, rank 2 takes rank 3's, then rank 0 rank
2's, ...), so that a node of processes and `Divided` in one process give the same bits, on any backend and after any restart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from saddlebag.algorithms.agreed.common_part import common_part
from saddlebag.algorithms.capabilities import Divisible
from saddlebag.algorithms.finite_sum import FiniteSum
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from saddlebag.algorithms.agreed.common_part import CommonPart
    from saddlebag.algorithms.base import Operator, Problem
    from saddlebag.compression import Draws, Vector


def part_of(problem: Problem, worker: int, rank: int, ranks: int) -> Operator:
    """One rank's part of the worker's operator; the mean of the parts of all ranks is `problem.operator(worker)`.

    A problem brings it (`Divisible`), or the samples of a finite sum are dealt out, every `ranks`-th to a rank. A part that
    computes on a GPU may be `OnDevice`.

    Raises:
        ConfigError: the operator cannot be divided, or not among so many.

    Example:
        >>> import numpy as np
        >>> import saddlebag as sb
        >>> from saddlebag.compression import Draws
        >>> game = sb.make_problem("finite_bilinear", n=2, workers=1, num_samples=4)
        >>> z_D, draws = np.ones(4), Draws(0, 0)
        >>> parts = [part_of(game, 0, rank, 2)(z_D, draws) for rank in range(2)]
        >>> bool(np.allclose(np.mean(parts, axis=0), game.operator(0)(z_D, draws)))
        True
    """
    if not 0 <= rank < ranks:
        raise ConfigError(f"rank must lie in [0, {ranks}), got {rank}")
    if ranks == 1:
        return problem.operator(worker)
    if isinstance(problem, Divisible):
        return problem.part(worker, rank, ranks)
    operator = problem.operator(worker)
    if not isinstance(operator, FiniteSum):
        raise ConfigError(f"{problem.name} is neither a mean over samples nor has it a `part`: a node needs one rank for it")
    return _dealt(operator, rank, ranks)


def _dealt(operator: FiniteSum, rank: int, ranks: int) -> Operator:
    """The mean over the samples rank, rank + ranks, ..., times their share of all samples and `ranks`."""
    if ranks > operator.num_samples:
        raise ConfigError(f"{operator.num_samples} samples cannot be dealt to {ranks} ranks; start fewer on a node")
    index_B = np.arange(rank, operator.num_samples, ranks)
    weight = ranks * len(index_B) / operator.num_samples

    def part(z_D: Vector, draws: Draws) -> Vector:
        del draws
        return weight * operator.batch(z_D, index_B)

    return part


def tree_partners(rank: int, ranks: int) -> tuple[list[int], int | None]:
    """From whom a rank takes a sum, in this order, and to whom it then gives its own; None for rank 0, which has the total.

    Example:
        >>> [tree_partners(rank, 5) for rank in range(5)]
        [([1, 2, 4], None), ([], 0), ([3], 0), ([], 2), ([], 0)]
    """
    sources: list[int] = []
    step = 1
    while step < ranks:
        if rank % (2 * step):
            return sources, rank - step
        if rank + step < ranks:
            sources.append(rank + step)
        step *= 2
    return sources, None


def tree_mean(parts: Sequence[Vector]) -> Vector:
    """The mean of vectors, float64 (D,) each, added as a node of `len(parts)` ranks adds them; one alone is itself.

    Example:
        >>> tree_mean([np.array([1.0]), np.array([2.0]), np.array([6.0])]).tolist()
        [3.0]
    """
    sums = list(parts)
    for rank in reversed(range(len(sums))):  # a rank's sources have higher numbers, and are complete
        for source in tree_partners(rank, len(sums))[0]:
            sums[rank] = sums[rank] + sums[source]
    return sums[0] if len(sums) == 1 else sums[0] / len(sums)


class _Divided:
    """A problem whose operators are means of parts, and otherwise the one inside."""

    def __init__(self, inner: Problem, ranks: int) -> None:
        self._inner, self._ranks = inner, ranks

    def common_part(self) -> CommonPart | None:
        return common_part(self._inner)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def operator(self, worker: int) -> Operator:
        parts = [part_of(self._inner, worker, rank, self._ranks) for rank in range(self._ranks)]
        return lambda z_D, draws: tree_mean([part(z_D, draws) for part in parts])


def divided(problem: Problem, ranks: int) -> Problem:
    """The problem with every worker's operator computed part by part: the bits of nodes of `ranks` ranks, in one process.

    Raises:
        ConfigError: `ranks` is below 1, or the problem cannot be divided among so many.
    """
    if ranks < 1:
        raise ConfigError(f"ranks must be at least 1, got {ranks}")
    if ranks == 1:
        return problem
    for worker in range(problem.num_workers):
        part_of(problem, worker, 0, ranks)
    whole: Problem = cast("Any", _Divided(problem, ranks))
    return whole
