"""Operators that are means over samples, F_m = (1/r) sum_i F_{m,i}, and the batches that methods draw from them.

A problem offers a finite sum when its operators have, beside their call, what `FiniteSum` asks for. Batches are drawn with
replacement from the worker's own stream, so they are a function of (run seed, round, worker) and cost no traffic. A
*stochastic oracle* is the same thing: an index names a fresh sample, `num_samples` is the size of the index space (below
2^32), and the call may be refused when the whole sum is out of reach.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from saddlebag.compression import Purpose
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.algorithms.base import Operator, Problem
    from saddlebag.compression import Draws, Index, Vector

__all__ = ["FiniteSum"]


@runtime_checkable
class FiniteSum(Protocol):
    """An operator that can also be evaluated on some of its samples.

    Example:
        >>> import numpy as np
        >>> from saddlebag.algorithms.problems import FiniteBilinearGame
        >>> operator = FiniteBilinearGame.build(None, n=2, num_workers=1, seed=0).operator(0)
        >>> isinstance(operator, FiniteSum), operator.batch(np.zeros(4), np.array([0])).shape
        (True, (4,))
    """

    def __call__(self, z_D: Vector, draws: Draws) -> Vector:
        """F_m(z), the mean over all samples."""

    @property
    def num_samples(self) -> int:
        """The number r of samples, below 2^32."""

    @property
    def lipschitz(self) -> float | None:
        """Lambda_m, the root mean square over the samples of their Lipschitz constants; None when unknown."""

    def batch(self, z_D: Vector, index_B: Index) -> Vector:
        """The mean of F_{m,i}(z) over the indices, repetitions included; a function of its arguments."""


def check_batch(name: str, size: int | None) -> None:
    """Raise `ConfigError` unless this is None or a positive number of samples."""
    if size is not None and size < 1:
        raise ConfigError(f"{name} must be at least 1 sample, got {size}")


def as_finite_sum(operator: Operator) -> FiniteSum:
    """The operator as a finite sum.

    Raises:
        ConfigError: it cannot be evaluated on a batch.
    """
    if not isinstance(operator, FiniteSum):
        raise ConfigError("batch needs operators that are finite sums, and this problem's are not; leave method.batch out")
    return operator


def finite_sums(problem: Problem) -> list[FiniteSum]:
    """The operators of all workers as finite sums; errors as `as_finite_sum`.

    Example:
        >>> import saddlebag as sb
        >>> game = sb.make_problem("finite_bilinear", n=2, workers=2, num_samples=8)
        >>> [part.num_samples for part in finite_sums(game)]
        [8, 8]
    """
    return [as_finite_sum(problem.operator(worker)) for worker in range(problem.num_workers)]


def lipschitz_samples(sums: list[FiniteSum]) -> float:
    """Lambda~ = sqrt(mean of Lambda_m^2).

    Raises:
        ConfigError: a Lambda_m is not known.
    """
    squares = [part.lipschitz**2 for part in sums if part.lipschitz is not None]
    if len(squares) < len(sums):
        raise ConfigError("the samples of this problem have no known Lipschitz constants; give method.step_size a number")
    return float((sum(squares) / len(squares)) ** 0.5)


def batch_index(operator: FiniteSum, size: int, draws: Draws, *, skip: int = 0) -> Index:
    """`size` indices, independent and uniform, int64 (B,): those after the first `skip` of this worker and round.

    Example:
        >>> import saddlebag as sb
        >>> game = sb.make_problem("finite_bilinear", n=2, workers=2, num_samples=8)
        >>> from saddlebag.compression import Draws
        >>> index_B = batch_index(game.operator(1), 3, Draws(0, 7, 1))  # a function of seed, round and worker
        >>> index_B.shape, bool((index_B == batch_index(game.operator(1), 3, Draws(0, 7, 1))).all())
        ((3,), True)
    """
    stream = draws.own(Purpose.BATCH)
    if skip:
        stream.below(operator.num_samples, skip)
    return stream.below(operator.num_samples, size)
