"""Rows of features, dense or sparse, with exactly the products that a linear model needs.

The products run in numpy's own loops, not in BLAS: their bits do not depend on the number of threads, so a process that
is pinned to one core computes what its neighbour with sixteen computes.

Shapes: N = rows, F = features, E = stored entries, K = chosen rows.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Mapping

    from saddlebag.compression.payload import Index, Vector

__all__ = ["Dataset", "DenseRows", "Rows", "SparseRows"]

_GRAM_FEATURES = 2048  # an eigenvalue of a matrix of this order takes about a second
_BLOCK_ENTRIES = 1 << 22  # of the dense blocks that a sparse Gram matrix is summed from: 32 MiB
_ROUNDING = 1.0 + 1e-9  # covers the rounding of a Gram matrix and of its eigenvalues


class Rows(Protocol):
    """A matrix A of N rows.

    Example:
        >>> rows: Rows = DenseRows(np.array([[1.0, 2.0], [3.0, 4.0]]))
        >>> rows.times(np.ones(2)).tolist(), rows.transposed_times(np.ones(2)).tolist()
        ([3.0, 7.0], [4.0, 6.0])
    """

    @property
    def shape(self) -> tuple[int, int]:
        """(N, F)."""

    def times(self, x_F: Vector) -> Vector:
        """A x, float64 (N,)."""

    def transposed_times(self, u_N: Vector) -> Vector:
        """A'u, float64 (F,)."""

    def take(self, index_K: Index) -> Rows:
        """The chosen rows, in the given order."""

    def scaled(self, factor_N: Vector) -> Rows:
        """Each row times its factor."""

    def with_bias(self) -> Rows:
        """One more feature, which is 1 in every row."""

    def square_sums(self) -> Vector:
        """|a_i|^2, float64 (N,)."""

    def absolute(self) -> Rows:
        """The matrix of absolute values."""

    def gram(self) -> npt.NDArray[np.float64]:
        """A'A, float64 (F, F)."""


@dataclasses.dataclass(frozen=True, eq=False)
class DenseRows:
    """Every entry stored.

    Attributes:
        values_NF: float64 (N, F).

    Example:
        >>> DenseRows(np.ones((3, 2))).shape
        (3, 2)
    """

    values_NF: npt.NDArray[np.float64]

    @property
    def shape(self) -> tuple[int, int]:
        num_rows, num_features = self.values_NF.shape
        return num_rows, num_features

    def times(self, x_F: Vector) -> Vector:
        product_N: Vector = np.einsum("nf,f->n", self.values_NF, x_F)
        return product_N

    def transposed_times(self, u_N: Vector) -> Vector:
        product_F: Vector = np.einsum("nf,n->f", self.values_NF, u_N)
        return product_F

    def take(self, index_K: Index) -> DenseRows:
        return DenseRows(self.values_NF[index_K])

    def scaled(self, factor_N: Vector) -> DenseRows:
        return DenseRows(self.values_NF * factor_N[:, None])

    def with_bias(self) -> DenseRows:
        return DenseRows(np.column_stack((self.values_NF, np.ones(len(self.values_NF)))))

    def square_sums(self) -> Vector:
        square_N: Vector = np.sum(self.values_NF * self.values_NF, axis=1)
        return square_N

    def absolute(self) -> DenseRows:
        return DenseRows(np.abs(self.values_NF))

    def gram(self) -> npt.NDArray[np.float64]:
        return self.values_NF.T @ self.values_NF

    def standardised(self) -> DenseRows:
        """Each feature with mean 0 and variance 1; a constant feature becomes 0."""
        centred_NF = self.values_NF - self.values_NF.mean(axis=0)
        deviation_F = np.sqrt(np.mean(centred_NF * centred_NF, axis=0))
        constant_F = np.ptp(self.values_NF, axis=0) == 0  # its mean may be rounded, and its deviation not 0
        return DenseRows(np.where(constant_F, 0.0, centred_NF / np.where(constant_F, 1.0, deviation_F)))


