"""What operators have in common: the problems that say so are right, and proxies say the same."""

from __future__ import annotations

import dataclasses
import inspect
import types
from typing import Any

import numpy as np
import pytest

import saddlebag as sb
from saddlebag.algorithms import Constants, Stop, make_method, simulate
from saddlebag.algorithms.agreed.common_part import CommonPart, common_part, tracked_constants
from saddlebag.algorithms.problems import BilinearGame
from saddlebag.algorithms.problems.division import divided
from saddlebag.algorithms.problems.estimate import with_constants
from saddlebag.compression import Draws, Grid
from saddlebag.launch.compare.cell import counted
from saddlebag.proto.codec import LoopbackWire

ROWS = np.random.default_rng(0).standard_normal((24, 3))
NAMES = ["robust_logistic", "worker_robust", "robust_least_squares", "logistic_regression"]


def problem_of(name: str) -> Any:
    data = (ROWS, ROWS[:, 0]) if name == "robust_least_squares" else (ROWS, ROWS[:, 0] > 0)
    return sb.make_problem(name, data=data, workers=3)


def rest(problem: Any, worker: int, z_D: Any) -> Any:
    common = common_part(problem)
    assert common is not None
    return problem.operator(worker)(z_D, Draws(0, 0)) - common(z_D)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_left_is_monotone_and_within_the_constants(name: str) -> None:
    problem, rng = problem_of(name), np.random.default_rng(1)
    constants = tracked_constants(problem.constants, common_part(problem))
    for _ in range(50):
        first, second = (problem.prox(problem.start() + rng.standard_normal(problem.dimension), 1.0) for _ in range(2))
        move_D = first - second
        for worker in range(3):
            change_D = rest(problem, worker, first) - rest(problem, worker, second)
            assert change_D @ move_D >= -1e-12
            assert np.linalg.norm(change_D) <= constants.lipschitz_workers[worker] * np.linalg.norm(move_D) * (1 + 1e-12)


@pytest.mark.parametrize("name", ["robust_logistic", "robust_least_squares"])
def test_nothing_is_left_where_a_worker_has_no_data(name: str) -> None:
    problem = problem_of(name)
    z_D = problem.start() + np.random.default_rng(2).standard_normal(problem.dimension)
    for worker, shard_S in enumerate(problem.shards):
        idle_D = np.ones(problem.dimension, np.bool_)
        idle_D[: problem.rows.shape[1]] = False
        idle_D[problem.rows.shape[1] + shard_S] = False
        assert np.abs(rest(problem, worker, z_D)[idle_D]).max() < 1e-15


def test_proxies_say_the_same() -> None:
    problem = problem_of("robust_logistic")
    assert problem.constants is not None
    for proxy in (with_constants(problem, problem.constants), counted(problem)[0], divided(problem, 2)):
        assert isinstance(inspect.getattr_static(type(proxy), "common_part", None), types.FunctionType)  # not by __getattr__
        common = common_part(proxy)
        assert common is not None
        assert np.array_equal(common.slope_D, common_part(problem).slope_D)  # type: ignore[union-attr]


def test_a_problem_that_says_nothing_has_none() -> None:
    game = BilinearGame(n=2, num_workers=2)
    assert common_part(game) is None
    assert tracked_constants(game.constants, None) == game.constants


def test_slopes_that_differ_cost_their_spread() -> None:
    common = CommonPart.of((2, 0.1, 0.0), (1, 0.4, 1.0))
    assert common(np.ones(3)).tolist() == [0.1, 0.1, 0.0]
    assert tracked_constants(Constants(1.0, (1.0, 2.0), 0.1), common).lipschitz_workers == pytest.approx((1.3, 2.3))


def test_without_compression_it_changes_rounding_only() -> None:
    """F_m - R + R: the iterates are those of a method that knows of no common part."""
    problem, identity = problem_of("robust_least_squares"), {"up": Grid(step=0.01), "down": Grid(step=0.01)}
    method = make_method("innovations", problem, step_size=0.1, **identity)
    runs = [
        simulate(problem, each, seed=0, stop=Stop(max_iterations=200), wire=LoopbackWire()).replica.z_D
        for each in (method, dataclasses.replace(method, common=None))
    ]
    assert np.abs(runs[0] - runs[1]).max() < 1e-6
