"""Laws of every problem of the registry: constants that hold, a solution that solves, operators that are functions."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.algorithms.problems import PROBLEMS, Dataset, DenseRows
from saddlebag.compression import Draws

if TYPE_CHECKING:
    from saddlebag.algorithms import Constants, Problem

DRAWS = Draws(0, 0)


@functools.cache
def data() -> Dataset:
    """60 rows with two named columns, of which one predicts the label poorly for a third of the rows."""
    rng = np.random.default_rng(4)
    values_NF = rng.standard_normal((60, 4))
    labels_N = np.where(values_NF[:, 0] + 0.6 * rng.standard_normal(60) > 0, 1.0, -1.0)
    labels_N[40:] *= -1
    columns = {"town": np.repeat(["a", "b", "c"], 20), "age": rng.uniform(20, 60, 60)}
    return Dataset("sample", DenseRows(values_NF), labels_N, columns)


INSTANCES: dict[str, tuple[bool, dict[str, Any]]] = {
    "bilinear": (False, {"n": 4}),
    "finite_bilinear": (False, {"n": 4}),
    "fixed_point": (False, {"dimension": 6}),
    "group_robust": (True, {"groups": ["town", "age@40", "town*age@40"], "min_rows": 5}),
    "group_robust, pure": (True, {"groups": ["town"], "min_rows": 5, "group_regularisation": 0.0}),
    "lasso": (False, {"features": 8, "support": 3}),
    "logistic_regression": (True, {}),
    "matrix_game": (False, {"rows": 4, "columns": 6}),
    "matrix_game, entropy": (False, {"rows": 4, "columns": 6, "geometry": "entropy"}),
    "quadratic": (False, {"n": 4, "rotation": 0.5}),
    "robust_least_squares": (True, {}),
    "robust_logistic": (True, {}),
    "worker_robust": (True, {}),
}


@functools.cache
def instance(name: str) -> Problem:
    with_data, params = INSTANCES[name]
    return PROBLEMS[name.partition(",")[0]](data() if with_data else None, num_workers=3, **params)


each = pytest.mark.parametrize("name", INSTANCES)


def feasible(problem: Problem, rng: np.random.Generator) -> np.ndarray:
    return problem.prox(problem.start() + rng.exponential() * rng.standard_normal(problem.dimension), 1.0)


def mean_operator(problem: Problem, z_D: np.ndarray) -> np.ndarray:
    return np.asarray(np.mean([problem.operator(worker)(z_D, DRAWS) for worker in range(problem.num_workers)], axis=0))


def test_every_problem_is_here() -> None:
    networks = {
        "albert_mlm",
        "albert_sst2",
        "digits_cnn",
        "digits_gan",
        "distillation",
        "masked_network",
        "digits_transformer",
        "pruning_game",
    }  # no constants; tests/algorithms/networks
    assert {name.partition(",")[0] for name in INSTANCES} == set(PROBLEMS) - networks


@each
def test_the_constants_hold(name: str) -> None:
    problem, rng = instance(name), np.random.default_rng(0)
    constants = problem.constants
    if constants is None:
        assert name == "matrix_game, entropy"
        return
    assert len(constants.lipschitz_workers) == problem.num_workers
    for _ in range(200):
        u_D, v_D = feasible(problem, rng), feasible(problem, rng)
        if rng.random() < 0.5:
            v_D = problem.prox(u_D + 1e-3 * rng.standard_normal(len(u_D)), 1.0)
        distance = float(np.linalg.norm(u_D - v_D))
        moves = [operator(u_D, DRAWS) - operator(v_D, DRAWS) for operator in map(problem.operator, range(3))]
        check_constants(constants, moves, u_D - v_D, distance)


def check_constants(constants: Constants, moves: list[np.ndarray], step_D: np.ndarray, distance: float) -> None:
    slack, mean_D = 1e-9 * (1 + distance), np.mean(moves, axis=0)
    for move_D, bound in zip(moves, constants.lipschitz_workers, strict=True):
        assert np.linalg.norm(move_D) <= bound * distance + slack
        if constants.similarity is not None:
            assert np.linalg.norm(move_D - mean_D) <= constants.similarity * distance + slack
    assert np.linalg.norm(mean_D) <= constants.lipschitz * distance + slack
    assert mean_D @ step_D >= constants.strong_monotonicity * distance**2 - slack * distance


@each
def test_the_constants_are_not_idle(name: str) -> None:
    """L is at most four times the norm of the Jacobian at some point: a bound, but no absurd one."""
    problem, rng = instance(name), np.random.default_rng(1)
    if problem.constants is None:
        return
    z_D = feasible(problem, rng)
    jacobian = np.array(
        [
            (mean_operator(problem, z_D + 1e-6 * unit_D) - mean_operator(problem, z_D - 1e-6 * unit_D)) / 2e-6
            for unit_D in np.eye(problem.dimension)
        ]
    )
    found = float(np.linalg.norm(jacobian, 2))
    assert found <= problem.constants.lipschitz * (1 + 1e-5) + 1e-6
    assert problem.constants.lipschitz <= 4 * found


@each
def test_the_solution_solves(name: str) -> None:
    problem = instance(name)
    solution_D = getattr(problem, "solution", None)
    if solution_D is None:
        assert name in ("group_robust, pure", "matrix_game", "matrix_game, entropy")
        return
    assert np.linalg.norm(solution_D - problem.prox(solution_D - mean_operator(problem, solution_D), 1.0)) < 1e-9
    merits = problem.merits(solution_D)
    assert next(iter(merits)) == "relative_error"
    assert merits["relative_error"] == 0.0
    assert merits["natural_residual"] < 1e-9
    assert problem.merits(problem.start())["relative_error"] == pytest.approx(1.0)


@each
def test_operators_are_functions_and_leave_their_argument_alone(name: str) -> None:
    problem = instance(name)
    z_D = feasible(problem, np.random.default_rng(2))
    before_D = z_D.copy()
    values = {problem.operator(1)(z_D, Draws(1, round_)).tobytes() for round_ in range(3)}
    assert len(values) == 1
    assert np.array_equal(z_D, before_D)
    assert problem.operator(1)(z_D, DRAWS).dtype == np.float64


@each
def test_the_prox_is_that_of_a_constraint_or_none(name: str) -> None:
    problem, rng = instance(name), np.random.default_rng(3)
    start_D = problem.start()
    assert np.allclose(problem.prox(start_D, 0.3), start_D, atol=1e-15)  # the start is feasible
    v_D = rng.standard_normal(problem.dimension)
    once_D = problem.prox(v_D, 0.3)
    if name != "lasso":  # a penalty: it shrinks on
        assert np.allclose(problem.prox(once_D, 0.7), once_D, atol=1e-14)
    assert (problem.prox(v_D, 0.3) is v_D) == problem.unconstrained


@each
def test_merits_are_numbers(name: str) -> None:
    problem = instance(name)
    for z_D in (problem.start(), feasible(problem, np.random.default_rng(5))):
        assert all(isinstance(value, float) and np.isfinite(value) for value in problem.merits(z_D).values())
    assert next(iter(problem.merits(problem.start()).values())) > 0
