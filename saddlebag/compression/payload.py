"""Payloads: what a compressed vector looks like, whoever made it.

A payload knows its layout and how to add itself to a vector. It holds exactly the values that cross the wire, so what a
sender subtracts from its error memory is what the receiver adds. Beside the flat ones (`flat.py`):

    Sparse         explicit coordinates, values in a flat payload
    Seeded         coordinates that both ends draw alike, values in a flat payload
    LowRank        the product of two thin matrices
    Concat         one payload after the other: tensors of a model, each with its own compressor
    Total          the sum of payloads of one dimension

Shapes: D = coordinates, K = kept ones or the rank, R x C = a matrix.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy as np
import numpy.typing as npt

from saddlebag.compression.flat import Codebook, Dense, Flat, Half, Index, Levels, PowersOfTwo, Spacing, Vector, require_finite
from saddlebag.compression.support import Scheme, Scope, Support

__all__ = [
    "Codebook",
    "Concat",
    "Dense",
    "Flat",
    "Half",
    "Index",
    "Levels",
    "LowRank",
    "Payload",
    "PowersOfTwo",
    "Scheme",
    "Scope",
    "Seeded",
    "Spacing",
    "Sparse",
    "Support",
    "Total",
    "Vector",
    "require_finite",
]

_BLOCK = 1 << 15  # float64 numbers: 256 KiB


class Payload(Protocol):
    """A vector of `dimension` coordinates as it travels.

    Example:
        >>> payload: Payload = Sparse(3, np.array([1]), Dense(np.array([2.0])))
        >>> payload.dimension, payload.dense().tolist()
        (3, [0.0, 2.0, 0.0])
    """

    @property
    def dimension(self) -> int:
        """D, the length of the vector that the payload stands for."""

    def dense(self) -> Vector:
        """The vector, float64, shape (D,)."""

    def add_to(self, out_D: Vector) -> None:
        """Add the vector to `out_D` in place; bit for bit `out_D += self.dense()` where the vector is not zero."""


@dataclasses.dataclass(frozen=True, eq=False)
class Sparse:
    """Explicit coordinates: `index_K` strictly increasing in [0, dimension), values in a flat payload over K; K may be 0.

    Example:
        >>> Sparse(4, np.array([1, 3]), Dense(np.array([5.0, 6.0]))).dense().tolist()
        [0.0, 5.0, 0.0, 6.0]
    """

    dimension: int
    index_K: Index
    value: Flat

    def dense(self) -> Vector:
        out_D = np.zeros(self.dimension)
        out_D[self.index_K] = self.value.value_D
        return out_D

    def add_to(self, out_D: Vector) -> None:
        out_D[self.index_K] += self.value.value_D


@dataclasses.dataclass(frozen=True, eq=False)
class Seeded:
    """Coordinates from a shared seed, which cost no bits; values in a flat payload over K.

    Example:
        >>> from saddlebag.compression import Draws
        >>> support = Support(4, 2, Scope.COMMON)
        >>> index_K = support.index_K(Draws(0, 0))  # the receiver draws the same
        >>> Seeded(support, index_K, Dense(np.array([5.0, 6.0]))).dense()[index_K].tolist()
        [5.0, 6.0]
    """

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


@dataclasses.dataclass(frozen=True, eq=False)
class LowRank:
    """The first `dimension` entries, row by row, of the R x C matrix P Q'.

    Attributes:
        dimension: D, with (R - 1) C < D <= R C.
        p_RK, q_CK: float32 factors.

    Example:
        >>> p_RK, q_CK = np.array([[1.0], [2.0]], np.float32), np.array([[1.0], [10.0]], np.float32)
        >>> LowRank(4, p_RK, q_CK).dense().tolist()  # 4 numbers travel here for 4; for R x C it is K (R + C)
        [1.0, 10.0, 2.0, 20.0]
    """

    dimension: int
    p_RK: npt.NDArray[np.float32]
    q_CK: npt.NDArray[np.float32]

    def dense(self) -> Vector:
        """The vector, summed over K in order (a BLAS product need not repeat bit for bit), in blocks that stay in the cache."""
        p_RK, q_KC = self.p_RK.astype(np.float64), np.ascontiguousarray(self.q_CK.T, np.float64)
        out_RC = np.zeros((len(p_RK), q_KC.shape[1]))
        rows = max(1, _BLOCK // max(1, q_KC.shape[1]))
        term_RC = np.empty((min(rows, len(p_RK)), q_KC.shape[1]))
        for start in range(0, len(p_RK), rows):
            block_RC = out_RC[start : start + rows]
            for p_R, q_C in zip(p_RK[start : start + rows].T, q_KC, strict=True):
                block_RC += np.multiply(p_R[:, None], q_C, out=term_RC[: len(block_RC)])
        return out_RC.reshape(-1)[: self.dimension]

    def add_to(self, out_D: Vector) -> None:
        np.add(out_D, self.dense(), out=out_D)


@dataclasses.dataclass(frozen=True, eq=False)
class Concat:
    """Payloads of consecutive runs of coordinates; at least one.

    Example:
        >>> Concat((Dense(np.array([1.0, 2.0])), Sparse(2, np.array([1]), Dense(np.array([7.0]))))).dense().tolist()
        [1.0, 2.0, 0.0, 7.0]
    """

    parts: tuple[Payload, ...]

    @property
    def dimension(self) -> int:
        return sum(part.dimension for part in self.parts)

    def dense(self) -> Vector:
        return np.concatenate([part.dense() for part in self.parts])

    def add_to(self, out_D: Vector) -> None:
        start = 0
        for part in self.parts:
            part.add_to(out_D[start : start + part.dimension])
            start += part.dimension


@dataclasses.dataclass(frozen=True, eq=False)
class Total:
    """The sum of payloads of one dimension, added from first to last; at least one.

    Example:
        >>> Total((Dense(np.array([1.0, 2.0])), Sparse(2, np.array([1]), Dense(np.array([7.0]))))).dense().tolist()
        [1.0, 9.0]
    """

    parts: tuple[Payload, ...]

    @property
    def dimension(self) -> int:
        return self.parts[0].dimension

    def dense(self) -> Vector:
        out_D = self.parts[0].dense()
        for part in self.parts[1:]:
            part.add_to(out_D)
        return out_D

    def add_to(self, out_D: Vector) -> None:
        np.add(out_D, self.dense(), out=out_D)
