"""PowerSGD: low-rank approximation of the workers' mean, in two exchanges a round, with a warm start and error memory.

A worker's half is a generator: `yield t` asks for the mean of t over the workers. Who answers is the driver's business: an
all-reduce, a round trip to a server, or `in_lockstep`, a loop over lists. Two exchanges find the projection of the *mean*
matrix, whatever the workers hold; one exchange (`low_rank.py`) projects each worker's matrix by itself.

Source: Vogels, Karimireddy, Jaggi 2019, "PowerSGD: practical low-rank gradient compression for distributed optimization",
Algorithms 1 and 2; what travels uncompressed, and joiners, as in hivemind (Ryabinin et al. 2020).

Shapes: D = coordinates of all tensors, R x C = a tensor as a matrix, K = the rank, N = values in an exchange.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from saddlebag.compression.compressors.low_rank import orthonormal, start_matrix
from saddlebag.compression.flat import Vector, require_finite
from saddlebag.compression.stream import Purpose
from saddlebag.errors import ConfigError, LocalProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from saddlebag.compression.draws import Draws

__all__ = ["PowerSGD", "PowerState", "in_lockstep"]

T = TypeVar("T")
Matrix: TypeAlias = npt.NDArray[Any]
Exchanges: TypeAlias = Generator[Vector, Vector, T]
"""Yields what is to be averaged over the workers, is sent the mean, and returns its result."""

_DEAD = 1e-12  # relative; a direction that the last matrix did not have, so its start is only rounding


def _power_iteration(m_RC: Matrix, q_CK: Matrix) -> Generator[Matrix, Matrix, tuple[Matrix, Matrix]]:
    """One step of subspace iteration on the mean of the workers' matrices: `yield t` asks for the mean of t.

    Returns:
        P, orthonormal (R, K), and Q = mean(M)'P, (C, K); their product P Q' is the projection P P' mean(M).
    """
    p_RK = orthonormal((yield m_RC @ q_CK))
    q_CK = yield m_RC.T @ p_RK
    return p_RK, q_CK


@dataclasses.dataclass(frozen=True, eq=False)
class PowerState:
    """What a worker keeps between rounds.

    Attributes:
        memory_D: what it has not sent, (D,): its own, and the workers' disagreement is part of it, so only the mean over
            the workers shrinks. Clear the memories of all workers or of none.
        start_N: the warm start, the Q of every compressed tensor one after the other: the same on all workers.

    Example:
        >>> from saddlebag.compression import Draws
        >>> state = PowerSGD(shapes=((4, 4), (4,))).begin(Draws(0, 0))
        >>> state.memory_D.shape, state.start_N.shape
        ((20,), (4,))
    """

    memory_D: Vector
    start_N: Vector

    def joiner(self) -> PowerState:
        """The state of a worker that joins now: the common start, an empty memory."""
        return PowerState(np.zeros_like(self.memory_D), self.start_N)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PowerSGD:
    """PowerSGD of rank `rank` for tensors of given shapes, which lie in the flat vector one after the other.

    A tensor of two or more dimensions is a matrix: its first dimension by all others. Vectors, and matrices that the factors
    would not shrink below `worth` of their size, travel uncompressed in the first exchange.

    With m = mean over the workers of (x_i + memory_i) and the projector P P' of the round, every worker gets P P' m, and
    memory_i becomes x_i + memory_i - P P' m: the global product, so that sent + mean of the memories = sum of the mean
    inputs. One step is contractive on m: |m - P P' m|^2 <= (1 - rank / min(R, C)) |m|^2 in expectation over a random start
    (the proof is in `low_rank.py`); never worse than 1 for a warm one.

    Attributes:
        shapes: of the tensors, in their order.
        rank: number of directions for each tensor.
        worth: a matrix is compressed where rank (R + C) <= worth R C; in (0, 1).

    Example:
        >>> from saddlebag.compression import Draws
        >>> method, draws = PowerSGD(shapes=((4, 4), (4,))), Draws(0, 0)
        >>> method.dimension, method.exchange_sizes()  # 12 values a worker and round in place of 20
        (20, (8, 4))
        >>> states = [method.begin(draws) for _ in range(2)]
        >>> results = in_lockstep([method.step(np.full(20, float(m)), state, draws) for m, state in enumerate(states)])
        >>> [mean_D.round(9)[0].item() for mean_D, _ in results]  # a matrix of rank 1 comes through
        [0.5, 0.5]
    """

    shapes: tuple[tuple[int, ...], ...]
    rank: int = 1
    worth: float = 0.5

    def __post_init__(self) -> None:
        if not isinstance(self.rank, int) or self.rank < 1:
            raise ConfigError(f"power_sgd.rank must be a whole number of at least 1, got {self.rank!r}")
        if not 0 < self.worth < 1:  # below 1 the rank is less than R and C
            raise ConfigError(f"power_sgd.worth must lie in (0, 1), got {self.worth}")
        if not self.shapes or any(side < 0 for shape in self.shapes for side in shape):
            raise ConfigError(f"power_sgd.shapes must list shapes of sides from 0, got {self.shapes}")

    @property
    def dimension(self) -> int:
        """D, the length of the flat vector."""
        return sum(math.prod(shape) for shape in self.shapes)

    def exchange_sizes(self) -> tuple[int, int]:
        """How many values a worker sends, and receives, in the two exchanges of a round."""
        first = sum((R * self.rank) if C else R for R, C in self.matrices())
        return first, sum(C * self.rank for _, C in self.matrices())

    def bits(self) -> float:
        """What a worker sends in a round, in bits, with float32 values."""
        return 32.0 * sum(self.exchange_sizes())

    def begin(self, draws: Draws, dtype: npt.DTypeLike = np.float64) -> PowerState:
        """The state of every worker before the first round of a run; the start is drawn alike on all machines."""
        _, size = self.exchange_sizes()
        start_N = start_matrix(draws.common(Purpose.SUPPORT), size, 1).reshape(-1).astype(dtype)
        return PowerState(np.zeros(self.dimension, dtype), start_N)

    def step(self, x_D: Vector, state: PowerState, draws: Draws) -> Exchanges[tuple[Vector, PowerState]]:
        """A worker's half of one round: two exchanges of flat vectors, of the lengths `exchange_sizes()`.

        Args:
            x_D: this worker's vector, (D,); its dtype is the one of all that is sent.
            state: from `begin`, the last `step`, or `PowerState.joiner`.
            draws: of the round, for directions that must be started anew.

        Returns:
            The compressed mean of the workers' vectors, (D,), the same on all of them, and the new state.

        Raises:
            NotFiniteError: the vector is not finite (and nothing has been sent).
        """
        require_finite(x_D, "a compressor's input")
        if len(x_D) != self.dimension:
            raise ConfigError(f"power_sgd.shapes describe {self.dimension} coordinates, got a vector of {len(x_D)}")
        owed_D = x_D + state.memory_D.astype(x_D.dtype, copy=False)
        results = yield from together(list(self._tensors(owed_D, state.start_N.astype(x_D.dtype, copy=False), draws)))
        out_D, memory_D, start_N = (np.concatenate(parts) for parts in zip(*results, strict=True))
        return out_D, PowerState(memory_D, start_N)

    def matrices(self) -> Iterator[tuple[int, int]]:
        """R and C of each tensor; C = 0 for one that travels uncompressed, as R values."""
        for shape in self.shapes:
            size = math.prod(shape)
            rows = shape[0] if len(shape) > 1 and size else max(size, 1)
            columns = size // rows
            yield (rows, columns) if self.rank * (rows + columns) <= self.worth * size else (size, 0)

    def _tensors(self, owed_D: Vector, start_N: Vector, draws: Draws) -> Iterator[Exchanges[tuple[Vector, Vector, Vector]]]:
        """Each tensor's own exchanges, which end with its mean, its memory and its next start, flat."""
        fresh_N = start_matrix(draws.common(Purpose.SUPPORT), len(start_N), 1).reshape(-1).astype(start_N.dtype)
        at, at_start = 0, 0
        for rows, columns in self.matrices():
            m = owed_D[at : at + rows * max(columns, 1)]
            at += len(m)
            if not columns:
                yield _uncompressed(m)
                continue
            here = slice(at_start, at_start + columns * self.rank)
            at_start = here.stop
            q_CK = revive(start_N[here].reshape(columns, self.rank), fresh_N[here].reshape(columns, self.rank))
            yield _compressed(m.reshape(rows, columns), q_CK)


