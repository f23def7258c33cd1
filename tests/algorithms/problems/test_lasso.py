"""Sparse linear models: the solution is the pooled solver's, and its support is found and then free on the wire."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import saddlebag as sb
from saddlebag.algorithms.problems import check_problem
from saddlebag.errors import ConfigError

GRID: dict[str, Any] = {"up": {"name": "grid"}, "down": {"name": "grid", "step": 0.5}}


def lasso(**params: Any) -> Any:
    return sb.make_problem("lasso", **{"workers": 3, "features": 30, "support": 4, **params})


def test_the_solution_is_that_of_a_pooled_solver() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    problem = lasso(regularisation=0.05, penalty=0.2)
    pooled = linear_model.ElasticNet(alpha=0.25, l1_ratio=0.8, fit_intercept=False, tol=1e-14, max_iter=100_000)
    pooled.fit(problem.rows.values_NF, problem.target_N)
    assert np.allclose(problem.solution, pooled.coef_, atol=1e-9)
    assert 0 < np.count_nonzero(problem.solution) < 30
    check_problem(problem)


def test_labelled_rows_are_taken_too() -> None:
    problem = lasso(data="diabetes", penalty=0.3)
    assert problem.dimension == 11
    assert problem.merits(problem.solution)["natural_residual"] < 1e-12


def test_the_support_is_found_and_is_free_on_the_wire_from_then_on() -> None:
    """Messages of the rounds between are about the support alone, and none says which it is."""
    problem = lasso(features=120, support=6)
    keys: dict[str, Any] = {"step_size": 0.25 / problem.constants.lipschitz, **GRID}
    thin = sb.make_method("active_set", problem, of={"name": "innovations"}, every=10, **keys)
    runs = {
        "thin": sb.simulate(problem, thin, stop=sb.Stop(merit=1e-6, max_iterations=3000)),
        "whole": sb.simulate(
            problem, sb.make_method("innovations", problem, **keys), stop=sb.Stop(merit=1e-6, max_iterations=3000)
        ),
    }
    assert all(run.reason == "merit" for run in runs.values())
    assert np.array_equal(np.flatnonzero(runs["thin"].z), np.flatnonzero(problem.solution))
    assert runs["thin"].up_bytes < 0.6 * runs["whole"].up_bytes
    sizes = [record.merits["support"] for record in runs["thin"].history[len(runs["thin"].history) // 2 :]]
    assert set(sizes) == {float(np.count_nonzero(problem.solution))}, "the support has stopped to change by half the run"


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"penalty": 0.0}, "penalty must be finite and above 0, got 0.0"),
        ({"regularisation": -1.0}, "regularisation must be finite and above 0, got -1.0"),
        ({"support": 31}, r"lasso: support must lie in 1\.\.features=30, got 31"),
    ],
)
def test_bad_parameters_are_named(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        lasso(**params)
