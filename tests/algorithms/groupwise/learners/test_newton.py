from __future__ import annotations

import numpy as np
import pytest

from saddlebag.algorithms.groupwise import Newton, check_learner, logistic
from saddlebag.algorithms.groupwise.learners.linear import curvature, slope
from saddlebag.compression import Draws
from saddlebag.errors import ConfigError

ONE, DRAWS = np.zeros(1, np.int64), Draws(0, 0)


def value(loss: str, score_N: np.ndarray, y_N: np.ndarray) -> np.ndarray:
    return np.logaddexp(0.0, score_N) - y_N * score_N if loss == "logistic" else (score_N - y_N) ** 2


@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_laws(loss: str) -> None:
    rng = np.random.default_rng(0)
    check_learner(Newton(dimension=3, loss=loss, bound=0.5), rng.random((60, 3)), (rng.random(60) < 0.5) * 0.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("loss", ["squared", "logistic"])
@pytest.mark.parametrize("bound", [0.3, 1.0, 4.0])
def test_curvature_holds_on_a_grid(loss: str, bound: float) -> None:
    u, v = np.meshgrid(np.linspace(-bound, bound, 81), np.linspace(-bound, bound, 81))
    sigma = curvature(loss, bound)  # type: ignore[arg-type]
    for y in (0.0, 1.0) if loss == "logistic" else (-bound, 0.0, bound):
        first = slope(loss, u, y) * (v - u)  # type: ignore[arg-type]
        below = value(loss, u, np.array(y)) + first + sigma / 2 * first**2
        assert (value(loss, v, np.array(y)) >= below - 1e-12).all()


@pytest.mark.parametrize("loss", ["squared", "logistic"])
@pytest.mark.parametrize("hostile", [False, True], ids=["random", "adversary"])
def test_regret_is_below_the_bound(loss: str, hostile: bool) -> None:
    """(penalty / 2) |theta|^2 + ln det(A_T / penalty) / (2 sigma), to models whose scores lie in the interval."""
    rng, bound, D = np.random.default_rng(1), 1.0, 4
    learner = Newton(dimension=D, loss=loss, bound=bound, penalty=0.7)  # type: ignore[arg-type]
    state, x_ND, y_N, score_N = learner.init(1), rng.uniform(-1, 1, (300, D)) / D, np.empty(300), np.empty(300)
    for t, x_D in enumerate(x_ND):
        score_N[t] = np.clip(state.theta_GD[0] @ x_D, -bound, bound)
        y_N[t] = float(score_N[t] < 0.1) if hostile else np.clip(3 * x_D[0] + 0.3 * rng.standard_normal(), 0, 1).round()
        learner.advance(state, x_D, y_N[t], ONE)
    theta_MD = np.vstack((rng.uniform(-1, 1, (4000, D)), np.linalg.lstsq(x_ND, y_N, rcond=None)[0]))
    allowed_M = (np.abs(theta_MD @ x_ND.T) <= bound).all(axis=1)
    assert allowed_M.sum() > 1000
    loss_M = value(loss, theta_MD[allowed_M] @ x_ND.T, y_N).sum(axis=1)
    norm2_M = (theta_MD[allowed_M] ** 2).sum(axis=1)
    volume = -np.linalg.slogdet(0.7 * state.inverse_GDD[0])[1]
    assert (value(loss, score_N, y_N).sum() - loss_M <= 0.35 * norm2_M + volume / (2 * learner._sigma)).all()


def test_steps_are_those_of_the_definition() -> None:
    """A round by A itself and by solving systems."""
    rng, learner = np.random.default_rng(3), Newton(dimension=3, bound=0.4)
    state, A_DD, u_D = learner.init(1), np.eye(3), np.zeros(3)
    for _ in range(100):
        x_D, y = rng.uniform(-1, 1, 3), float(rng.uniform(-0.4, 0.4))
        direction_D = np.linalg.solve(A_DD, x_D)
        score = np.clip(u_D @ x_D, -0.4, 0.4)
        theta_D = u_D - (u_D @ x_D - score) / (x_D @ direction_D) * direction_D
        assert theta_D @ x_D == pytest.approx(score, abs=1e-10)
        assert learner.predict(state, x_D, ONE, DRAWS)[0] == pytest.approx(score, abs=1e-10)
        g_D = 2 * (score - y) * x_D
        A_DD = A_DD + learner._sigma * np.outer(g_D, g_D)
        u_D = theta_D - np.linalg.solve(A_DD, g_D)
        learner.advance(state, x_D, y, ONE)
        assert np.allclose(state.theta_GD[0], u_D, atol=1e-10)
        assert np.allclose(state.inverse_GDD[0] @ A_DD, np.eye(3), atol=1e-10)


def test_a_block_of_one_is_a_round_inside_the_interval() -> None:
    rng, learner = np.random.default_rng(4), Newton(dimension=3, bound=5.0)
    one = two = learner.init(1)
    for _ in range(30):
        x_D, y = rng.uniform(-1, 1, 3), float(rng.uniform(-1, 1))
        one = learner.update(one, x_D, y, ONE)
        two = learner.merge(two, learner.sums(two, x_D[None], np.array([y]), np.ones((1, 1), bool)))
    assert np.allclose(one.theta_GD, two.theta_GD, atol=1e-10)


def test_logistic_learns_probabilities() -> None:
    """Close to the truth after 3,000 rounds: within a tenth in the mean."""
    rng, learner = np.random.default_rng(5), logistic(dimension=2)
    state, gaps = learner.init(1), []
    for _ in range(3000):
        x_D = np.array([1.0, rng.uniform(-1, 1)])
        truth = 1 / (1 + np.exp(-(0.5 + 2 * x_D[1])))
        gaps.append(abs(learner.predict(state, x_D, ONE, DRAWS)[0] - truth))
        learner.advance(state, x_D, float(rng.random() < truth), ONE)
    assert np.mean(gaps[-500:]) < 0.1
    assert gaps[0] > 0.0


def test_parameters_are_checked() -> None:
    for wrong, message in (({"bound": 0.0}, "bound"), ({"penalty": -1.0}, "penalty"), ({"dimension": 0}, "dimension")):
        with pytest.raises(ConfigError, match=message):
            Newton(**{"dimension": 2, **wrong})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="loss must be one of squared, logistic, got 'absolute'"):
        Newton(dimension=2, loss="absolute")
