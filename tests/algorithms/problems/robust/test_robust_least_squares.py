"""Robust least squares: the gradient of its objective, and what the adversary's price does."""

from __future__ import annotations

import numpy as np
import pytest

from saddlebag.algorithms.problems import PROBLEMS, Dataset, DenseRows, RobustLeastSquares
from saddlebag.compression import Draws
from saddlebag.errors import ConfigError


def sample() -> Dataset:
    rng = np.random.default_rng(2)
    values_NF = rng.standard_normal((40, 3))
    return Dataset("line", DenseRows(values_NF), values_NF @ np.array([1.0, -2.0, 0.5]) + 0.1 * rng.standard_normal(40))


def test_the_operator_is_the_gradient_of_the_objective() -> None:
    problem = RobustLeastSquares.build(sample(), num_workers=3, price=1.7, regularisation=0.2)
    num_rows, num_features = problem.rows.shape

    def objective(z_D: np.ndarray) -> float:
        x_F, y_N = z_D[:num_features], z_D[num_features:] * num_rows**0.5
        fit = np.sum((problem.rows.times(x_F) - y_N) ** 2) - 1.7 * np.sum((y_N - problem.target_N) ** 2)
        return float(fit / (2 * num_rows) + 0.1 * x_F @ x_F)

    rng = np.random.default_rng(0)
    z_D, step_D = rng.standard_normal((2, problem.dimension))
    mean_D = np.mean([problem.operator(worker)(z_D, Draws(0, 0)) for worker in range(3)], axis=0)
    sign_D = np.where(np.arange(problem.dimension) < num_features, 1.0, -1.0)
    slope = (objective(z_D + sign_D * step_D) - objective(z_D - sign_D * step_D)) / 2  # exact for a quadratic
    assert mean_D @ step_D == pytest.approx(slope, rel=1e-10)


def test_the_lipschitz_constants_are_attained() -> None:
    problem = RobustLeastSquares.build(sample(), num_workers=3)
    zero_D = np.zeros(problem.dimension)
    for worker, constant in enumerate(problem.constants.lipschitz_workers):
        operator = problem.operator(worker)
        matrix_DD = np.array([operator(unit_D, Draws(0, 0)) - operator(zero_D, Draws(0, 0)) for unit_D in np.eye(len(zero_D))])
        assert np.linalg.norm(matrix_DD, 2) == pytest.approx(constant, rel=1e-8)


def test_a_dear_adversary_leaves_ridge_regression() -> None:
    problem = RobustLeastSquares.build(sample(), num_workers=2, price=1e9)
    num_rows, num_features = problem.rows.shape
    ridge_FF = problem.rows.gram() / num_rows + 0.1 * np.eye(num_features)
    ridge_F = np.linalg.solve(ridge_FF, problem.rows.transposed_times(problem.target_N) / num_rows)
    assert np.allclose(problem.solution[:num_features], ridge_F, atol=1e-8)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"price": 1.0}, "price must be finite and above 1, got 1"),
        ({"regularisation": 0.0}, "regularisation must be finite and above 0, got 0"),
    ],
)
def test_bad_parameters(params: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        PROBLEMS["robust_least_squares"](sample(), num_workers=2, **params)
    with pytest.raises(ConfigError, match="needs data"):
        PROBLEMS["robust_least_squares"](None, num_workers=2)
