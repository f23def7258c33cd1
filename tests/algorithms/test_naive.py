"""Naive compressed extragradient: it stalls or diverges where workers differ, and MASHA1 does not."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.algorithms import Outcome, Stop, compressed_extragradient, extragradient, masha1, simulate
from saddlebag.algorithms.problems import BilinearGame, RobustLogisticRegression
from saddlebag.compression import Draws, Identity, RandK, TopK, Vector
from saddlebag.errors import ConfigError
from saddlebag.proto.codec import LoopbackWire

if TYPE_CHECKING:
    from collections.abc import Iterator

FULL, RAND = Identity(), RandK(fraction=0.1)  # omega = 9, the worst that the reference problem was tried with
IDENTICAL = BilinearGame(n=10, num_workers=4, regularisation=0.05, heterogeneity=0.0)


def run(game: BilinearGame, step: float, **stop: Any) -> Outcome:
    method = compressed_extragradient(game, up=RAND, down=FULL, step_size=step / game.constants.lipschitz)
    return simulate(game, method, seed=0, stop=Stop(**{"every": 10, **stop}), wire=LoopbackWire())


def errors(outcome: Outcome) -> Vector:
    return np.array([record.merits["relative_error"] for record in outcome.history])


def test_it_diverges_at_a_large_step(game: BilinearGame) -> None:
    assert run(game, 0.5, max_iterations=2000).reason == "diverged"


def test_it_stalls_where_masha1_converges(game: BilinearGame, wire: LoopbackWire) -> None:
    step = 0.1
    naive = run(game, step, max_iterations=3000)
    assert naive.reason == "max_iterations"
    assert errors(naive).min() > 0.1
    assert errors(naive)[-100:].mean() > 0.2  # no progress in the end either

    method = masha1(game, up=RAND, down=FULL, step_size=step / game.constants.lipschitz, probability=0.1)
    anchored = simulate(game, method, seed=0, stop=Stop(max_iterations=3000, every=10), wire=wire)
    # masha.md, section 9.6 (c): the error falls by exp(-gamma mu / 2) an iteration, hence linearly in the logarithm
    rate = method.step_size * game.constants.strong_monotonicity / 2
    halves = errors(anchored)[149], errors(anchored)[299]
    assert halves[0] <= 3 * math.exp(-rate * 1500)
    assert halves[1] <= 3 * math.exp(-rate * 3000) < 0.002


def test_it_stalls_in_the_predicted_ball(game: BilinearGame) -> None:  # masha.md, section 9.5, leading order in gamma
    operators, step_size = [game.operator(worker) for worker in range(4)], 0.02 / game.constants.lipschitz
    spread = np.mean([np.sum(operator(game.solution, Draws(0, 0)) ** 2) for operator in operators])
    square = step_size * RAND.omega(20) * spread / (2 * game.constants.strong_monotonicity * 4)
    predicted = math.sqrt(square) / np.linalg.norm(game.solution)
    tail = errors(run(game, 0.02, max_iterations=3500))[150:]
    # the ball is left and entered on a scale of 1/(gamma mu) = 1000 iterations: one run averages over few of them
    assert math.sqrt(np.mean(tail**2)) == pytest.approx(predicted, rel=0.3)


def test_it_converges_on_identical_workers() -> None:
    naive = run(IDENTICAL, 0.1, max_iterations=3000)
    assert errors(naive)[-1] < 1e-4
    assert errors(naive)[-1] < 0.05 * errors(naive)[150]  # and is still falling


def plain(problem: Any, method: Any, seed: int) -> Iterator[Vector]:
    """The same method in a few lines, with the same draws."""
    z_D, round_ = problem.start(), 0

    def compressed(point_D: Vector) -> Vector:
        draws = [Draws(seed, round_, worker) for worker in range(problem.num_workers)]
        values = [method.up.encode(problem.operator(d.worker)(point_D, d), d).dense() for d in draws]
        return np.asarray(sum(values) / len(values)).astype(np.float32).astype(np.float64)

    while True:
        half_D = problem.prox(z_D - method.step_size * compressed(z_D), method.step_size)
        round_ += 1
        z_D = problem.prox(z_D - method.step_size * compressed(half_D), method.step_size)
        round_ += 1
        yield z_D


@pytest.mark.parametrize("name", ["game", "robust"])
@pytest.mark.parametrize("up", [RAND, TopK(fraction=0.1), FULL], ids=lambda c: type(c).__name__)
def test_it_is_the_recursion(name: str, up: Any, request: pytest.FixtureRequest, play: Any) -> None:
    problem = request.getfixturevalue(name)
    method = compressed_extragradient(problem, up=up, down=FULL, step_size=0.05)
    reference = plain(problem, method, 6)
    for turn in play(problem, method, seed=6, num_rounds=100):
        if turn.next_replica.iteration > turn.replica.iteration:
            assert turn.next_replica.z_D == pytest.approx(next(reference), rel=0, abs=1e-12)


def test_without_compression_it_is_extragradient(robust: RobustLogisticRegression, play: Any) -> None:
    exact = Identity(dtype="float64")
    ones = play(robust, compressed_extragradient(robust, up=exact, down=exact, step_size=0.3), seed=0, num_rounds=100)
    others = play(robust, extragradient(robust, step_size=0.3, wire="float64"), seed=0, num_rounds=100)
    for one, other in zip(ones, others, strict=True):
        assert one.next_replica.z_D == pytest.approx(other.next_replica.z_D, rel=0, abs=1e-13)


def test_there_is_no_proven_step(game: BilinearGame) -> None:
    with pytest.raises(ConfigError, match=r"compressed_extragradient has no proven step size; give method.step_size a number"):
        compressed_extragradient(game, up=RAND, down=FULL)


@pytest.mark.parametrize("step_size", [0.0, -1.0, math.nan, math.inf])
def test_bad_steps_are_refused(step_size: float, game: BilinearGame) -> None:
    with pytest.raises(ConfigError, match="step_size must be a positive number, got"):
        compressed_extragradient(game, up=RAND, down=FULL, step_size=step_size)
