"""Grids that set themselves: what they see, what they do about it, and what it saves."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.algorithms import Stop, check_method, digest, innovations, make_method, simulate
from saddlebag.algorithms.agreed.auto_grid import DOWN, UP, UP_REST, Gauge, contraction, setting
from saddlebag.algorithms.methods.innovations import proven_step
from saddlebag.algorithms.problems import PROBLEMS, BilinearGame, RobustLogisticRegression
from saddlebag.algorithms.state import pack, unpack
from saddlebag.compression import Grid
from saddlebag.launch.data.rows import load_data

if TYPE_CHECKING:
    from saddlebag.proto.codec import LoopbackWire

AUTO = Grid(step="auto")
PUSHING = {"strong_monotonicity": 0.05, "rotation": 0.0}


def lags(problem: Any, wire: LoopbackWire, iterations: int = 60) -> list[float]:
    seen: list[float] = []
    stop = Stop(max_iterations=iterations)
    method = make_method("innovations", problem, step_size="auto")
    simulate(problem, method, seed=0, stop=stop, wire=wire, watch=lambda _, replica, __: seen.append(replica.state.gauge.lag))
    return seen


def gauge(lag: float) -> Gauge:
    return dataclasses.replace(Gauge.new(3), lag=lag)


def test_a_rotation_bears_no_lag(wire: LoopbackWire) -> None:
    assert max(lags(BilinearGame(n=20, num_workers=4, regularisation=0.02), wire)) == 0.0


def test_a_gradient_bears_all_of_it(wire: LoopbackWire) -> None:
    assert lags(PROBLEMS["quadratic"](None, num_workers=4, **PUSHING), wire)[-1] == 1.0


@pytest.mark.parametrize(("angle", "end"), [(1.5, 0.0), (1.3, 0.5), (0.5, 1.0)])
def test_the_lag_follows_the_angle(angle: float, end: float) -> None:
    """Between the two thresholds, at cos 1.3 = 0.27, it stays."""
    seen, moved_D = gauge(0.5), np.array([1.0, 0.0])
    seen = dataclasses.replace(seen, moved_D=moved_D)
    for _ in range(12):
        seen = seen.after(np.array([np.cos(angle), np.sin(angle)]), moved_D)
    assert seen.lag == pytest.approx(end)


def test_standing_still_shows_nothing() -> None:
    still = gauge(0.5).after(np.ones(3), np.ones(3))
    assert (still.lag, still.change, still.moved) == (0.5, 0.0, 0.0)
    assert still.after(np.full(3, 1e200), np.ones(3)).lag == 0.0  # and what overflows begins anew


def test_every_setting_contracts_by_the_proven_constant() -> None:
    for limits in (UP, UP_REST, DOWN):
        settings = [setting(AUTO, limits, gauge(lag)) for lag in (0.0, 0.1, 0.5, 1.0)]
        assert contraction(AUTO, limits, 50) <= min(compressor.alpha(50) for compressor in settings)  # type: ignore[attr-defined]
    assert setting(Grid(step=0.25), UP, gauge(1.0)) == Grid(step=0.25)  # a step that is given is kept
    assert setting(Grid(step="auto", block=7), UP, gauge(1.0)) == Grid(step=0.5, block=7, fit=1.0, dead=0.65)


def test_the_step_of_the_theory_holds_for_all_settings(game: BilinearGame) -> None:
    method = innovations(game, up=AUTO, down=AUTO)
    alphas = [contraction(AUTO, limits, game.dimension) for limits in (UP, DOWN)]
    assert method.step_size == proven_step(game.constants, *alphas)  # type: ignore[union-attr]


@pytest.mark.parametrize("step_size", ["auto", 0.2])
def test_it_is_a_method(step_size: Any) -> None:
    game = BilinearGame(n=3, num_workers=2, regularisation=0.3)
    check_method(make_method("innovations", game, step_size=step_size), game)


def test_the_gauge_is_part_of_checkpoints_and_digests(game: BilinearGame, wire: LoopbackWire) -> None:
    method = make_method("innovations", game, step_size=0.2)
    replica = simulate(game, method, seed=0, stop=Stop(max_iterations=5), wire=wire).replica
    kept = unpack(method.init_replica(game.start()), pack(replica))
    assert digest(kept) == digest(replica)
    other = dataclasses.replace(replica, gauge=dataclasses.replace(replica.gauge, lag=0.7))
    assert digest(other) != digest(replica)


def test_grids_that_are_given_have_no_gauge(game: BilinearGame) -> None:
    assert make_method("innovations", game, up=Grid(), down=Grid(), step_size=0.2).init_replica(game.start()).gauge is None


def test_with_a_prox_the_residual_vanishes(robust: RobustLogisticRegression, wire: LoopbackWire) -> None:
    method = make_method("innovations", robust, step_size="auto")
    assert simulate(robust, method, seed=0, stop=Stop(merit=1e-9, max_iterations=20000), wire=wire).reason == "merit"


def test_bytes_of_the_readme(wire: LoopbackWire) -> None:
    """breast_cancer, 4 workers, to 1e-6: the best pair of fixed grids takes 22.4 kB, EF21 with tuned steps 15.8."""
    problem = PROBLEMS["robust_logistic"](load_data("breast_cancer"), num_workers=4)
    method = make_method("innovations", problem, step_size="auto")
    end = simulate(problem, method, seed=0, stop=Stop(merit=1e-6, max_iterations=400), wire=wire, keep_history=False)
    assert end.reason == "merit"
    assert (end.up_bytes + end.down_bytes) / 4 < 10_500
