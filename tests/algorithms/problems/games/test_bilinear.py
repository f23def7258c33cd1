"""The reference problem: its printed figures, and that its constants and solution are what they are called."""

from __future__ import annotations

import numpy as np
import pytest

from saddlebag.algorithms.problems import PROBLEMS, BilinearGame, Dataset, DenseRows
from saddlebag.compression import Draws
from saddlebag.errors import ConfigError

DRAWS = Draws(0, 0)
GAME = BilinearGame()
OPERATORS = [GAME.operator(worker) for worker in range(GAME.num_workers)]


def test_printed_figures() -> None:  # masha.md, section 11
    constants = GAME.constants
    assert round(constants.lipschitz, 4) == 1.0002
    assert round(constants.lipschitz_rms, 4) == 1.1481
    assert round(constants.lipschitz / constants.strong_monotonicity, 2) == 50.01
    assert round(float(np.linalg.norm(GAME.solution)), 3) == 152.836
    square = np.mean([np.sum(operator(GAME.solution, DRAWS) ** 2) for operator in OPERATORS])
    assert round(float(square**0.5), 3) == 40.679


def test_mean_operator_vanishes_at_the_solution() -> None:
    mean_D = np.mean([operator(GAME.solution, DRAWS) for operator in OPERATORS], axis=0)
    assert np.linalg.norm(mean_D) < 1e-12 * np.linalg.norm(GAME.solution)
    merits = GAME.merits(GAME.solution)
    assert next(iter(merits)) == "relative_error"
    assert merits == pytest.approx({"relative_error": 0.0, "natural_residual": 0.0}, abs=1e-11)
    assert GAME.merits(GAME.start())["relative_error"] == 1.0


def test_operators_are_the_gradients_of_the_game() -> None:
    rng = np.random.default_rng(3)
    z_D, step_D = rng.standard_normal((2, GAME.dimension))
    n, lam = GAME.n, GAME.regularisation
    coupling_NN, offset_D = GAME._parts.coupling_MNN[2], GAME._parts.offset_MD[2]

    def payoff(z_D: np.ndarray) -> float:
        x_N, y_N = z_D[:n], z_D[n:]
        linear = offset_D[:n] @ x_N - offset_D[n:] @ y_N
        return float(x_N @ coupling_NN @ y_N + linear + lam / 2 * (x_N @ x_N - y_N @ y_N))

    signed_D = np.concatenate((step_D[:n], -step_D[n:]))
    slope = (payoff(z_D + signed_D) - payoff(z_D - signed_D)) / 2  # exact for a quadratic, along any direction
    assert OPERATORS[2](z_D, DRAWS) @ step_D == pytest.approx(slope, rel=1e-10)


def test_constants_are_attained() -> None:
    zero_D = np.zeros(GAME.dimension)
    for operator, constant in zip(OPERATORS, GAME.constants.lipschitz_workers, strict=True):
        matrix_DD = np.array([operator(unit_D, DRAWS) - operator(zero_D, DRAWS) for unit_D in np.eye(GAME.dimension)]).T
        assert np.linalg.norm(matrix_DD, 2) == pytest.approx(constant, rel=1e-12)
        lowest = np.linalg.eigvalsh((matrix_DD + matrix_DD.T) / 2)[0]
        assert lowest == pytest.approx(GAME.constants.strong_monotonicity, rel=1e-12)


def test_the_similarity_constant_is_attained_by_one_worker() -> None:
    unit_DD = np.eye(GAME.dimension)
    zero_D = np.zeros(GAME.dimension)
    matrices = [np.array([op(unit_D, DRAWS) - op(zero_D, DRAWS) for unit_D in unit_DD]).T for op in OPERATORS]
    spread = [np.linalg.norm(matrix_DD - np.mean(matrices, axis=0), 2) for matrix_DD in matrices]
    assert GAME.constants.similarity == pytest.approx(max(spread), rel=1e-10)


def test_operator_is_a_function() -> None:
    z_D = np.random.default_rng(5).standard_normal(GAME.dimension)
    before_D = z_D.copy()
    values = {BilinearGame().operator(4)(z_D, Draws(1, round_)).tobytes() for round_ in range(3)}
    assert len(values) == 1
    assert np.array_equal(z_D, before_D)
    assert GAME.unconstrained
    assert GAME.prox(z_D, 0.1) is z_D


def test_no_heterogeneity_makes_workers_identical() -> None:
    game = BilinearGame(heterogeneity=0.0, num_workers=3)
    values = [game.operator(worker)(game.solution, DRAWS) for worker in range(3)]
    assert {value.tobytes() for value in values} == {values[0].tobytes()}
    assert np.linalg.norm(values[0]) < 1e-12 * np.linalg.norm(game.solution)


@pytest.mark.parametrize("params", [{"n": 1}, {"num_workers": 1}, {"n": 1, "num_workers": 1, "seed": 7}])
def test_smallest_sizes(params: dict[str, int]) -> None:
    game = BilinearGame(**params)
    values = [game.operator(worker)(game.solution, DRAWS) for worker in range(game.num_workers)]
    assert np.linalg.norm(np.mean(values, axis=0)) < 1e-12 * np.linalg.norm(game.solution)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"n": 0}, "n must be at least 1, got 0"),
        ({"num_workers": 0}, "num_workers must be at least 1, got 0"),
        ({"regularisation": 0.0}, "regularisation must be positive and finite"),
        ({"regularisation": float("nan")}, "regularisation must be positive and finite"),
        ({"heterogeneity": -1.0}, "heterogeneity must be finite and at least 0"),
        ({"seed": -1}, "seed must be at least 0"),
    ],
)
def test_bad_parameters(params: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        PROBLEMS["bilinear"](None, **params)


def test_data_are_refused() -> None:
    data = Dataset("a9a", DenseRows(np.ones((2, 1))), np.array([1.0, -1.0]))
    with pytest.raises(ConfigError, match="generates its own data, got 'a9a'"):
        PROBLEMS["bilinear"](data, num_workers=2)
