"""Optimistic gradient against its recursion in plain numpy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.algorithms import Problem, Stop, extragradient, ogda, simulate
from saddlebag.compression import Draws, Vector
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from saddlebag.algorithms.problems import BilinearGame
    from saddlebag.proto.codec import LoopbackWire


def recursion(problem: Problem, step_size: float) -> Iterator[Vector]:
    """z+ = prox(z - gamma (2 F(z) - F(z_previous))), z^-1 = z^0."""
    operators = [problem.operator(worker) for worker in range(problem.num_workers)]

    def mean(point_D: Vector) -> Vector:
        return np.asarray(np.mean([operator(point_D, Draws(0, 0)) for operator in operators], axis=0))

    previous_D = z_D = problem.start()
    while True:
        slope_D = 2 * mean(z_D) - mean(previous_D)
        previous_D, z_D = z_D, problem.prox(z_D - step_size * slope_D, step_size)
        yield z_D


@pytest.mark.parametrize("name", ["game", "robust"])
@pytest.mark.parametrize(("wire_type", "tolerance"), [("float64", 1e-13), ("float32", 1e-6)])
def test_it_is_the_recursion(name: str, wire_type: Any, tolerance: float, request: pytest.FixtureRequest, play: Any) -> None:
    problem = request.getfixturevalue(name)
    method = ogda(problem, wire=wire_type)
    reference, scale = recursion(problem, method.step_size), np.linalg.norm(problem.solution)
    for round_, turn in enumerate(play(problem, method, seed=0, num_rounds=200)):
        assert turn.next_replica.iteration == round_ + 1  # one round trip an iteration
        assert np.linalg.norm(turn.next_replica.z_D - next(reference)) <= tolerance * scale


def test_a_restart_begins_with_a_plain_step(game: BilinearGame, play: Any) -> None:
    method = ogda(game)
    *_, last = play(game, method, seed=0, num_rounds=5)
    assert not method.init_replica(last.next_replica.z_D).operator_D.any()
    assert method.init_replica(last.next_replica.z_D).iteration == 0


def test_theory_step_reaches_the_float64_floor_at_the_rate_of_extragradient(game: BilinearGame, wire: LoopbackWire) -> None:
    method = ogda(game)
    assert method.step_size == 1 / (2 * game.constants.lipschitz)
    stop = Stop(merit=1e-6, max_iterations=3000)
    one, two = (
        simulate(game, method, seed=0, stop=stop, wire=wire),
        simulate(game, extragradient(game), seed=0, stop=stop, wire=wire),
    )
    # masha.md, section 11: 1384 iterations of either on the reference problem
    assert one.replica.iteration == pytest.approx(two.replica.iteration, rel=0.02)
    assert one.up_bytes == pytest.approx(two.up_bytes / 2, rel=0.02)
    far = simulate(game, method, seed=0, stop=Stop(max_iterations=1500, every=1500), wire=wire)
    assert far.history[-1].merits["relative_error"] <= 1e-13


def test_it_compares_digests_now_and_then(game: BilinearGame, play: Any) -> None:
    method = ogda(game)
    flags = [method.synchronises(turn.replica, turn.draws) for turn in play(game, method, seed=0, num_rounds=33)]
    assert [round_ for round_, flag in enumerate(flags) if flag] == [0, 16, 32]


@pytest.mark.parametrize("step_size", [0.0, -1.0, math.nan, math.inf])
def test_bad_steps_are_refused(step_size: float, game: BilinearGame) -> None:
    with pytest.raises(ConfigError, match="step_size must be a positive number, got"):
        ogda(game, step_size=step_size)
