"""Extragradient against its recursion in plain numpy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.algorithms import Problem, Stop, extragradient, simulate
from saddlebag.algorithms.problems import BilinearGame
from saddlebag.compression import Draws, Vector
from saddlebag.errors import ConfigError
from saddlebag.proto.codec import LoopbackWire

if TYPE_CHECKING:
    from collections.abc import Iterator


def recursion(problem: Problem, step_size: float) -> Iterator[Vector]:
    """zh = prox(z - gamma F(z)), z+ = prox(z - gamma F(zh))."""
    operators = [problem.operator(worker) for worker in range(problem.num_workers)]

    def mean(point_D: Vector) -> Vector:
        return np.asarray(np.mean([operator(point_D, Draws(0, 0)) for operator in operators], axis=0))

    z_D = problem.start()
    while True:
        half_D = problem.prox(z_D - step_size * mean(z_D), step_size)
        z_D = problem.prox(z_D - step_size * mean(half_D), step_size)
        yield z_D


@pytest.mark.parametrize("name", ["game", "robust"])
@pytest.mark.parametrize(("wire_type", "tolerance"), [("float64", 1e-13), ("float32", 1e-6)])
def test_it_is_the_recursion(name: str, wire_type: Any, tolerance: float, request: pytest.FixtureRequest, play: Any) -> None:
    problem = request.getfixturevalue(name)
    method = extragradient(problem, wire=wire_type)
    reference, scale = recursion(problem, method.step_size), np.linalg.norm(problem.solution)
    for round_, turn in enumerate(play(problem, method, seed=0, num_rounds=300)):
        assert turn.next_replica.iteration == (round_ + 1) // 2  # two round trips an iteration
        if turn.next_replica.iteration > turn.replica.iteration:
            assert np.linalg.norm(turn.next_replica.z_D - next(reference)) <= tolerance * scale


def test_closed_form_of_a_plain_rotation() -> None:
    """A game of one coordinate each and s = 0: F(z) = lam z + c, so z^k - z* = (1 - g lam + g^2 lam^2)^k (z^0 - z*)."""
    game = BilinearGame(n=1, num_workers=2, regularisation=0.5)  # linspace(0, 1, 1) = [0]
    method = extragradient(game, step_size=0.4, wire="float64")
    outcome = simulate(game, method, seed=0, stop=Stop(max_iterations=30), wire=LoopbackWire())
    factor = 1 - 0.4 * 0.5 + (0.4 * 0.5) ** 2
    for record in outcome.history:
        assert record.merits["relative_error"] == pytest.approx(factor**record.iteration, rel=1e-12)


def test_theory_step_contracts_as_proven(game: BilinearGame, wire: LoopbackWire) -> None:
    method = extragradient(game)
    assert method.step_size == 1 / (2 * game.constants.lipschitz)
    outcome = simulate(game, method, seed=0, stop=Stop(max_iterations=1500, every=50), wire=wire)
    rate = method.step_size * game.constants.strong_monotonicity  # |z - z*|^2 falls by 1 - gamma mu at least
    for record in outcome.history:
        # 1e-13: float64 state; float32 increments put no floor under it
        assert record.merits["relative_error"] <= math.sqrt((1 - rate) ** record.iteration) + 1e-13
    assert outcome.history[-1].merits["relative_error"] <= 1e-13


def test_it_synchronises_once_an_iteration(game: BilinearGame, play: Any) -> None:
    method = extragradient(game)
    flags = [method.synchronises(turn.replica, turn.draws) for turn in play(game, method, seed=0, num_rounds=6)]
    assert flags == [True, False] * 3


@pytest.mark.parametrize("step_size", [0.0, -1.0, math.nan, math.inf])
def test_bad_steps_are_refused(step_size: float, game: BilinearGame) -> None:
    with pytest.raises(ConfigError, match="step_size must be a positive number, got"):
        extragradient(game, step_size=step_size)


def test_bad_wires_are_refused(game: BilinearGame) -> None:
    with pytest.raises(ConfigError, match="wire must be 'float32' or 'float64', got 'int8'"):
        extragradient(game, wire="int8")  # type: ignore[arg-type]
