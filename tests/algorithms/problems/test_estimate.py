"""Estimated constants, beside exact ones on every problem that knows its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saddlebag.algorithms import Constants, Stop, ogda, simulate
from saddlebag.algorithms.problems import BilinearGame, MatrixGame, RobustLogisticRegression, fixed_point, quadratic
from saddlebag.algorithms.problems.estimate import SAFETY, estimate_constants, estimate_norm, with_constants
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.proto.codec import LoopbackWire


@given(st.integers(0, 2**32 - 1), st.integers(1, 8))
def test_enough_products_find_the_norm_of_any_matrix(seed: int, d: int) -> None:
    """d products span the whole space (almost surely), where the norm on it is the norm."""
    rng = np.random.default_rng(seed)
    matrix_DD, offset_D = rng.standard_normal((d, d)), rng.standard_normal(d)
    found = estimate_norm(lambda z_D: matrix_DD @ z_D + offset_D, rng.standard_normal(d), products=d)
    assert found == pytest.approx(np.linalg.norm(matrix_DD, 2), rel=1e-5)


@given(st.integers(0, 2**32 - 1), st.integers(2, 30), st.integers(1, 5))
def test_it_is_a_lower_bound_at_any_number_of_products(seed: int, d: int, products: int) -> None:
    rng = np.random.default_rng(seed)
    matrix_DD = rng.standard_normal((d, d))
    exact = float(np.linalg.norm(matrix_DD, 2))
    assert estimate_norm(lambda z_D: matrix_DD @ z_D, np.ones(d), products=products) <= exact * (1 + 1e-6)


def test_the_players_give_the_transpose() -> None:
    """A game with a badly non-normal Jacobian, for which 6 Krylov products see far less than 6 of the power method."""
    rng = np.random.default_rng(1)
    p_NN = np.diag(np.r_[20.0, np.linspace(0, 1, 39)])
    c_NN = rng.standard_normal((40, 40))
    matrix_DD = np.block([[p_NN, c_NN], [-c_NN.T, np.zeros((40, 40))]])
    exact = float(np.linalg.norm(matrix_DD, 2))
    found = estimate_norm(lambda z_D: matrix_DD @ z_D, np.zeros(80), num_min=40, products=40)
    assert exact * 0.98 <= found <= exact * (1 + 1e-6)


PROBLEMS = {
    "bilinear": BilinearGame(),
    "fixed_point": fixed_point(None),
    "matrix_game": MatrixGame.build(None),
    "quadratic": quadratic(None, rotation=0.5),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_estimates_of_affine_problems_are_within_the_safety_factor(name: str) -> None:
    problem = PROBLEMS[name]
    exact, found = problem.constants, estimate_constants(problem)
    assert exact is not None
    assert 0.93 * exact.lipschitz <= found.lipschitz <= SAFETY * exact.lipschitz * (1 + 1e-6)
    for known, seen in zip(exact.lipschitz_workers, found.lipschitz_workers, strict=True):
        assert 0.93 * known <= seen <= SAFETY * known * (1 + 1e-6)
    assert found.strong_monotonicity == 0.0


def test_a_nonlinear_problem_stays_below_its_proven_bound(robust: RobustLogisticRegression) -> None:
    found = estimate_constants(robust)
    assert 0.2 * robust.constants.lipschitz <= found.lipschitz <= SAFETY * robust.constants.lipschitz


def test_a_problem_without_constants_runs_on_estimated_ones(wire: LoopbackWire) -> None:
    game = MatrixGame.build(None, num_workers=2, rows=5, columns=5, geometry="entropy")
    with pytest.raises(ConfigError):
        ogda(game)
    known = with_constants(game, estimate_constants(game))
    outcome = simulate(known, ogda(known), seed=0, stop=Stop(merit=1e-2, max_rounds=20_000, every=10), wire=wire)
    assert outcome.reason == "merit"


def test_a_constant_operator_and_bad_arguments() -> None:
    assert estimate_norm(lambda z_D: np.ones(3), np.zeros(3)) == 0.0
    still = quadratic(None, n=1, num_workers=1)
    assert with_constants(still, Constants(2.0, (2.0,), 0.0)).constants == Constants(2.0, (2.0,), 0.0)
    with pytest.raises(ConfigError, match="products must be at least 1, got 0"):
        estimate_norm(np.sin, np.zeros(3), products=0)
    with pytest.raises(ConfigError, match=r"num_min must lie in 0\.\.3, got 4"):
        estimate_norm(np.sin, np.zeros(3), num_min=4)
