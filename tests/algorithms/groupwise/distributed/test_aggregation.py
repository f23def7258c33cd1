from __future__ import annotations

import numpy as np
import pytest

from saddlebag.algorithms.groupwise import AdaNormalHedge, ExpertAggregation, mean_of_models
from saddlebag.errors import ConfigError

M, D, T = 8, 4, 600


def test_every_client_is_within_the_bound_of_its_own_model_whoever_drops_out() -> None:
    """Linear models and the squared loss: the mean of parameters is the mixture, so one model keeps the promise."""
    rng, rule = np.random.default_rng(0), ExpertAggregation(mixer=AdaNormalHedge())
    model_MD = rng.random((M, D)) / D
    state = rule.init(M)
    ours_M, own_M = np.zeros(M), np.zeros(M)
    for _ in range(T):
        awake_M = rng.random(M) < 0.5
        if not awake_M.any():
            continue
        weight_M = rule.weights(state, awake_M)
        assert weight_M.sum() == pytest.approx(1.0)
        assert not weight_M[~awake_M].any()
        x_D = rng.random(D)
        y = float(model_MD[2] @ x_D > 0.4 or rng.random() < 0.1)
        played = (mean_of_models(weight_M, model_MD) @ x_D - y) ** 2
        loss_M = (model_MD @ x_D - y) ** 2
        assert played <= weight_M @ loss_M + 1e-12
        state = rule.update(state, weight_M, np.where(awake_M, loss_M, np.nan), awake_M, played)
        ours_M += awake_M * played
        own_M += awake_M * loss_M
        assert (ours_M - own_M <= rule.mixer.bound(state) + 1e-9).all()


def test_weights_find_the_good_clients() -> None:
    rule = ExpertAggregation(mixer=AdaNormalHedge())
    state = rule.init(M)
    loss_M = np.linspace(0.0, 1.0, M)
    for _ in range(100):
        weight_M = rule.weights(state, np.ones(M))
        state = rule.update(state, weight_M, loss_M, np.ones(M), float(weight_M @ loss_M))
    assert rule.weights(state, np.ones(M))[0] > 0.9
    awake_M = np.ones(M)
    awake_M[0] = 0
    assert rule.weights(state, awake_M)[0] == 0.0


def test_nonsense_is_refused() -> None:
    rule = ExpertAggregation(mixer=AdaNormalHedge())
    with pytest.raises(ConfigError, match="finite"):
        rule.update(rule.init(2), np.array([1.0, 0.0]), np.array([np.nan, 0.0]), np.array([1, 0]), 0.0)
    with pytest.raises(ConfigError, match="no client is awake"):
        mean_of_models(np.zeros(2), np.ones((2, 3)))
