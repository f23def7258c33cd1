"""Quadratic games: the constants that were asked for are those of the operators, and the structure is that of a game."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saddlebag.algorithms import Stop, ogda, simulate
from saddlebag.algorithms.problems import PROBLEMS, Dataset, DenseRows, quadratic
from saddlebag.compression import Draws
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.proto.codec import LoopbackWire

DRAWS = Draws(0, 0)


@settings(max_examples=25)
@given(
    n=st.integers(1, 6),
    num_workers=st.integers(1, 4),
    lipschitz=st.floats(0.5, 20),
    share=st.floats(0, 1),
    rotation=st.floats(0, 1),
    similarity=st.floats(0, 3),
    seed=st.integers(0, 10),
)
def test_constants_are_those_that_were_asked_for(
    n: int, num_workers: int, lipschitz: float, share: float, rotation: float, similarity: float, seed: int
) -> None:
    mu = share * lipschitz
    game = quadratic(
        None,
        n=n,
        num_workers=num_workers,
        lipschitz=lipschitz,
        strong_monotonicity=mu,
        rotation=rotation,
        similarity=similarity,
        seed=seed,
    )
    found = game.constants
    assert found.lipschitz == pytest.approx(lipschitz, rel=1e-9)
    assert found.strong_monotonicity == pytest.approx(mu, abs=1e-9 * lipschitz)
    assert found.similarity == pytest.approx(similarity if num_workers > 1 else 0.0, abs=1e-9 * lipschitz)


def test_blocks_are_those_of_a_game_for_every_worker() -> None:
    n, game = 4, quadratic(None, n=4, num_workers=3)
    for matrix_DD in game.matrix_MDD:
        assert np.allclose(matrix_DD[:n, :n], matrix_DD[:n, :n].T, atol=1e-14)
        assert np.allclose(matrix_DD[n:, n:], matrix_DD[n:, n:].T, atol=1e-14)
        assert np.allclose(matrix_DD[:n, n:], -matrix_DD[n:, :n].T, atol=1e-14)
    assert min(np.linalg.eigvalsh(m + m.T)[0] for m in game.matrix_MDD) < 0  # similarity 1/2: single workers not monotone


def test_rotation_zero_is_a_minimisation() -> None:
    matrix_DD, _ = quadratic(None, n=5, rotation=0.0).mean
    assert np.allclose(matrix_DD, matrix_DD.T, atol=1e-14)
    assert np.allclose(np.sort(np.linalg.eigvalsh(matrix_DD))[::2], np.geomspace(0.02, 1.0, 5))


def test_the_operator_vanishes_at_the_solution_and_ogda_finds_it(wire: LoopbackWire) -> None:
    game = quadratic(None, n=4, num_workers=3, strong_monotonicity=0.2)
    values = [game.operator(worker)(game.solution, DRAWS) for worker in range(3)]
    assert np.linalg.norm(np.mean(values, axis=0)) < 1e-13
    assert np.linalg.norm(values[0]) > 0.1  # workers differ at the solution
    outcome = simulate(game, ogda(game), seed=0, stop=Stop(merit=1e-6, max_rounds=500), wire=wire)
    assert outcome.reason == "merit"
    assert game.gap(outcome.replica.z_D) < 1e-4 * game.gap(game.start())


def test_no_strong_monotonicity() -> None:
    game = quadratic(None, n=6, strong_monotonicity=0.0)
    assert game.constants.strong_monotonicity == 0.0
    assert game.merits(game.solution)["natural_residual"] < 1e-12


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"n": 0}, "n must be finite and at least 1, got 0"),
        ({"num_workers": 0}, "num_workers must be finite and at least 1"),
        ({"lipschitz": 0.0}, "lipschitz must be finite and above 0, got 0"),
        ({"strong_monotonicity": 2.0}, r"strong_monotonicity must lie in \[0, lipschitz=1.0\], got 2"),
        ({"rotation": -0.1}, r"rotation must lie in \[0, 1\]"),
        ({"similarity": float("inf")}, "similarity must be finite and at least 0, got inf"),
        ({"offset_spread": -1.0}, "offset_spread must be"),
        ({"seed": -1}, "seed must be"),
    ],
)
def test_bad_parameters(params: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        PROBLEMS["quadratic"](None, **params)


def test_data_are_refused() -> None:
    data = Dataset("a9a", DenseRows(np.ones((2, 1))), np.array([1.0, -1.0]))
    with pytest.raises(ConfigError, match="generates its own data, got 'a9a'"):
        PROBLEMS["quadratic"](data, num_workers=2)
