"""Affine problems: exact constants, a solution, an operator that is a function."""

from __future__ import annotations

import numpy as np
import pytest

from saddlebag.algorithms.problems import AffineProblem
from saddlebag.compression import Draws
from saddlebag.errors import ConfigError

MATRIX_MDD = np.array([[[2.0, 1.0], [-1.0, 0.0]], [[0.0, 3.0], [-3.0, 2.0]]])
PROBLEM = AffineProblem(matrix_MDD=MATRIX_MDD, offset_MD=np.array([[1.0, 0.0], [0.0, 3.0]]), name="two")


def test_constants() -> None:
    found = PROBLEM.constants
    assert found.lipschitz == pytest.approx(5**0.5)  # [[1, 2], [-2, 1]]: a rotation times sqrt 5
    assert found.strong_monotonicity == pytest.approx(1.0)
    assert found.similarity == pytest.approx(2.0)  # of +-[[1, -1], [1, -1]]
    assert found.lipschitz_workers == pytest.approx([np.linalg.norm(m, 2) for m in MATRIX_MDD])


def test_solution_and_merits() -> None:
    mean_D = np.mean([PROBLEM.operator(worker)(PROBLEM.solution, Draws(0, 0)) for worker in range(2)], axis=0)
    assert np.abs(mean_D).max() < 1e-14
    assert PROBLEM.merits(PROBLEM.solution) == pytest.approx({"relative_error": 0.0, "natural_residual": 0.0}, abs=1e-14)
    assert PROBLEM.merits(PROBLEM.start())["relative_error"] == 1.0
    assert PROBLEM.gap(PROBLEM.solution) == pytest.approx(0.0, abs=1e-14)
    assert PROBLEM.gap(PROBLEM.start()) > 0.1


def test_the_operator_is_a_function() -> None:
    z_D = np.array([1.0, 2.0])
    assert PROBLEM.operator(0)(z_D, Draws(0, 0)).tolist() == [5.0, -1.0]
    assert z_D.tolist() == [1.0, 2.0]


def test_shapes_must_fit() -> None:
    with pytest.raises(ConfigError, match=r"2 offsets of size 1 need matrices \(2, 1, 1\), got \(2, 2, 2\)"):
        AffineProblem(matrix_MDD=MATRIX_MDD, offset_MD=np.zeros((2, 1)), name="two")
