"""Forward-backward-forward against its recursion, and its proven contraction."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from saddlebag.algorithms import Stop, forward_backward_forward, simulate
from saddlebag.algorithms.problems import BilinearGame
from saddlebag.compression import Draws
from saddlebag.proto.codec import LoopbackWire


@pytest.mark.parametrize("name", ["game", "robust"])
def test_it_is_the_recursion(name: str, request: pytest.FixtureRequest, play: Any) -> None:
    problem = request.getfixturevalue(name)
    method = forward_backward_forward(problem, wire="float64")
    gamma, z_D = method.step_size, problem.start()

    def mean(point_D: Any) -> Any:
        return np.mean([problem.operator(m)(point_D, Draws(0, 0)) for m in range(problem.num_workers)], axis=0)

    for turn in play(problem, method, seed=0, num_rounds=100):
        if turn.next_replica.iteration == turn.replica.iteration:
            continue
        half_D = problem.prox(z_D - gamma * mean(z_D), gamma)
        z_D = problem.prox(half_D - gamma * (mean(half_D) - mean(z_D)), 1e-300)
        assert turn.next_replica.z_D == pytest.approx(z_D, rel=0, abs=1e-12)


@pytest.mark.parametrize("name", ["game", "robust"])
def test_every_iteration_contracts_as_proven(name: str, request: pytest.FixtureRequest, play: Any) -> None:
    problem = request.getfixturevalue(name)
    method, star_D = forward_backward_forward(problem), problem.solution
    factor = 1 - method.step_size * problem.constants.strong_monotonicity
    before = float(np.sum((problem.start() - star_D) ** 2))
    for turn in play(problem, method, seed=0, num_rounds=300):
        if turn.next_replica.iteration > turn.replica.iteration:
            after = float(np.sum((turn.next_replica.z_D - star_D) ** 2))
            assert after <= factor * before * (1 + 1e-6)  # float32 increments
            before = after


def test_the_step_respects_strong_monotonicity(game: BilinearGame) -> None:
    assert forward_backward_forward(game).step_size == 1 / (2 * game.constants.lipschitz)
    nearly = BilinearGame(n=1, num_workers=1, regularisation=5.0, heterogeneity=0.0)  # a spectrum {0}: L = mu
    assert forward_backward_forward(nearly).step_size == 3 / (8 * 5.0)
    outcome = simulate(
        nearly, forward_backward_forward(nearly), seed=0, stop=Stop(merit=1e-12, max_iterations=200), wire=LoopbackWire()
    )
    assert outcome.reason == "merit"
