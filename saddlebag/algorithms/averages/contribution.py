"""How much each worker has helped: Shapley values of a round's utility, and the utility that the messages themselves tell.

A *utility* v says what a coalition S of workers is worth, v(nobody) = 0. The Shapley value of worker m is what it adds to those
who came before it, on average over all orders; equally, with u(q) = E v(S) where everybody is in S with chance q,

    phi_m = integral from 0 to 1 of E[v(S with m) - v(S without m)] dq        (multilinear extension: Owen 1972)

so that sum_m phi_m = v(all), equal workers have equal values, and who never changes anything has 0.

    exact, from 2^M utilities                 any v, M up to 20                             `shapley`
    exact, in M D or M steps                  v additive, a mean, or a squared length       `of_sums`, `of_means`, `of_squares`
    within eps but for a chance of delta      any v whose steps are bounded                 `shapley_sampled`

`alignments` is what a run can know of itself: how far each uplink goes where the round went.

Shapes: M = workers, D = coordinates.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from saddlebag.compression import Vector

_MOST = 20  # workers whose coalitions are enumerated: a million utilities


def shapley(utility: Callable[[frozenset[int]], float], num_workers: int) -> Vector:
    """The Shapley values by enumeration of all coalitions.

    Args:
        utility: of a coalition; its value of nobody is taken as it is.
        num_workers: M, 1 to 20; the utility is asked 2^M times.

    Returns:
        float64 (M,).

    Raises:
        ConfigError: there are too many workers, or none.

    Example:
        >>> shapley(lambda crew: float(len(crew) >= 2), 3).round(6).tolist()  # any two of three can do it
        [0.333333, 0.333333, 0.333333]
    """
    if not 1 <= num_workers <= _MOST:
        raise ConfigError(
            f"num_workers must lie in [1, {_MOST}] to enumerate coalitions, got {num_workers}; use shapley_sampled"
        )
    worth = [utility(_coalition(mask, num_workers)) for mask in range(1 << num_workers)]
    share = [1.0 / (num_workers * math.comb(num_workers - 1, size)) for size in range(num_workers)]
    value_M = np.zeros(num_workers)
    for worker in range(num_workers):
        steps = (
            share[mask.bit_count()] * (worth[mask | 1 << worker] - worth[mask])
            for mask in range(1 << num_workers)
            if not mask >> worker & 1
        )
        value_M[worker] = math.fsum(steps)
    return value_M


def _coalition(mask: int, num_workers: int) -> frozenset[int]:
    return frozenset(worker for worker in range(num_workers) if mask >> worker & 1)


def of_sums(value_M: Vector) -> Vector:
    """The Shapley values of the additive utility v(S) = sum over S of a_m: the a_m themselves.

    Example:
        >>> of_sums(np.array([1.0, 2.0])).tolist()
        [1.0, 2.0]
    """
    return np.asarray(value_M, np.float64).copy()


def of_means(value_M: Vector) -> Vector:
    """The Shapley values of v(S) = mean over S of a_m, 0 of nobody: what a linear utility makes of means over those present.

    With H = 1 + 1/2 + ... + 1/M and b_m the mean of the others, phi_m = (a_m + (H - 1) (a_m - b_m)) / M: a worker who comes
    after s others moves their mean, b_m in expectation, by (a_m - b_m) / (s + 1).

    Example:
        >>> of_means(np.array([1.0, 3.0])).tolist()
        [0.0, 2.0]
    """
    value_M = np.asarray(value_M, np.float64)
    m = len(value_M)
    if m == 1:
        return value_M.copy()
    others_M = (value_M.sum() - value_M) / (m - 1)
    harmonic = sum(1.0 / size for size in range(2, m + 1))
    return np.asarray((value_M + harmonic * (value_M - others_M)) / m)


def of_squares(value_MD: npt.NDArray[np.float64]) -> Vector:
    """The Shapley values of v(S) = |sum over S of x_m|^2: phi_m = x_m . sum of all x.

    In v each pair of workers has 2 x_m . x_n once both are there, and halves of it are theirs.

    Example:
        >>> of_squares(np.array([[1.0, 0.0], [1.0, 1.0]])).tolist()
        [2.0, 3.0]
    """
    return alignments(value_MD, value_MD.sum(axis=0))


def alignments(value_MD: npt.NDArray[np.float64], direction_D: Vector) -> Vector:
    """x_m . d for each uplink: to first order, what it adds to a step along d.

    With d the mean of the round these are M times the Shapley values of the squared length of the mean, v(S) = |sum over S
    of x_m / M|^2, and of the decrease that a step along the mean promises.

    Example:
        >>> alignments(np.array([[1.0, 0.0], [-1.0, 1.0]]), np.array([2.0, 1.0])).tolist()
        [2.0, -1.0]
    """
    return np.asarray((value_MD * direction_D).sum(axis=1))


def num_orders(num_workers: int, reach: float, eps: float, delta: float) -> int:
    """How many orders `shapley_sampled` draws: 2 (reach / eps)^2 log(2 M / delta), by Hoeffding's inequality for all M at once.

    Example:
        >>> num_orders(8, reach=1.0, eps=0.1, delta=0.01)
        1476
    """
    for name, value in (("reach", reach), ("eps", eps)):
        if not 0 < value < math.inf:
            raise ConfigError(f"{name} must be a positive number, got {value}")
    if not 0 < delta < 1:
        raise ConfigError(f"delta must lie in (0, 1), got {delta}")
    if num_workers < 1:
        raise ConfigError(f"num_workers must be at least 1, got {num_workers}")
    return math.ceil(2.0 * (reach / eps) ** 2 * math.log(2.0 * num_workers / delta))


def shapley_sampled(
    utility: Callable[[frozenset[int]], float], num_workers: int, *, reach: float, eps: float, delta: float, seed: int = 0
) -> Vector:
    """The Shapley values from random orders: each within `eps` of the exact one, all of them but for a chance of `delta`.

    An order is that of M uniform times of arrival, that is, the multilinear extension asked at each worker's own time.

    Args:
        utility: of a coalition; it is asked M + 1 times for each of `num_orders` orders.
        num_workers: M.
        reach: no worker changes the utility of any coalition by more than this, either way.
        eps: error allowed.
        delta: chance that some value errs by more.
        seed: of the orders.

    Returns:
        float64 (M,); the values of each order, and so these, sum to v(all) - v(nobody).

    Raises:
        ConfigError: a parameter is out of range, or a step of the utility exceeds `reach`: the promise would not hold.

    Example:
        >>> values = shapley_sampled(lambda crew: float(len(crew) >= 2), 3, reach=1.0, eps=0.1, delta=0.01)
        >>> bool(abs(values - 1 / 3).max() <= 0.1)
        True
    """
    count, rng = num_orders(num_workers, reach, eps, delta), np.random.default_rng(seed)
    total_M = np.zeros(num_workers)
    nobody = utility(frozenset())
    for _ in range(count):
        crew: frozenset[int] = frozenset()
        before = nobody
        for worker in rng.permutation(num_workers).tolist():
            crew = crew | {worker}
            after = utility(crew)
            if not abs(after - before) <= reach * (1.0 + 1e-12):
                raise ConfigError(f"worker {worker} changes the utility by {after - before:g}, more than reach = {reach:g}")
            total_M[worker] += after - before
            before = after
    return total_M / count
