"""Rows: sparse ones do what dense ones do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saddlebag.algorithms.problems import DenseRows, SparseRows
from saddlebag.algorithms.problems.data import rows

if TYPE_CHECKING:
    from collections.abc import Callable


def sparse(dense_NF: np.ndarray) -> SparseRows:
    row_E, column_E = np.nonzero(dense_NF)
    starts = np.searchsorted(row_E, np.arange(len(dense_NF) + 1))
    return SparseRows(dense_NF[row_E, column_E], column_E, starts, dense_NF.shape[1])


def random_matrix(seed: int, num_rows: int, num_features: int, density: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((num_rows, num_features)) * (rng.random((num_rows, num_features)) < density)


@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 8), st.sampled_from([0.0, 0.2, 0.6, 1.0]))
def test_sparse_equals_dense(seed: int, num_rows: int, num_features: int, density: float) -> None:
    matrix_NF = random_matrix(seed, num_rows, num_features, density)
    rng = np.random.default_rng(seed)
    x_F, u_N = rng.standard_normal(num_features), rng.standard_normal(num_rows)
    index_K = rng.integers(0, num_rows, 5)
    for one in (DenseRows(matrix_NF), sparse(matrix_NF)):
        assert one.shape == matrix_NF.shape
        assert one.times(x_F) == pytest.approx(matrix_NF @ x_F, abs=1e-13)
        assert one.transposed_times(u_N) == pytest.approx(matrix_NF.T @ u_N, abs=1e-13)
        assert one.square_sums() == pytest.approx((matrix_NF**2).sum(axis=1), abs=1e-13)
        assert one.gram() == pytest.approx(matrix_NF.T @ matrix_NF, abs=1e-13)
        taken_KF = matrix_NF[index_K]
        assert one.take(index_K).times(x_F) == pytest.approx(taken_KF @ x_F, abs=1e-13)
        assert one.take(index_K).transposed_times(u_N[index_K]) == pytest.approx(taken_KF.T @ u_N[index_K], abs=1e-13)
        assert one.scaled(u_N).times(x_F) == pytest.approx(u_N * (matrix_NF @ x_F), abs=1e-13)
        assert one.absolute().times(np.ones(num_features)) == pytest.approx(np.abs(matrix_NF).sum(axis=1), abs=1e-13)
        with_bias = one.with_bias().times(np.append(x_F, 3.0))
        assert with_bias == pytest.approx(matrix_NF @ x_F + 3.0, abs=1e-13)
    assert np.array_equal(sparse(matrix_NF).dense(), matrix_NF)


def test_gram_is_summed_over_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix_NF = random_matrix(1, 23, 4, 0.5)
    monkeypatch.setattr(rows, "_BLOCK_ENTRIES", 20)
    assert sparse(matrix_NF).gram() == pytest.approx(matrix_NF.T @ matrix_NF, abs=1e-13)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_spectral_bound(exact: bool, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix_NF = random_matrix(seed, 30, 9, 0.5)
    monkeypatch.setattr(rows, "_GRAM_FEATURES", 9 if exact else 8)
    bound, norm = rows.spectral_bound(sparse(matrix_NF)), np.linalg.norm(matrix_NF, 2)
    assert norm <= bound
    if exact:
        assert bound == pytest.approx(norm, rel=2e-9)


def test_prepared_rows_have_norm_one_and_a_bias() -> None:
    matrix_NF = random_matrix(2, 40, 5, 1.0) * 1e3 + 7.0
    matrix_NF[:, 3] = 0.1  # constant, and not a binary fraction
    prepared = rows.prepare(DenseRows(matrix_NF))
    assert isinstance(prepared, DenseRows)
    assert prepared.square_sums() == pytest.approx(np.ones(40), rel=1e-14)
    standardised_NF = prepared.values_NF / prepared.values_NF[:, -1:]
    assert standardised_NF.mean(axis=0) == pytest.approx(np.array([0, 0, 0, 0, 0, 1.0]), abs=1e-13)
    assert standardised_NF.std(axis=0) == pytest.approx(np.array([1, 1, 1, 0, 1, 0.0]), rel=1e-12, abs=1e-13)


def test_prepared_sparse_rows_keep_their_zeros() -> None:
    matrix_NF = np.array([[0.0, 3.0], [0.0, 0.0]])
    prepared = rows.prepare(sparse(matrix_NF))
    assert isinstance(prepared, SparseRows)
    assert prepared.dense() == pytest.approx(np.array([[0, 3, 1], [0, 0, 10**0.5]]) / 10**0.5)


@pytest.mark.parametrize("form", [DenseRows, sparse])
def test_bits_do_not_depend_on_threads(form: Callable[[np.ndarray], DenseRows | SparseRows]) -> None:
    threadpoolctl = pytest.importorskip("threadpoolctl")
    one, x_F = form(random_matrix(3, 4000, 120, 0.5)), np.random.default_rng(3).standard_normal(120)
    seen = set()
    for num_threads in (1, 2, 4):
        with threadpoolctl.threadpool_limits(num_threads):
            product_N = one.times(x_F)
            seen.add((product_N.tobytes(), one.transposed_times(product_N).tobytes(), rows.norm(product_N)))
    assert len(seen) == 1
