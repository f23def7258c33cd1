"""DIANA descent-ascent: the Lyapunov function contracts from any memories, and the run goes to the float64 floor."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from saddlebag.algorithms import Stop, diana_sgda, simulate
from saddlebag.algorithms.methods.diana_sgda import DianaReplica, DianaServer, DianaWorker, diana_growth
from saddlebag.algorithms.problems import BilinearGame
from saddlebag.compression import Draws, Identity, Natural, RandK, TopK
from saddlebag.errors import ConfigError
from saddlebag.proto.codec import LoopbackWire

FULL, RAND = Identity(), RandK(k=1)
GAMES = {
    "balanced": BilinearGame(n=2, num_workers=2, regularisation=0.3),
    "hard": BilinearGame(n=2, num_workers=2, regularisation=0.05, heterogeneity=1.5, seed=4),
}


def potential(problem: Any, method: Any, two_sided: bool) -> Any:
    """V of the theorem, a function of a state."""
    star_D, d, gamma = problem.solution, problem.dimension, method.step_size
    at_star = [problem.operator(m)(star_D, Draws(0, 0)) for m in range(2)]
    mean_star_D = np.mean(at_star, axis=0)
    omega, omega_down = d - 1.0, (d - 1.0) * two_sided
    k = 1 + 6 * omega_down
    weight, weight_down = 4 * k * omega / 2 * (1 + omega), 4 * omega_down * (1 + omega_down)

    def lyapunov(found: Any) -> float:
        points = float(np.sum((found.replica.z_D - star_D) ** 2))
        spread = np.mean([np.sum((own.memory_D - at_D) ** 2) for own, at_D in zip(found.workers, at_star, strict=True)])
        return points + gamma**2 * float(weight * spread + weight_down * np.sum((found.replica.memory_D - mean_star_D) ** 2))

    return lyapunov


def excess(
    problem: Any, method: Any, two_sided: bool, rng: np.random.Generator, state: Any, expectation: Any, scale: float
) -> float:
    """(E V+ - (1 - gamma mu) V) / V on a random state."""
    star_D, d, lyapunov = problem.solution, problem.dimension, potential(problem, method, two_sided)
    at_star = [problem.operator(m)(star_D, Draws(0, 0)) for m in range(2)]
    size = 10.0 ** rng.uniform(-2, 2, 3)
    z_D = problem.prox(star_D + size[0] * rng.standard_normal(d), 1.0)
    memories = [at_D + size[1] * rng.standard_normal(d) for at_D in at_star]
    workers = tuple(DianaWorker(memory_D) for memory_D in memories)
    replica = DianaReplica(z_D, np.mean(at_star, axis=0) + size[2] * rng.standard_normal(d), 3)
    before = state(replica, workers, DianaServer(np.mean(memories, axis=0)))
    after = expectation(problem, method, before, lyapunov, scale=scale, two_sided=two_sided)
    return (after - (1 - method.step_size * problem.constants.strong_monotonicity) * lyapunov(before)) / lyapunov(before)


def worst(problem: Any, method: Any, two_sided: bool, state: Any, expectation: Any, worst_ratio: Any) -> float:
    """The largest E V+ / V over *all* states: F is affine, so both are quadratic forms of the distances to z*."""
    star_D, d, lyapunov = problem.solution, problem.dimension, potential(problem, method, two_sided)
    at_star = [problem.operator(m)(star_D, Draws(0, 0)) for m in range(2)]

    def at(away_S: np.ndarray) -> Any:
        away_4D = np.zeros((4, d))
        away_4D.reshape(-1)[: len(away_S)] = away_S
        memories = [at_D + by_D for at_D, by_D in zip(at_star, away_4D[1:3], strict=True)]
        replica = DianaReplica(star_D + away_4D[0], np.mean(at_star, axis=0) + away_4D[3], 3)
        if not two_sided:  # the server's memory has no weight in V, and takes no part
            replica = dataclasses.replace(replica, memory_D=np.mean(memories, axis=0))
        return state(replica, tuple(map(DianaWorker, memories)), DianaServer(np.mean(memories, axis=0)))

    def after(away_S: np.ndarray) -> float:
        return float(expectation(problem, method, at(away_S), lyapunov, scale=float(d), two_sided=two_sided))

    return float(worst_ratio(after, lambda away_S: lyapunov(at(away_S)), (4 if two_sided else 3) * d))


@pytest.mark.parametrize(("name", "two_sided"), [("balanced", False), ("hard", False), ("hard", True)])
def test_the_worst_state_of_all_contracts_as_proven(
    name: str, two_sided: bool, state: Any, expectation: Any, worst_ratio: Any
) -> None:
    game = GAMES[name]
    method = diana_sgda(game, up=RAND, down=RAND if two_sided else FULL)
    factor = 1 - method.step_size * game.constants.strong_monotonicity
    assert worst(game, method, two_sided, state, expectation, worst_ratio) <= factor + 1e-10
    if not two_sided:
        bold = dataclasses.replace(method, step_size=30 * method.step_size)
        assert worst(game, bold, two_sided, state, expectation, worst_ratio) > 1.0


@pytest.mark.parametrize("two_sided", [False, True], ids=["one_sided", "two_sided"])
@pytest.mark.parametrize("name", ["balanced", "hard", "prox"])
def test_one_step_contracts_as_proven(name: str, two_sided: bool, tiny_robust: Any, state: Any, expectation: Any) -> None:
    problem = tiny_robust if name == "prox" else GAMES[name]
    rng, d = np.random.default_rng(1), problem.dimension
    method = diana_sgda(problem, up=RAND, down=RAND if two_sided else FULL)
    for _ in range(3 if name == "prox" else 20):
        assert excess(problem, method, two_sided, rng, state, expectation, float(d)) <= 1e-12


def test_the_inequality_tells_right_from_wrong(state: Any, expectation: Any) -> None:
    game, rng = GAMES["hard"], np.random.default_rng(2)
    method = diana_sgda(game, up=RAND, down=FULL)
    bold = dataclasses.replace(method, step_size=200 * method.step_size)
    assert max(excess(game, bold, False, rng, state, expectation, 4.0) for _ in range(30)) > 1e-3
    assert max(excess(game, method, False, rng, state, expectation, 1.0) for _ in range(30)) > 1e-9  # without D/K


def test_growth_is_the_formula(game: BilinearGame) -> None:
    constants = game.constants  # omega = 4, omega_s = 1/8, M = 4
    expected = 1.75 * (constants.lipschitz**2 + 6 * constants.lipschitz_rms**2)
    assert diana_growth(game, RandK(k=4), Natural()) == pytest.approx(expected)


@pytest.mark.parametrize("down", [FULL, Natural()], ids=lambda c: type(c).__name__)
def test_it_converges_to_the_floor_where_qsgda_stops(down: Any) -> None:
    game = BilinearGame(n=4, num_workers=4, regularisation=0.5)
    method = diana_sgda(game, up=RandK(k=4), down=down)
    stop = Stop(merit=1e-12, max_iterations=6000, every=50)
    assert simulate(game, method, seed=0, stop=stop, wire=LoopbackWire()).reason == "merit"


def test_refuses_biased_compressors(game: BilinearGame) -> None:
    with pytest.raises(ConfigError, match="diana_sgda needs an unbiased compressor up, got TopK"):
        diana_sgda(game, up=TopK(k=1), down=FULL)
