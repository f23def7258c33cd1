"""AIOLI: the laws of a learner, its definition, its constants, and what the exponential constant cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize

from saddlebag.algorithms.groupwise import Aioli, Newton, best_logistic_losses, check_learner, logistic
from saddlebag.algorithms.groupwise.learners.aioli import _scores, volumes
from saddlebag.compression import Draws
from saddlebag.errors import ConfigError

ONE, DRAWS = np.zeros(1, np.int64), Draws(0, 0)


def log_losses(score: Any, y: Any) -> Any:
    return np.logaddexp(0.0, score) - y * score


def test_laws() -> None:
    rng = np.random.default_rng(0)
    check_learner(Aioli(dimension=3, bound=0.5), rng.random((60, 3)), (rng.random(60) < 0.5) * 0.5)


def test_a_prediction_is_the_minimum_of_its_definition() -> None:
    rng, learner = np.random.default_rng(3), Aioli(dimension=3, bound=2.0, penalty=0.7)
    state, past = learner.init(1), []
    for _ in range(40):
        x_D, y = rng.normal(size=3), float(rng.random() < 0.4)

        def objective(theta_D: Any, x_D: Any = x_D) -> float:
            value = 0.35 * theta_D @ theta_D + log_losses(theta_D @ x_D, 1.0) + log_losses(theta_D @ x_D, 0.0)
            for x, label, u, p in past:
                value += (p - label) * (theta_D @ x - u) + p * (1 - p) / 3.0 / 2.0 * (theta_D @ x - u) ** 2
            return float(value)

        best = minimize(objective, np.zeros(3), tol=1e-12)
        p = float(learner.predict(state, x_D, ONE, DRAWS)[0])
        assert p == pytest.approx(1.0 / (1.0 + np.exp(-best.x @ x_D)), abs=1e-5)
        past.append((x_D, y, np.log(p / (1 - p)), p))
        learner.advance(state, x_D, y, ONE)


@pytest.mark.parametrize("bound", [0.5, 2.0, 6.0])
def test_parabolas_lie_below_the_loss(bound: float) -> None:
    """At any predicted score u, for models whose scores lie in [-bound, bound]; labels between 0 and 1, too."""
    u, v = np.meshgrid(np.linspace(-12, 12, 121), np.linspace(-bound, bound, 61))
    p = 1.0 / (1.0 + np.exp(-u))
    for y in (0.0, 0.3, 1.0):
        below = log_losses(u, y) + (p - y) * (v - u) + p * (1 - p) / (1 + bound) / 2 * (v - u) ** 2
        assert (log_losses(v, y) >= below - 1e-12).all()


@pytest.mark.parametrize("rounds", ["random", "adversary", "separable", "large"])
def test_regret_is_below_the_bound(rounds: str) -> None:
    rng, bound, D = np.random.default_rng(1), 2.0, 4
    learner = Aioli(dimension=D, bound=bound, penalty=0.7)
    state, x_ND, y_N, loss = learner.init(1), rng.uniform(-1, 1, (300, D)), np.empty(300), 0.0
    x_ND *= 1.0 if rounds == "large" else 1.0 / D
    for t, x_D in enumerate(x_ND):
        p = float(learner.predict(state, x_D, ONE, DRAWS)[0])
        y_N[t] = {"adversary": p < 0.5, "separable": x_D[0] > 0, "large": p < 0.5}.get(rounds, rng.random() < 0.5 + x_D[0])
        loss -= y_N[t] * np.log(p) + (1 - y_N[t]) * np.log1p(-p)
        learner.advance(state, x_D, y_N[t], ONE)
    theta_MD = np.vstack((rng.uniform(-2, 2, (4000, D)), np.outer(np.linspace(0, 8, 60), np.eye(D)[0])))
    allowed_MD = theta_MD[(np.abs(theta_MD @ x_ND.T) <= bound).all(axis=1)]
    assert len(allowed_MD) > 100
    total_M = log_losses(allowed_MD @ x_ND.T, y_N).sum(axis=1)
    proven_M = total_M + 0.35 * (allowed_MD**2).sum(axis=1) + volumes(learner, state)[0]
    assert (loss <= proven_M).all()


def test_scores_solve_their_equation_at_any_size() -> None:
    q_K, m_K = (side.ravel() for side in np.meshgrid([0.0, 1e-8, 1.0, 1e3, 1e9], [-1e9, -3.0, 0.0, 1e-9, 5.0, 1e12]))
    u_K = _scores(q_K, m_K)
    assert np.allclose(u_K + q_K * np.tanh(u_K / 2), m_K, rtol=1e-9, atol=1e-12)


def test_on_a_small_table_it_beats_the_constant_and_the_newton_step() -> None:
    """Sixty one-hot features, 1,000 rows: what made the old learner worse than the constant."""
    rng = np.random.default_rng(5)
    level_N8 = rng.integers(0, 7, (1000, 8)) + 7 * np.arange(8)
    x_ND = np.zeros((1000, 56))
    np.put_along_axis(x_ND, level_N8, 1.0, axis=1)
    y_N = (rng.random(1000) < 1 / (1 + np.exp(-x_ND @ rng.normal(scale=0.5, size=56) + 0.8))).astype(float)
    totals = {}
    for name, learner in {"aioli": logistic(dimension=56), "newton": Newton(dimension=56, loss="logistic", bound=4.0)}.items():
        state, totals[name] = learner.init(1), 0.0
        for x_D, y in zip(x_ND, y_N, strict=True):
            p = float(learner.predict(state, x_D, ONE, DRAWS)[0])
            totals[name] -= y * np.log(p) + (1 - y) * np.log1p(-p)
            learner.advance(state, x_D, y, ONE)
    rate = y_N.mean()
    constant = -1000 * (rate * np.log(rate) + (1 - rate) * np.log1p(-rate))
    best = best_logistic_losses(x_ND, y_N, np.ones(1000)).sum()
    assert best < totals["aioli"] < constant < totals["newton"]


@pytest.mark.parametrize("changes", [{"dimension": 0}, {"bound": 0.0}, {"penalty": -1.0}])
def test_what_is_no_learner_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Aioli(**{"dimension": 2, **changes})
