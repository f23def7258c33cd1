"""The golden ratio method: its inequality at every iteration, steps that find themselves, and convergence with a prox."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.algorithms import Stop, make_method, ogda, simulate
from saddlebag.algorithms.methods.golden_ratio import GoldenRatio, GoldenReplica
from saddlebag.algorithms.problems import BilinearGame, RobustLogisticRegression
from saddlebag.compression import Draws, Vector

if TYPE_CHECKING:
    from saddlebag.proto.codec import LoopbackWire

PHI = 1.5


class Bold(GoldenRatio):
    """Three times the proven step."""

    def _next(self, replica: GoldenReplica, operator_D: Vector) -> tuple[float, float, Vector]:
        step_size, theta, mean_D = super()._next(replica, operator_D)
        return 3 * step_size, 3 * theta, mean_D


def excess(problem: Any, method: Any, play: Any, count: int) -> float:
    """The largest E_{k+1} + theta_k |z - zb|^2 + 2 lambda_k <F, z - z*> - E_k, relative to E_k; no constraint active."""
    star_D, worst = problem.solution, -math.inf
    for turn in play(problem, method, seed=0, num_rounds=count):
        before, after = turn.replica, turn.next_replica
        if before.iteration < 2:
            continue
        next_mean_D = ((PHI - 1) * after.z_D + after.mean_D) / PHI
        energy = PHI / (PHI - 1) * np.sum((after.mean_D - star_D) ** 2) + before.theta / 2 * before.moved
        left = PHI / (PHI - 1) * np.sum((next_mean_D - star_D) ** 2) + after.theta / 2 * after.moved
        left += after.theta * np.sum((before.z_D - after.mean_D) ** 2)
        values = [problem.operator(worker)(before.z_D, Draws(0, 0)) for worker in range(problem.num_workers)]
        left += 2 * after.step_size * float(np.mean(values, axis=0) @ (before.z_D - star_D))
        worst = max(worst, float((left - energy) / energy))
    return worst


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("regularisation", [1e-6, 0.2])
def test_the_energy_falls_as_proven(regularisation: float, seed: int, play: Any) -> None:
    game = BilinearGame(n=4, num_workers=2, regularisation=regularisation, heterogeneity=0.5, seed=seed)
    assert excess(game, make_method("golden_ratio", game, wire="float64"), play, 150) <= 1e-9


def test_the_inequality_tells_right_from_wrong(play: Any) -> None:
    game = BilinearGame(n=4, num_workers=2, regularisation=0.2, heterogeneity=0.5)
    assert excess(game, Bold(step_size=1e-3, wire="float64"), play, 40) > 1e-3


@pytest.mark.parametrize("first", [1e-9, 1e-3, 10.0])
def test_steps_find_themselves_from_any_first_one(first: float, wire: LoopbackWire) -> None:
    game = BilinearGame(n=10, num_workers=4, regularisation=0.2)
    stop = Stop(merit=1e-6, max_iterations=3000)
    theirs = simulate(game, ogda(game), seed=0, stop=stop, wire=wire).replica.iteration
    end = simulate(game, make_method("golden_ratio", game, step_size=first), seed=0, stop=stop, wire=wire)
    assert end.reason == "merit"
    assert end.replica.iteration <= 2.5 * theirs
    assert 0.3 <= end.replica.step_size * game.constants.lipschitz <= 3.0


def test_with_a_prox_it_reaches_the_solution(robust: RobustLogisticRegression, wire: LoopbackWire) -> None:
    end = simulate(robust, make_method("golden_ratio", robust), seed=0, stop=Stop(merit=1e-9, max_iterations=6000), wire=wire)
    assert end.reason == "merit"


def test_at_the_solution_it_stays() -> None:
    method = GoldenRatio(step_size=0.1, wire="float64")
    replica = method.init_replica(np.zeros(3))
    for _ in range(4):
        step_size, theta, mean_D = method._next(replica, np.zeros(3))
        assert (0.0 < step_size < math.inf, 0.0 < theta < math.inf, mean_D.any()) == (True, True, False)
        replica = dataclasses.replace(replica, step_size=step_size, theta=theta, iteration=replica.iteration + 1)
