"""Local descent-ascent: its recursion, its rate, and the bias that local steps cost."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from saddlebag.algorithms import Stop, local_sgda, simulate
from saddlebag.algorithms.problems import BilinearGame
from saddlebag.compression import Draws
from saddlebag.errors import ConfigError
from saddlebag.proto.codec import LoopbackWire

GAME = BilinearGame(n=6, num_workers=3, regularisation=0.5)


@pytest.mark.parametrize("name", ["game", "robust"])
def test_it_is_the_recursion(name: str, request: pytest.FixtureRequest, play: Any) -> None:
    problem = request.getfixturevalue(name)
    method, z_D = local_sgda(problem, step_size=0.05, local_steps=3, wire="float64"), problem.start()
    for turn in play(problem, method, seed=0, num_rounds=40):
        ends = []
        for worker in range(problem.num_workers):
            local_D = z_D
            for _ in range(3):
                local_D = problem.prox(local_D - 0.05 * problem.operator(worker)(local_D, Draws(0, 0)), 0.05)
            ends.append(local_D)
        z_D = np.mean(ends, axis=0)
        assert turn.next_replica.z_D == pytest.approx(z_D, rel=0, abs=1e-12)


def test_one_local_step_converges_to_the_solution_at_the_proven_rate() -> None:
    method = local_sgda(GAME)
    rate = -math.log(1 - method.step_size * GAME.constants.strong_monotonicity) / 2
    stop = Stop(max_iterations=round(10 / rate), every=round(10 / rate))
    outcome = simulate(GAME, method, seed=0, stop=stop, wire=LoopbackWire())
    assert outcome.history[-1].merits["relative_error"] <= math.exp(-10) * 1.001


def test_local_steps_save_rounds_and_cost_a_bias_of_order_gamma() -> None:
    def end(steps: int, gamma: float) -> float:
        method = local_sgda(GAME, step_size=gamma, local_steps=steps)
        stop = Stop(max_iterations=math.ceil(40 / (gamma * steps)), every=math.ceil(40 / (gamma * steps)))
        return simulate(GAME, method, seed=0, stop=stop, wire=LoopbackWire()).history[-1].merits["relative_error"]

    assert end(1, 0.05) < 1e-6
    large, small = end(4, 0.05), end(4, 0.025)
    assert 0.005 < small < large
    assert large / small == pytest.approx(2.0, rel=0.2)  # proportional to gamma (H - 1)
    same = BilinearGame(n=6, num_workers=3, regularisation=0.5, heterogeneity=0.0)
    outcome = simulate(
        same, local_sgda(same, local_steps=4), seed=0, stop=Stop(merit=1e-9, max_rounds=500), wire=LoopbackWire()
    )
    assert outcome.reason == "merit", "identical workers need no exchange"


def test_bad_local_steps_are_refused(game: BilinearGame) -> None:
    with pytest.raises(ConfigError, match="local_steps must be at least 1, got 0"):
        local_sgda(game, local_steps=0)
