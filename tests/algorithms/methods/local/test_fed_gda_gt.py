"""Gradient tracking: the recursion, the proven factor of an iteration, and z* where local steps alone stop short."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import saddlebag as sb
from saddlebag.algorithms import Stop, check_method, make_method, simulate
from saddlebag.algorithms.methods.local.fed_gda_gt import FedGdaGt, fed_gda_gt, proven_step, squared_rate
from saddlebag.algorithms.problems import BilinearGame
from saddlebag.compression import Draws
from saddlebag.errors import ConfigError
from saddlebag.proto.codec import LoopbackWire

GAME = BilinearGame(n=6, num_workers=3, regularisation=0.5)


def test_it_is_the_recursion(play: Any) -> None:
    method, z_D, key = fed_gda_gt(GAME, step_size=0.03, local_steps=3, wire="float64"), GAME.start(), Draws(0, 0)
    operators = [GAME.operator(worker) for worker in range(3)]
    for turn in play(GAME, method, seed=0, num_rounds=40):
        if turn.next_replica.walks:  # the exchange of operators: z stays
            continue
        values = [operator(z_D, key) for operator in operators]
        ends = []
        for operator, value_D in zip(operators, values, strict=True):
            u_D = z_D
            for _ in range(3):
                u_D = u_D - 0.03 * (operator(u_D, key) - value_D + np.mean(values, axis=0))
            ends.append(u_D)
        z_D = np.mean(ends, axis=0)
        assert turn.next_replica.z_D == pytest.approx(z_D, rel=0, abs=1e-12)


@given(
    seed=st.integers(0, 50),
    steps=st.sampled_from([1, 2, 5, 20]),
    share=st.floats(0.1, 4.0),
    regularisation=st.sampled_from([0.1, 0.5, 2.0]),
)
def test_an_iteration_shrinks_the_error_by_the_proven_factor(
    seed: int, steps: int, share: float, regularisation: float
) -> None:
    game = BilinearGame(n=4, num_workers=3, regularisation=regularisation, heterogeneity=1.0, seed=seed)
    known = game.constants
    numbers = known.strong_monotonicity, known.lipschitz, max(known.lipschitz_workers)
    eta = share * proven_step(steps, *numbers)
    rng, key = np.random.default_rng(seed), Draws(0, 0)
    z_D = game.solution + rng.standard_normal(game.dimension)
    operators = [game.operator(worker) for worker in range(3)]
    mean_D = np.mean([operator(z_D, key) for operator in operators], axis=0)
    ends = []
    for operator in operators:
        u_D, own_D = z_D, operator(z_D, key)
        for _ in range(steps):
            u_D = u_D - eta * (operator(u_D, key) - own_D + mean_D)
        ends.append(u_D)
    before, after = (float(np.square(point - game.solution).sum()) for point in (z_D, np.mean(ends, axis=0)))
    assert after <= squared_rate(eta, steps, *numbers) * before * (1 + 1e-9)


@given(mu=st.floats(1e-3, 1.0), lipschitz=st.floats(1.0, 30.0), worse=st.floats(1.0, 10.0), steps=st.integers(1, 100))
def test_the_proven_step_s_factor_is_as_stated(mu: float, lipschitz: float, worse: float, steps: int) -> None:
    eta = proven_step(steps, mu, lipschitz, lipschitz * worse)
    assert squared_rate(eta, steps, mu, lipschitz, lipschitz * worse) <= 1 - eta * steps * mu


def test_it_reaches_the_solution_where_local_steps_alone_stop_short() -> None:
    stop = Stop(max_rounds=2000, every=10)

    def end(name: str) -> float:
        method = make_method(name, GAME, step_size=0.02, local_steps=5)
        return simulate(GAME, method, seed=0, stop=stop, wire=LoopbackWire()).history[-1].merits["relative_error"]

    assert end("fed_gda_gt") < 1e-6 < 1e-3 < end("local_sgda")


def test_it_keeps_the_laws_of_a_method() -> None:
    check_method(fed_gda_gt(GAME, step_size=0.02), GAME, wire=LoopbackWire())


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="local_steps must be at least 1, got 0"):
        FedGdaGt(step_size=0.1, local_steps=0)
    with pytest.raises(ConfigError, match="has no prox"):
        fed_gda_gt(sb.make_problem("matrix_game", workers=2), step_size=0.1)