def _uncompressed(m_N: Vector) -> Exchanges[tuple[Vector, Vector, Vector]]:
    mean_N = yield m_N
    return mean_N, np.zeros_like(m_N), m_N[:0]


def _compressed(m_RC: Matrix, q_CK: Matrix) -> Exchanges[tuple[Vector, Vector, Vector]]:
    p_RK, q_CK = yield from _power_iteration(m_RC, q_CK)
    product_RC = p_RK @ q_CK.T
    return product_RC.reshape(-1), (m_RC - product_RC).reshape(-1), q_CK.reshape(-1)


def revive(q_CK: Matrix, fresh_CK: Matrix) -> Matrix:
    """The warm start with its dead columns drawn anew: a zero column would stay zero for ever."""
    norm_K = np.linalg.norm(q_CK, axis=0)
    return np.where(norm_K > _DEAD * norm_K.max(), q_CK, fresh_CK)


def together(workers: Sequence[Exchanges[T]]) -> Exchanges[list[T]]:
    """Several generators as one, whose exchanges are theirs one after the other in a flat vector."""
    results: dict[int, T] = {}
    answers: dict[int, Matrix | None] = dict.fromkeys(range(len(workers)))
    while answers:
        asked: dict[int, Matrix] = {}
        for number, answer in answers.items():
            try:
                asked[number] = next(workers[number]) if answer is None else workers[number].send(answer)
            except StopIteration as end:
                results[number] = end.value
        answers = {}
        if asked:
            mean_N = yield np.concatenate([values.reshape(-1) for values in asked.values()])
            at = 0
            for number, values in asked.items():
                answers[number] = mean_N[at : at + values.size].reshape(values.shape)
                at += values.size
    return [results[number] for number in range(len(workers))]


def in_lockstep(workers: Sequence[Exchanges[T]]) -> list[T]:
    """Run the workers' halves of a round in this process, and answer each exchange with the mean in worker order.

    Raises:
        LocalProtocolError: the workers do not take part in the same exchanges.

    Example:
        >>> def worker(number):
        ...     mean = yield np.array([number])
        ...     return mean.item()
        >>> in_lockstep([worker(1.0), worker(3.0)])
        [2.0, 2.0]
    """
    results: list[T] = []
    answer: Vector | None = None
    while not results:
        asked = []
        for worker in workers:
            try:
                asked.append(next(worker) if answer is None else worker.send(answer))
            except StopIteration as end:
                results.append(end.value)
        if (results and asked) or len({(values.shape, values.dtype) for values in asked}) > 1:
            raise LocalProtocolError(
                f"workers' exchanges differ: {[values.shape for values in asked]} of {len(workers)} workers"
            )
        if asked:
            answer = sum(asked[1:], start=asked[0]) / len(asked)
    return results
