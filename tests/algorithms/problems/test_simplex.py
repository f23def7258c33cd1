"""The projection on a scaled simplex, against sorting, against all faces, and by its variational inequality."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from saddlebag.algorithms.problems import project_simplex

values = st.floats(-1e6, 1e6)
vectors = hnp.arrays(np.float64, st.integers(1, 30), elements=values)


def project_by_sorting(v_N: np.ndarray, total: float) -> np.ndarray:
    """Duchi et al. 2008, Figure 1."""
    descending_N = np.sort(v_N)[::-1]
    threshold_N = (np.cumsum(descending_N) - total) / np.arange(1, len(v_N) + 1)
    theta = threshold_N[np.flatnonzero(descending_N > threshold_N)[-1]]
    return np.asarray(np.maximum(v_N - theta, 0.0))


def project_by_faces(v_N: np.ndarray, total: float) -> np.ndarray:
    """The nearest of the feasible projections on the affine hulls of all faces."""
    best_N, best = v_N, np.inf
    for size in range(1, len(v_N) + 1):
        for face in map(list, itertools.combinations(range(len(v_N)), size)):
            q_N = np.zeros_like(v_N)
            q_N[face] = v_N[face] - (v_N[face].sum() - total) / size
            distance = float(np.linalg.norm(q_N - v_N))
            if q_N.min() >= 0 and distance < best:
                best_N, best = q_N, distance
    return best_N


@given(vectors, st.floats(0.01, 100))
def test_agrees_with_sorting(v_N: np.ndarray, total: float) -> None:
    slack = 1e-15 * len(v_N) * (np.abs(v_N).max() + total)  # the rounding of a sum of so many terms
    assert project_simplex(v_N, total) == pytest.approx(project_by_sorting(v_N, total), abs=4 * slack)


@given(vectors, st.floats(0.01, 100), st.integers(0, 2**32))
def test_is_feasible_and_satisfies_its_variational_inequality(v_N: np.ndarray, total: float, seed: int) -> None:
    q_N = project_simplex(v_N, total)
    scale = np.abs(v_N).max() + total
    assert q_N.min() >= 0
    assert q_N.sum() == pytest.approx(total, rel=1e-15 * len(v_N))  # whatever the size of v
    other_N = total * np.random.default_rng(seed).dirichlet(np.ones(len(v_N)))
    assert (v_N - q_N) @ (other_N - q_N) <= 1e-13 * len(v_N) * scale * total


@pytest.mark.parametrize("seed", range(20))
def test_is_the_nearest_point(seed: int) -> None:
    v_N = 2 * np.random.default_rng(seed).standard_normal(7)
    assert project_simplex(v_N, 1.5) == pytest.approx(project_by_faces(v_N, 1.5), abs=1e-14)


def test_slow_passes_end() -> None:
    v_N = -(1.5 ** np.arange(1700.0))  # a geometric sequence loses few coordinates in each pass
    assert project_simplex(v_N, 1.0) == pytest.approx(project_by_sorting(v_N, 1.0), abs=1e-12)


def test_arguments_stay_and_bits_repeat() -> None:
    v_N = np.random.default_rng(0).standard_normal(1000)
    before_N = v_N.copy()
    assert project_simplex(v_N, 3.0).tobytes() == project_simplex(v_N.copy(), 3.0).tobytes()
    assert np.array_equal(v_N, before_N)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_what_is_not_finite_neither_hangs_nor_warns(bad: float) -> None:
    project_simplex(np.array([1.0, bad, 2.0]), 1.0)
    assert np.isnan(project_simplex(np.array([1.0, np.nan]), 1.0)).all()
