"""Torch modules as learners of groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from saddlebag.algorithms.groupwise import AdaNormalHedge, Groupwise, SquaredLoss, check_learner
from saddlebag.compression import Draws
from saddlebag.errors import ConfigError
from saddlebag.launch.groupwise.modules import module_learner

ONE = np.zeros(1, np.int64)
RNG = np.random.default_rng(0)
X = RNG.random((300, 3))
Y = X @ [0.2, 0.5, 0.1]


def network() -> Any:
    generator = torch.Generator().manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Dropout(0.0), torch.nn.Linear(8, 1))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator))
    return module


def test_laws() -> None:
    check_learner(module_learner(network), X[:12], Y[:12])


def test_learns() -> None:
    learner = module_learner(network, optimizer=lambda p: torch.optim.Adam(p, lr=0.02), steps=2)
    state = learner.init(1)
    errors = []
    for x, y in zip(X, Y, strict=True):
        errors.append(abs(learner.predict(state, x, ONE, Draws(0, 0))[0] - y))
        learner.advance(state, x, y, ONE)
    assert np.mean(errors[-50:]) < 0.2 * np.mean(errors[:10])


def test_groups_of_networks_stay_within_the_mixers_bound() -> None:
    algorithm = Groupwise(
        learner=module_learner(network), mixer=AdaNormalHedge(), loss=SquaredLoss(), interval=(0.0, 1.0), always_on=1
    )
    state = algorithm.init(2)
    for t in range(60):
        prediction = algorithm.predict(state, X[t], np.array([X[t, 0] < 0.5, 1.0]), Draws(0, t))
        state = algorithm.learn(state, X[t], Y[t], prediction, owned=True)
    assert algorithm.alarms(state) == ()
    assert (state.ledger.regret_E <= algorithm.mixer.bound(state.mixer)).all()


def test_steps_are_checked() -> None:
    with pytest.raises(ConfigError, match="steps must be at least 1, got 0"):
        module_learner(network, steps=0)
