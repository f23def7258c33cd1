from __future__ import annotations

import math

import numpy as np
import pytest

from saddlebag.algorithms.groupwise import Gradient, check_learner
from saddlebag.algorithms.groupwise.learners.linear import slope
from saddlebag.compression import Draws
from saddlebag.errors import ConfigError

ONE, DRAWS = np.zeros(1, np.int64), Draws(0, 0)
LOSSES = ("squared", "absolute", "logistic")


def value(loss: str, score_N: np.ndarray, y_N: np.ndarray) -> np.ndarray:
    if loss == "logistic":
        return np.logaddexp(0.0, score_N) - y_N * score_N
    return np.abs(score_N - y_N) ** (2 if loss == "squared" else 1)


@pytest.mark.parametrize("loss", LOSSES)
def test_laws(loss: str) -> None:
    rng = np.random.default_rng(0)
    check_learner(Gradient(dimension=3, loss=loss), rng.random((60, 3)), (rng.random(60) < 0.5).astype(float))  # type: ignore[arg-type]


@pytest.mark.parametrize("loss", LOSSES)
def test_slopes_are_derivatives(loss: str) -> None:
    score_N, y_N, h = np.linspace(-3, 3, 41) + 0.013, np.tile([0.0, 1.0], 21)[:41], 1e-6
    numeric_N = (value(loss, score_N + h, y_N) - value(loss, score_N - h, y_N)) / (2 * h)
    assert np.allclose(slope(loss, score_N, y_N), numeric_N, atol=1e-8)  # type: ignore[arg-type]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("hostile", [False, True], ids=["random", "adversary"])
def test_regret_is_below_the_bound(loss: str, hostile: bool) -> None:
    """Regret <= D sqrt(2 sum |g|^2) to any model in the ball, here to the best of 4,000 and the leader's direction."""
    rng, radius = np.random.default_rng(1), 1.5
    learner = Gradient(dimension=3, loss=loss, radius=radius)  # type: ignore[arg-type]
    state, rows, scores = learner.init(1), [], []
    for _ in range(300):
        x_D = rng.uniform(-1, 1, 3)
        score = float(state.theta_GD[0] @ x_D)
        y = float(score < 0.1) if hostile else float(rng.random() < 1 / (1 + math.exp(-2 * x_D[0])))
        rows.append((x_D, y))
        scores.append(score)
        learner.advance(state, x_D, y, ONE)
        assert np.linalg.norm(state.theta_GD[0]) <= radius * (1 + 1e-12)
    x_ND, y_N = np.array([x for x, _ in rows]), np.array([y for _, y in rows])
    direction_MD = rng.standard_normal((4000, 3))
    theta_MD = radius * direction_MD / np.linalg.norm(direction_MD, axis=1, keepdims=True) * rng.random((4000, 1))
    best = value(loss, x_ND @ theta_MD.T, y_N[:, None]).sum(axis=0).min()
    assert value(loss, np.array(scores), y_N).sum() - best <= 2 * radius * math.sqrt(2 * state.square_G[0])


def test_clocks_are_the_groups_own() -> None:
    """A group that sleeps in between ends where one that does not."""
    rng = np.random.default_rng(2)
    x_ND, y_N = rng.random((40, 3)), rng.random(40)
    learner = Gradient(dimension=3)
    busy, alone = learner.init(2), learner.init(1)
    for t in range(40):
        learner.advance(busy, x_ND[t], y_N[t], np.array([0, 1]) if t % 2 else np.array([0]))
        if t % 2:
            learner.advance(alone, x_ND[t], y_N[t], ONE)
    assert np.array_equal(busy.theta_GD[1], alone.theta_GD[0])


@pytest.mark.parametrize(
    ("field", "bad", "message"),
    [("dimension", 0, "dimension must be"), ("radius", -1.0, "radius must be"), ("loss", "hinge", "loss must be one of")],
)
def test_parameters_are_checked(field: str, bad: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Gradient(**{"dimension": 2, field: bad})  # type: ignore[arg-type]
