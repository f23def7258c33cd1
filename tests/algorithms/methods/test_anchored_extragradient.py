"""Anchored extragradient: its potential never grows, and |F|^2 of the last iterate is below the proven 4 R^2/(gamma k)^2."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from saddlebag.algorithms import make_method
from saddlebag.algorithms.problems import BilinearGame, RobustLogisticRegression
from saddlebag.compression import Draws, Vector
from saddlebag.errors import ConfigError


def rotation(seed: int) -> BilinearGame:
    """As good as merely monotone: mu/L = 1e-7."""
    return BilinearGame(n=4, num_workers=2, regularisation=1e-7, heterogeneity=0.5, seed=seed)


def mean_operator(problem: Any, z_D: Vector) -> Vector:
    values = [problem.operator(worker)(z_D, Draws(0, 0)) for worker in range(problem.num_workers)]
    return np.asarray(np.mean(values, axis=0))


def potentials(problem: Any, step_size: float, play: Any, count: int) -> list[tuple[float, float]]:
    """(V_k, |F(z^k)|) for k = 0, 1, ..."""
    method = make_method("anchored_extragradient", problem, step_size=step_size, wire="float64")
    start_D, found = problem.start(), []
    for turn in play(problem, method, seed=0, num_rounds=2 * count):
        if turn.replica.at_half:
            continue
        k, z_D = turn.replica.iteration, turn.replica.z_D
        value_D = mean_operator(problem, z_D)
        square = float(value_D @ value_D)
        found.append((step_size * k * k / 2 * square - k * float(value_D @ (start_D - z_D)), square**0.5))
    return found


@pytest.mark.parametrize("seed", range(3))
def test_the_potential_never_grows_and_bounds_the_last_iterate(seed: int, play: Any) -> None:
    game = rotation(seed)
    step_size = 1.0 / game.constants.lipschitz
    found = potentials(game, step_size, play, 150)
    radius = float(np.linalg.norm(game.start() - game.solution))
    for k, ((before, _), (after, norm)) in enumerate(itertools.pairwise(found), start=1):
        assert after <= before + 1e-9 * radius**2 / step_size
        assert norm <= 2 * radius / (step_size * k) * (1 + 1e-9)


def test_the_inequality_tells_right_from_wrong(play: Any) -> None:
    game = rotation(0)
    values = [value for value, _ in potentials(game, 1.6 / game.constants.lipschitz, play, 60)]
    assert any(after > before + 1e-6 for before, after in itertools.pairwise(values))


def test_it_is_the_recursion(game: BilinearGame, play: Any) -> None:
    method = make_method("anchored_extragradient", game, wire="float64")
    assert method.step_size == 1.0 / game.constants.lipschitz  # type: ignore[attr-defined]
    start_D = z_D = game.start()
    turns = [turn.next_replica for turn in play(game, method, seed=0, num_rounds=60)]
    for k, replica in enumerate(turns[1::2]):
        pull, gamma = 1 / (k + 1), 1.0 / game.constants.lipschitz
        near_D = z_D + pull * (start_D - z_D)
        z_D = near_D - gamma * mean_operator(game, near_D - (1 - pull) * gamma * mean_operator(game, z_D))
        assert replica.iteration == k + 1
        assert np.allclose(replica.z_D, z_D, rtol=0, atol=1e-12)


def test_constraints_are_refused(robust: RobustLogisticRegression) -> None:
    with pytest.raises(ConfigError, match="anchored_extragradient has no prox"):
        make_method("anchored_extragradient", robust)
