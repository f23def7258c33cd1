"""Full vectors on the wire, as increments of an accumulator that both ends keep in float64.

F_m(w) does not vanish at the solution, so a float32 copy of it would put a floor under the accuracy; its increments do
vanish, and so does their rounding.

What is done to every coordinate is done block by block, while a block is in the cache: the same bits, and each vector passes
through memory once.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from saddlebag.algorithms.base import Message, Prox, check_step, identity_prox
from saddlebag.compression import Dense, Grid, Vector, track
from saddlebag.compression.values import cast
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from saddlebag.compression import Draws, Mean, Payload

WireType: TypeAlias = Literal["float32", "float64"]

_DTYPES: dict[str, type[np.float32] | type[np.float64]] = {"float32": np.float32, "float64": np.float64}
_BLOCK = 1 << 16  # coordinates


def check_wire_type(dtype: str) -> None:
    """Raise `ConfigError` unless this is a type that full vectors may travel in."""
    if dtype not in ("float32", "float64"):
        raise ConfigError(f"wire must be 'float32' or 'float64', got {dtype!r}")


def blocks(dimension: int) -> Iterator[slice]:
    """Slices of consecutive coordinates, a few of whose float64 values fit the cache.

    Example:
        >>> [(here.start, here.stop) for here in blocks(100_000)]
        [(0, 65536), (65536, 100000)]
    """
    return (slice(start, min(start + _BLOCK, dimension)) for start in range(0, dimension, _BLOCK))


def difference(x_D: Vector, known_D: Vector, dtype: WireType) -> Dense:
    """The payload that takes an accumulator from `known_D` to (nearly) `x_D`.

    Example:
        >>> difference(np.array([3.0, 1.0]), np.array([1.0, 1.0]), "float32").value_D
        array([2., 0.], dtype=float32)
    """
    return Dense(cast(x_D - known_D, _DTYPES[dtype]))


def increment(x_D: Vector, known_D: Vector, dtype: WireType) -> tuple[Dense, Vector]:
    """The payload that takes the accumulator from `known_D` to (nearly) `x_D`, and the accumulator after it.

    Example:
        >>> x_D, known_D = np.array([1.0, 0.1]), np.zeros(2)
        >>> payload, known_D = increment(x_D, known_D, "float32")
        >>> float(abs(x_D - known_D).max()) < 1e-8  # 0.1 is rounded to float32
        True
        >>> payload, known_D = increment(x_D, known_D, "float32")
        >>> float(abs(x_D - known_D).max()) < 1e-16  # its rounding error is sent next
        True
    """
    value_D, next_D, square = np.empty(len(x_D), _DTYPES[dtype]), np.empty(len(x_D)), 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for here in blocks(len(x_D)):
            value_B = value_D[here]
            np.subtract(x_D[here], known_D[here], out=value_B, casting="same_kind")
            np.add(known_D[here], value_B, out=next_D[here])
            square += float(np.dot(value_B, value_B))
    if not np.isfinite(square):
        difference(x_D, known_D, dtype)  # says what is not finite; the square may overflow where no value does
    return Dense(value_D), next_D


def moved_difference(x_D: Vector, change_D: Vector, known_D: Vector, dtype: WireType) -> tuple[Dense, Vector]:
    """The payload that takes an accumulator from `known_D` to (nearly) `x_D + change_D`, and that sum."""
    value_D, sum_D, square = np.empty(len(x_D), _DTYPES[dtype]), np.empty(len(x_D)), 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for here in blocks(len(x_D)):
            value_B = value_D[here]
            np.add(x_D[here], change_D[here], out=sum_D[here])
            np.subtract(sum_D[here], known_D[here], out=value_B, casting="same_kind")
            square += float(np.dot(value_B, value_B))
    if not np.isfinite(square):
        difference(sum_D, known_D, dtype)  # as in `increment`
    return Dense(value_D), sum_D


def advanced(known_D: Vector, payload: Payload) -> Vector:
    """The accumulator after a payload: one new vector, where a sum would widen the payload into another first.

    Example:
        >>> from saddlebag.compression import Sparse
        >>> advanced(np.ones(3), Sparse(3, np.array([1]), Dense(np.array([5.0])))).tolist()
        [1.0, 6.0, 1.0]
    """
    next_D = known_D.copy()
    payload.add_to(next_D)
    return next_D


def advancing(next_D: Vector, known_D: Vector, payload: Payload) -> Iterator[slice]:
    """Fill `next_D` with the bits of `advanced`; yields each block as soon as it is there, for what is done to it next."""
    if isinstance(payload, Dense):
        for here in blocks(len(known_D)):
            np.add(known_D[here], payload.value_D[here], out=next_D[here])
            yield here
        return
    next_D[:] = known_D
    payload.add_to(next_D)
    yield from blocks(len(known_D))


def synchronise(x_D: Vector, known_D: Vector, dtype: WireType, grid_step: float | None, draws: Draws) -> tuple[Payload, Vector]:
    """What takes the other side from `known_D` towards `x_D`, and where it is then: in full, or through a grid of that step."""
    if grid_step is None:
        return increment(x_D, known_D, dtype)
    return track(Grid(step=grid_step), x_D, known_D, draws)


@dataclasses.dataclass(frozen=True, eq=False)
class FullWorker:
    """The last F_m as the server knows it."""

    operator_D: Vector


@dataclasses.dataclass(frozen=True, eq=False)
class FullServer:
    """The mean of the workers' last F_m."""

    operator_D: Vector


@dataclasses.dataclass(frozen=True, kw_only=True)
class FullExchange:
    """One full vector up and down in every round, as increments."""

    step_size: float
    prox: Prox = identity_prox
    wire: WireType = "float32"

    def __post_init__(self) -> None:
        check_step(self.step_size)
        check_wire_type(self.wire)

    def _exchange_up(self, own: FullWorker, value_D: Vector) -> tuple[FullWorker, Message]:
        payload, known_D = increment(value_D, own.operator_D, self.wire)
        return FullWorker(known_D), Message((payload,))

    def _exchange_down(self, own: FullServer, means: tuple[Mean, ...], known_D: Vector) -> tuple[FullServer, Message]:
        payload, mean_D = moved_difference(own.operator_D, means[0].dense(), known_D, self.wire)
        return FullServer(mean_D), Message((payload,))
