"""Matrix games: equilibria by linear programming, and the Bregman steps that the logits stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.optimize import linprog

from saddlebag.algorithms import Stop, extragradient, ogda, simulate
from saddlebag.algorithms.methods.innovations import innovations
from saddlebag.algorithms.problems import MatrixGame
from saddlebag.algorithms.problems.games.matrix_game import softmax
from saddlebag.compression import Draws, Grid
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.proto.codec import LoopbackWire

DRAWS = Draws(0, 0)
ROCK = np.array([[[0.0, 1.0, -1.0], [-1.0, 0.0, 1.0], [1.0, -1.0, 0.0]]])


def value_by_linear_programming(payoff_AB: np.ndarray) -> float:
    """min t with A'x <= t on the simplex."""
    num_rows, num_columns = payoff_AB.shape
    found = linprog(
        np.append(np.zeros(num_rows), 1.0),
        A_ub=np.column_stack((payoff_AB.T, -np.ones(num_columns))),
        b_ub=np.zeros(num_columns),
        A_eq=np.append(np.ones(num_rows), 0.0)[None],
        b_eq=[1.0],
        bounds=[(0, None)] * num_rows + [(None, None)],
    )
    return float(found.fun)


@pytest.mark.parametrize(("geometry", "step_size"), [("euclidean", None), ("entropy", 0.5)])
def test_methods_find_the_value_of_the_game(geometry: str, step_size: float | None, wire: LoopbackWire) -> None:
    game = MatrixGame.build(None, num_workers=3, rows=6, columns=9, geometry=geometry)  # type: ignore[arg-type]
    method = ogda(game, step_size=step_size)
    outcome = simulate(game, method, seed=0, stop=Stop(merit=1e-3, max_rounds=20_000, every=20), wire=wire)
    assert outcome.reason == "merit"
    found = game.merits(outcome.replica.z_D)
    exact = value_by_linear_programming(game.payoff_MAB.mean(axis=0))
    assert abs(found["value"] - exact) <= found["duality_gap"] + 1e-9


def test_the_gap_at_an_equilibrium_and_away_from_it() -> None:
    game = MatrixGame(payoff_MAB=ROCK)
    assert game.merits(game.start())["duality_gap"] == pytest.approx(0.0, abs=1e-15)
    rock = np.array([1.0, 0, 0, 1, 0, 0])
    assert game.merits(rock) == {"duality_gap": 2.0, "value": 0.0}
    assert MatrixGame(payoff_MAB=ROCK, geometry="entropy").merits(np.zeros(6))["duality_gap"] == pytest.approx(0.0, abs=1e-15)


def test_extragradient_on_logits_is_mirror_prox(wire: LoopbackWire) -> None:
    """The iterates are those of two multiplicative updates per step, written out (Nemirovski 2004, entropy set-up)."""
    game, step = MatrixGame.build(None, num_workers=2, rows=4, columns=5, geometry="entropy"), 0.3
    payoff_AB = game.payoff_MAB.mean(axis=0)
    x_A, y_B = np.full(4, 1 / 4), np.full(5, 1 / 5)
    for _ in range(7):
        half_A = x_A * np.exp(-step * payoff_AB @ y_B)
        half_B = y_B * np.exp(step * payoff_AB.T @ x_A)
        half_A, half_B = half_A / half_A.sum(), half_B / half_B.sum()
        x_A, y_B = x_A * np.exp(-step * payoff_AB @ half_B), y_B * np.exp(step * payoff_AB.T @ half_A)
        x_A, y_B = x_A / x_A.sum(), y_B / y_B.sum()
    method = extragradient(game, step_size=step)
    outcome = simulate(game, method, seed=0, stop=Stop(max_iterations=7), wire=wire)
    found_A, found_B = game.strategies(outcome.replica.z_D)
    assert np.allclose(found_A, x_A, atol=1e-6)  # increments travel as float32
    assert np.allclose(found_B, y_B, atol=1e-6)


def test_softmax_is_on_the_simplex_at_any_size() -> None:
    for v_N in (np.array([1e308, -1e308, 0.0]), np.zeros(4), np.array([-700.0, -701.0])):
        share_N = softmax(v_N / 2)
        assert share_N.sum() == pytest.approx(1.0)
        assert (share_N >= 0).all()


def test_constants_of_the_two_geometries() -> None:
    game = MatrixGame(payoff_MAB=ROCK)
    assert game.constants is not None
    assert game.constants.lipschitz == pytest.approx(3**0.5)
    assert game.entropy_step == 1.0
    assert MatrixGame(payoff_MAB=ROCK, geometry="entropy").constants is None
    assert MatrixGame(payoff_MAB=np.zeros((1, 2, 2))).entropy_step == 1.0


def test_bad_parameters() -> None:
    with pytest.raises(ConfigError, match="payoffs must be finite"):
        MatrixGame(payoff_MAB=np.full((1, 2, 2), np.nan))
    with pytest.raises(ConfigError, match="geometry must be 'euclidean' or 'entropy', got 'l1'"):
        MatrixGame(payoff_MAB=ROCK, geometry="l1")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="rows must be finite and at least 1, got 0"):
        MatrixGame.build(None, rows=0)


def test_innovations_with_the_projection_need_a_tenth_of_the_bytes(wire: LoopbackWire) -> None:
    """The proportion of the large game of docs/problems.md (1/34 at D = 2000) on one of D = 120: headers weigh more here."""
    game = MatrixGame.build(None, num_workers=3, rows=60, columns=60)
    assert game.constants is not None
    stop, step = Stop(merit=1e-3, max_iterations=5_000, every=20), 0.4 / game.constants.lipschitz
    plain = simulate(game, ogda(game, step_size=step), seed=0, stop=stop, wire=wire)
    method = innovations(game, up=Grid(step=1.0), down=Grid(step=0.5), step_size=step)
    compressed = simulate(game, method, seed=0, stop=stop, wire=wire)
    assert plain.reason == compressed.reason == "merit"
    assert 10 * (compressed.up_bytes + compressed.down_bytes) < plain.up_bytes + plain.down_bytes