@dataclasses.dataclass(frozen=True, eq=False)
class SparseRows:
    """Compressed sparse rows: row i holds the entries starts[i] to starts[i + 1].

    Attributes:
        values_E: float64 (E,).
        columns_E: int64 (E,), counted from 0, strictly increasing within a row.
        starts: int64 (N + 1,).
        num_features: F.

    Example:
        >>> rows = SparseRows(np.array([5.0, 7.0]), np.array([1, 0]), np.array([0, 1, 2]), 2)
        >>> rows.dense().tolist(), rows.times(np.array([1.0, 10.0])).tolist()
        ([[0.0, 5.0], [7.0, 0.0]], [50.0, 7.0])
    """

    values_E: Vector
    columns_E: Index
    starts: Index
    num_features: int

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.starts) - 1, self.num_features

    @functools.cached_property
    def row_E(self) -> Index:
        """The row of each entry, int64 (E,)."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))

    @functools.cached_property
    def filled(self) -> Index:
        """The rows that hold an entry; `reduceat` would give the others their neighbour's."""
        return np.flatnonzero(np.diff(self.starts))

    def _row_sums(self, value_E: Vector) -> Vector:
        sum_N = np.zeros(len(self.starts) - 1)
        if len(self.filled):
            sum_N[self.filled] = np.add.reduceat(value_E, self.starts[self.filled])
        return sum_N

    def times(self, x_F: Vector) -> Vector:
        return self._row_sums(self.values_E * x_F[self.columns_E])

    def transposed_times(self, u_N: Vector) -> Vector:
        product_F: npt.NDArray[np.float64] = np.bincount(  # type: ignore[assignment]  # numpy types the unweighted one
            self.columns_E, self.values_E * u_N[self.row_E], self.num_features
        )
        return product_F

    def take(self, index_K: Index) -> SparseRows:
        length_K = np.diff(self.starts)[index_K]
        starts = np.concatenate(([0], np.cumsum(length_K)))
        entry = np.repeat(self.starts[index_K] - starts[:-1], length_K) + np.arange(starts[-1])
        return SparseRows(self.values_E[entry], self.columns_E[entry], starts, self.num_features)

    def scaled(self, factor_N: Vector) -> SparseRows:
        return dataclasses.replace(self, values_E=self.values_E * factor_N[self.row_E])

    def with_bias(self) -> SparseRows:
        ends = self.starts[1:]
        return SparseRows(
            np.insert(self.values_E, ends, 1.0),
            np.insert(self.columns_E, ends, self.num_features),
            self.starts + np.arange(len(self.starts)),
            self.num_features + 1,
        )

    def square_sums(self) -> Vector:
        return self._row_sums(self.values_E * self.values_E)

    def absolute(self) -> SparseRows:
        return dataclasses.replace(self, values_E=np.abs(self.values_E))

    def dense(self) -> npt.NDArray[np.float64]:
        """The matrix with its zeros, float64 (N, F)."""
        dense_NF = np.zeros(self.shape)
        dense_NF[self.row_E, self.columns_E] = self.values_E
        return dense_NF

    def gram(self) -> npt.NDArray[np.float64]:
        gram_FF = np.zeros((self.num_features, self.num_features))
        num_rows = len(self.starts) - 1
        step = max(1, _BLOCK_ENTRIES // max(1, self.num_features))
        for first in range(0, num_rows, step):
            block_KF = self.take(np.arange(first, min(first + step, num_rows))).dense()
            gram_FF += block_KF.T @ block_KF
        return gram_FF


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled rows, as a reader returns them.

    Attributes:
        name: what plots and messages call it.
        rows: the features, (N, F).
        labels_N: -1 or +1, or real numbers to regress on; float64 (N,).
        columns: what a table says of each row, by which groups may be declared: name -> text ("" where missing), or float64
            (NaN where missing); (N,) each. Empty for data without named columns.
        shards: the rows of each worker, where the data come divided; None to divide them.
        notes: what a reader has to say: types of columns, missing values, lines left out.

    Example:
        >>> Dataset("pair", DenseRows(np.eye(2)), np.array([-1.0, 1.0])).rows.shape
        (2, 2)
    """

    name: str
    rows: DenseRows | SparseRows
    labels_N: Vector
    columns: Mapping[str, npt.NDArray[np.generic]] = dataclasses.field(default_factory=dict)
    shards: tuple[Index, ...] | None = None
    notes: tuple[str, ...] = ()


def norm(x_D: Vector) -> float:
    """|x|, summed pairwise in numpy: BLAS would wake its threads for it, which wait for each other on busy cores."""
    return float(np.sqrt(np.sum(x_D * x_D)))


def prepare(rows: DenseRows | SparseRows) -> Rows:
    """Rows for a linear model: dense ones standardised, a bias feature, then every row of norm 1.

    Sparse rows are not standardised, which would fill them.
    """
    prepared = (rows.standardised() if isinstance(rows, DenseRows) else rows).with_bias()
    return prepared.scaled(1.0 / np.sqrt(prepared.square_sums()))


def spectral_bound(rows: Rows) -> float:
    """An upper bound of |A|_2: exact up to 1e-9 for at most 2048 features, else sqrt(|A|_1 |A|_inf) (Holder)."""
    num_rows, num_features = rows.shape
    if num_features <= _GRAM_FEATURES:
        return float(np.sqrt(max(np.linalg.eigvalsh(rows.gram())[-1], 0.0))) * _ROUNDING
    absolute = rows.absolute()
    largest_row = absolute.times(np.ones(num_features)).max()
    largest_column = absolute.transposed_times(np.ones(num_rows)).max()
    return float(np.sqrt(largest_row * largest_column)) * _ROUNDING
