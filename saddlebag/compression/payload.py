"""Payloads: what a compressed vector looks like, whoever made it.

A payload knows its layout and how to add itself to a vector. It holds exactly the values that cross the wire, so what a
sender subtracts from its error memory is what the receiver adds. Four layouts nest into all others:

    Dense          every coordinate, float32 or float64
    PowersOfTwo    every coordinate, sign and exponent only (9 bits)
    Sparse         explicit coordinates, values in a flat payload
    Seeded         coordinates that both ends draw alike, values in a flat payload

Shapes: D = coordinates, K = kept ones.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from saddlebag.compression.draws import Draws, Purpose, uniform_subset
from saddlebag.errors import NotFiniteError

__all__ = [
    "Dense",
    "Flat",
    "Index",
    "Payload",
    "PowersOfTwo",
    "Scope",
    "Seeded",
    "Sparse",
    "Support",
    "Vector",
    "require_finite",
]

Vector: TypeAlias = npt.NDArray[np.floating[Any]]
Index: TypeAlias = npt.NDArray[np.int64]


def require_finite(x_D: Vector, what: str) -> None:
    """Raise `NotFiniteError` unless every entry is finite."""
    with np.errstate(over="ignore", invalid="ignore"):  # one pass, no temporary; finite entries may overflow, others show
        if np.isfinite(np.dot(x_D, x_D)):
            return
    finite = np.isfinite(x_D)
    if not finite.all():
        where = int(np.argmin(finite))
        raise NotFiniteError(f"{what} must be finite, got {x_D[where]} at coordinate {where} of {len(x_D)}")


class Payload(Protocol):
    """A vector of `dimension` coordinates as it travels."""

    @property
    def dimension(self) -> int:
        """D, the length of the vector that the payload stands for."""

    def dense(self) -> Vector:
        """The vector, float64, shape (D,)."""

    def add_to(self, out_D: Vector) -> None:
        """Add the vector to `out_D` in place; bit for bit `out_D += self.dense()` where the vector is not zero."""


@dataclasses.dataclass(frozen=True, eq=False)
class Dense:
    """Every coordinate, as float32 or float64."""

    value_D: Vector

    @property
    def dimension(self) -> int:
        return len(self.value_D)

    def dense(self) -> Vector:
        return self.value_D.astype(np.float64)

    def add_to(self, out_D: Vector) -> None:
        np.add(out_D, self.value_D, out=out_D)


@dataclasses.dataclass(frozen=True, eq=False)
class PowersOfTwo:
    """Every coordinate is 0 or +-2^e with -126 <= e <= 127; float32, 9 bits each on the wire."""

    value_D: npt.NDArray[np.float32]

    @property
    def dimension(self) -> int:
        return len(self.value_D)

    def dense(self) -> Vector:
        return self.value_D.astype(np.float64)

    def add_to(self, out_D: Vector) -> None:
        np.add(out_D, self.value_D, out=out_D)


Flat: TypeAlias = Dense | PowersOfTwo


@dataclasses.dataclass(frozen=True, eq=False)
class Sparse:
    """Explicit coordinates: `index_K` strictly increasing in [0, dimension), values in a flat payload over K."""

    dimension: int
    index_K: Index
    value: Flat

    def dense(self) -> Vector:
        out_D = np.zeros(self.dimension)
        out_D[self.index_K] = self.value.value_D
        return out_D

    def add_to(self, out_D: Vector) -> None:
        out_D[self.index_K] += self.value.value_D


class Scope(enum.IntEnum):
    """Whose stream a seeded support is drawn from."""

    OWN = 0
    COMMON = 1


@dataclasses.dataclass(frozen=True)
class Support:
    """K of D coordinates, drawn alike by every machine that knows the run seed, the round and the sender."""

    dimension: int
    size: int
    scope: Scope

    def index_K(self, draws: Draws) -> Index:
        """The coordinates, int64, strictly increasing."""
        if self.scope is Scope.COMMON:
            return _common_index(draws.seed, draws.round, self.dimension, self.size)
        return uniform_subset(draws.own(Purpose.SUPPORT), self.dimension, self.size)


@functools.lru_cache(maxsize=2)
def _common_index(seed: int, round_: int, dimension: int, size: int) -> Index:
    """The server needs the same support once for each worker of a round; read-only, for it is shared."""
    index_K = uniform_subset(Draws(seed, round_).common(Purpose.SUPPORT), dimension, size)
    index_K.setflags(write=False)
    return index_K


@dataclasses.dataclass(frozen=True, eq=False)
class Seeded:
    """Coordinates from a shared seed, which cost no bits; values in a flat payload over K."""

    support: Support
    index_K: Index
    value: Flat

    @property
    def dimension(self) -> int:
        return self.support.dimension

    def dense(self) -> Vector:
        out_D = np.zeros(self.dimension)
        out_D[self.index_K] = self.value.value_D
        return out_D

    def add_to(self, out_D: Vector) -> None:
        out_D[self.index_K] += self.value.value_D
