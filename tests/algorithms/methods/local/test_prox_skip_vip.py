"""Local steps with control variates: the recursion, the inequality over both outcomes of the coin, and the solution."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import saddlebag as sb
from saddlebag.algorithms import Stop, check_method, make_method, simulate
from saddlebag.algorithms.methods.local.prox_skip_vip import ProxSkipVip, prox_skip_vip
from saddlebag.algorithms.problems import BilinearGame
from saddlebag.compression import Draws
from saddlebag.errors import ConfigError
from saddlebag.proto.codec import LoopbackWire

GAME = BilinearGame(n=6, num_workers=3, regularisation=0.5)


def test_it_is_the_recursion_step_by_step(play: Any) -> None:
    gamma, p = 0.05, 0.4
    method = prox_skip_vip(GAME, step_size=gamma, probability=p, wire="float64")
    operators, key = [GAME.operator(worker) for worker in range(3)], Draws(0, 0)
    z_MD, h_MD = np.tile(GAME.start(), (3, 1)), np.zeros((3, GAME.dimension))
    for round_, turn in enumerate(play(GAME, method, seed=5, num_rounds=30)):
        for step in range(1000):
            end_MD = np.stack([z - gamma * (F(z, key) - h) for z, h, F in zip(z_MD, h_MD, operators, strict=True)])
            exchange = Draws(5, round_).within(step).coin(p)
            z_MD = np.tile((end_MD - gamma / p * h_MD).mean(axis=0), (3, 1)) if exchange else end_MD
            h_MD = h_MD + p / gamma * (z_MD - end_MD)
            if exchange:
                break
        assert turn.next_replica.z_D == pytest.approx(z_MD[0], rel=0, abs=1e-11)


@given(seed=st.integers(0, 100), p=st.floats(0.05, 1.0), share=st.floats(0.05, 1.0))
def test_a_local_step_keeps_the_inequality_over_both_outcomes_of_the_coin(seed: int, p: float, share: float) -> None:
    game = BilinearGame(n=3, num_workers=3, regularisation=0.4, heterogeneity=1.0, seed=seed)
    mu, largest = game.constants.strong_monotonicity, max(game.constants.lipschitz_workers)
    gamma, rng, key = share * mu / largest**2, np.random.default_rng(seed), Draws(0, 0)
    operators = [game.operator(worker) for worker in range(3)]
    best_MD = np.stack([F(game.solution, key) for F in operators])
    z_MD = game.solution + rng.standard_normal((3, game.dimension))
    h_MD = best_MD + rng.standard_normal((3, game.dimension))
    h_MD -= h_MD.mean(axis=0)  # as the method keeps it: the variates sum to 0, and so do the F_m(z*)

    def psi(z: Any, h: Any) -> float:
        return float(np.square(z - game.solution).sum() + (gamma / p) ** 2 * np.square(h - best_MD).sum())

    end_MD = np.stack([z - gamma * (F(z, key) - h) for z, h, F in zip(z_MD, h_MD, operators, strict=True)])
    met_MD = np.tile((end_MD - gamma / p * h_MD).mean(axis=0), (3, 1))
    expected = p * psi(met_MD, h_MD + p / gamma * (met_MD - end_MD)) + (1 - p) * psi(end_MD, h_MD)
    assert expected <= max(1 - gamma * mu, 1 - p * p) * psi(z_MD, h_MD) * (1 + 1e-9)


def test_it_reaches_the_solution_where_local_steps_alone_stop_short() -> None:
    method = make_method("prox_skip_vip", GAME, step_size=0.05, probability=0.2)
    outcome = simulate(GAME, method, seed=0, stop=Stop(merit=1e-6, max_rounds=2000), wire=LoopbackWire())
    alone = make_method("local_sgda", GAME, step_size=0.05, local_steps=5)
    short = simulate(GAME, alone, seed=0, stop=Stop(max_rounds=2000, every=100), wire=LoopbackWire())
    assert outcome.reason == "merit"
    assert short.history[-1].merits["relative_error"] > 1e-3


def test_steps_from_the_theory() -> None:
    method, known = prox_skip_vip(GAME), GAME.constants
    assert method.step_size == known.strong_monotonicity / max(known.lipschitz_workers) ** 2
    assert method.probability == pytest.approx((method.step_size * known.strong_monotonicity) ** 0.5)


def test_it_keeps_the_laws_of_a_method() -> None:
    check_method(prox_skip_vip(GAME, step_size=0.05, probability=0.3), GAME, wire=LoopbackWire())


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"probability must lie in \(0, 1\], got 0"):
        ProxSkipVip(step_size=0.1, probability=0.0)
    with pytest.raises(ConfigError, match="has no prox"):
        prox_skip_vip(sb.make_problem("matrix_game", workers=2), step_size=0.1)
