"""Logistic regression: the minimiser that scikit-learn finds, and bad input."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression as Reference

from saddlebag.algorithms.problems import PROBLEMS, Dataset, DenseRows, LogisticRegression
from saddlebag.errors import ConfigError


def sample() -> Dataset:
    rng = np.random.default_rng(5)
    values_NF = rng.standard_normal((80, 3))
    return Dataset("line", DenseRows(values_NF), np.where(values_NF[:, 0] + rng.standard_normal(80) > 0, 1.0, -1.0))


def test_the_solution_is_that_of_an_established_solver() -> None:
    problem = LogisticRegression.build(sample(), num_workers=3, regularisation=0.01)
    rows = problem.rows
    assert isinstance(rows, DenseRows)
    reference = Reference(C=1 / (0.01 * 80), fit_intercept=False, tol=1e-12, max_iter=10_000)
    reference.fit(rows.values_NF, problem.labels_N)
    assert np.allclose(problem.solution, reference.coef_[0], atol=1e-6)


def test_bad_parameters() -> None:
    with pytest.raises(ConfigError, match="regularisation must be finite and above 0, got 0"):
        PROBLEMS["logistic_regression"](sample(), num_workers=2, regularisation=0.0)
    data = sample()
    with pytest.raises(ConfigError, match="labels must be -1 or"):
        LogisticRegression(data.rows, 2 * data.labels_N, (np.arange(80),))
    with pytest.raises(ConfigError, match="needs data"):
        PROBLEMS["logistic_regression"](None, num_workers=2)
