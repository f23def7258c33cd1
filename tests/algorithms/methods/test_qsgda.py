"""Quantised descent-ascent: the proven inequality with its ball, and convergence where every F_m vanishes at z*."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from saddlebag.algorithms import Stop, qsgda, simulate
from saddlebag.algorithms.methods.one_part import Stateless
from saddlebag.algorithms.methods.qsgda import PlainReplica, qsgda_growth
from saddlebag.algorithms.problems import BilinearGame
from saddlebag.compression import Draws, Identity, Natural, RandK, TopK
from saddlebag.errors import ConfigError
from saddlebag.proto.codec import LoopbackWire

FULL, RAND = Identity(), RandK(k=1)


@pytest.mark.parametrize("two_sided", [False, True], ids=["one_sided", "two_sided"])
@pytest.mark.parametrize("name", ["game", "prox"])
def test_one_step_contracts_up_to_the_proven_ball(
    name: str, two_sided: bool, tiny_robust: Any, state: Any, expectation: Any
) -> None:
    problem: Any = BilinearGame(n=2, num_workers=2, regularisation=0.3) if name == "game" else tiny_robust
    method = qsgda(problem, up=RAND, down=RAND if two_sided else FULL)
    star_D, constants, d = problem.solution, problem.constants, problem.dimension
    at_star = [problem.operator(m)(star_D, Draws(0, 0)) for m in range(2)]
    omega, omega_down = d - 1.0, (d - 1.0) * two_sided
    ball = 2 * omega_down * np.sum(np.mean(at_star, axis=0) ** 2)
    ball += 2 * (1 + omega_down) * omega / 2 * np.mean(np.sum(np.square(at_star), axis=1))
    rng = np.random.default_rng(0)

    def square(found: Any) -> float:
        return float(np.sum((found.replica.z_D - star_D) ** 2))

    for _ in range(15 if d < 6 else 3):
        z_D = problem.prox(star_D + 10.0 ** rng.uniform(-3, 2) * rng.standard_normal(d), 1.0)
        before = state(PlainReplica(z_D, 3), (Stateless(),) * 2, Stateless())
        after = expectation(problem, method, before, square, scale=float(d), two_sided=two_sided)
        gamma = method.step_size
        assert after <= (1 - gamma * constants.strong_monotonicity) * square(before) + gamma**2 * ball * (1 + 1e-9)


@pytest.mark.parametrize("two_sided", [False, True], ids=["one_sided", "two_sided"])
def test_the_inequality_holds_at_every_point(two_sided: bool, state: Any, expectation: Any) -> None:
    """For an affine F what is left of the ball is a quadratic polynomial of z - z*: it has no negative value, anywhere."""
    game = BilinearGame(n=2, num_workers=2, regularisation=0.3)
    method = qsgda(game, up=RAND, down=RAND if two_sided else FULL)
    star_D, d, gamma = game.solution, game.dimension, method.step_size
    at_star = [game.operator(m)(star_D, Draws(0, 0)) for m in range(2)]
    omega, omega_down = d - 1.0, (d - 1.0) * two_sided
    ball = 2 * omega_down * np.sum(np.mean(at_star, axis=0) ** 2)
    ball += 2 * (1 + omega_down) * omega / 2 * np.mean(np.sum(np.square(at_star), axis=1))

    def square(found: Any) -> float:
        return float(np.sum((found.replica.z_D - star_D) ** 2))

    def left(away_D: np.ndarray) -> float:
        before = state(PlainReplica(star_D + away_D, 3), (Stateless(),) * 2, Stateless())
        after = expectation(game, method, before, square, scale=float(d), two_sided=two_sided)
        return float((1 - gamma * game.constants.strong_monotonicity) * square(before) + gamma**2 * ball - after)

    unit_DD, constant = np.eye(d), left(np.zeros(d))
    form = np.zeros((d + 1, d + 1))  # in (z - z*, 1)
    form[d, d] = constant
    for i in range(d):
        ahead, back = left(unit_DD[i]), left(-unit_DD[i])
        form[i, i], form[i, d] = (ahead + back) / 2 - constant, (ahead - back) / 4
        form[d, i] = form[i, d]
    for i in range(d):
        for j in range(i):
            both = left(unit_DD[i] + unit_DD[j]) - constant - 2 * (form[i, d] + form[j, d])
            form[i, j] = form[j, i] = (both - form[i, i] - form[j, j]) / 2
    probe = np.array([0.3, -2.0, 0.7, 1.1])
    assert np.append(probe, 1.0) @ form @ np.append(probe, 1.0) == pytest.approx(left(probe), rel=1e-9)
    assert np.linalg.eigvalsh(form)[0] >= -1e-12


def test_growth_is_the_formula(game: BilinearGame) -> None:
    up, down, constants = RandK(k=4), Natural(), game.constants  # omega = 4, omega_s = 1/8, M = 4
    expected = 1.25 * constants.lipschitz**2 + 2.25 * constants.lipschitz_rms**2
    assert qsgda_growth(game, up, down) == pytest.approx(expected)
    common = RandK(k=4, support="common")
    assert qsgda_growth(game, common, FULL) == pytest.approx(constants.lipschitz**2 + 8 * constants.lipschitz_rms**2)


def test_it_converges_only_where_workers_agree() -> None:
    def last(heterogeneity: float) -> float:
        game = BilinearGame(n=4, num_workers=4, regularisation=0.5, heterogeneity=heterogeneity)
        method = qsgda(game, up=RandK(k=4), down=FULL)
        stop = Stop(max_iterations=1500, every=1500)
        return simulate(game, method, seed=0, stop=stop, wire=LoopbackWire()).history[-1].merits["relative_error"]

    assert last(0.0) < 1e-8
    assert last(0.5) > 1e-3


def test_refuses_biased_compressors(game: BilinearGame) -> None:
    with pytest.raises(ConfigError, match="qsgda needs an unbiased compressor down, got TopK"):
        qsgda(game, up=RAND, down=TopK(k=1))
