from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import SGDClassifier, SGDRegressor

from saddlebag.algorithms.groupwise import (
    AdaNormalHedge,
    Groupwise,
    ObjectLearner,
    SquaredLoss,
    check_learner,
    estimator_learner,
    one_by_one_learner,
)
from saddlebag.compression import Draws
from saddlebag.errors import ConfigError


class RunningMean:
    """A model with river's interface."""

    def __init__(self) -> None:
        self.total, self.count = 0.0, 0

    def predict_one(self, x: dict[Any, float]) -> float:
        assert set(x) == {"a", "b"}
        return self.total / self.count if self.count else 0.0

    def learn_one(self, x: dict[Any, float], y: float) -> None:
        self.total, self.count = self.total + y, self.count + 1


class Coin(RunningMean):
    """The same as a classifier."""

    def predict_proba_one(self, x: dict[Any, float]) -> dict[bool, float]:
        return {True: self.predict_one(x)} if self.count else {}

    def learn_one(self, x: dict[Any, float], y: Any) -> None:
        assert isinstance(y, bool)
        super().learn_one(x, y)


RNG = np.random.default_rng(0)
X, Y = RNG.random((40, 2)), RNG.random(40)
LEARNERS = {
    "river": one_by_one_learner(RunningMean, names=("a", "b")),
    "sklearn": estimator_learner(lambda: SGDRegressor(random_state=0)),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_laws(name: str) -> None:
    check_learner(LEARNERS[name], X, Y)


def test_update_leaves_its_argument_alone() -> None:
    learner, one = LEARNERS["river"], np.zeros(1, np.int64)
    before = learner.init(2)
    after = learner.update(before, X[0], 3.0, one)
    assert (before.models[0].count, after.models[0].count, after.models[1]) == (0, 1, before.models[1])


@pytest.mark.parametrize("name", LEARNERS)
def test_runs_in_the_algorithm_within_its_bound(name: str) -> None:
    algorithm = Groupwise(learner=LEARNERS[name], mixer=AdaNormalHedge(), loss=SquaredLoss(), interval=(0.0, 1.0), always_on=1)
    state = algorithm.init(2)
    for t in range(40):
        prediction = algorithm.predict(state, X[t], np.array([X[t, 0] < 0.5, 1.0]), Draws(0, t))
        state = algorithm.learn(state, X[t], Y[t], prediction, owned=True)
    assert (state.ledger.regret_E <= algorithm.mixer.bound(state.mixer)).all()
    assert algorithm.alarms(state) == ()


def test_classifiers_give_probabilities() -> None:
    one = np.zeros(1, np.int64)
    coin = one_by_one_learner(Coin, names=("a", "b"))
    logistic = estimator_learner(lambda: SGDClassifier(loss="log_loss", random_state=0), classes=(0, 1), default=0.5)
    for learner in (coin, logistic):
        state = learner.init(1)
        assert learner.predict(state, X[0], one, Draws(0, 0))[0] == 0.5
        learner.advance(state, X[0], 1, one)
        learner.advance(state, X[1], 1, one)
        assert learner.predict(state, X[0], one, Draws(0, 0))[0] > 0.5


def test_a_module_trained_by_a_step_function() -> None:
    """Torch stays outside of the core: the learner gets three functions."""
    torch = pytest.importorskip("torch")

    def make() -> Any:
        generator = torch.Generator().manual_seed(0)
        module = torch.nn.Linear(2, 1)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
        return module

    def answer(module: Any, x: np.ndarray) -> float:
        with torch.no_grad():
            return float(module(torch.as_tensor(x, dtype=torch.float32)))

    def step(module: Any, x: np.ndarray, y: float) -> None:
        loss = (module(torch.as_tensor(x, dtype=torch.float32)) - y).square().sum()
        gradients = torch.autograd.grad(loss, list(module.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(module.parameters(), gradients, strict=True):
                parameter -= 0.2 * gradient

    learner = ObjectLearner(make=make, answer=answer, step=step)
    check_learner(learner, X[:12], Y[:12])
    state, one = learner.init(1), np.zeros(1, np.int64)
    for t in range(400):
        learner.advance(state, X[t % 40], X[t % 40] @ [0.5, 0.2], one)
    assert learner.predict(state, X[0], one, Draws(0, 0))[0] == pytest.approx(X[0] @ [0.5, 0.2], abs=0.02)


def test_blocks_are_refused() -> None:
    learner = LEARNERS["river"]
    with pytest.raises(ConfigError, match="no sums over a block"):
        learner.sums(learner.init(1), X, Y, np.ones((40, 1), bool))
    with pytest.raises(ConfigError, match="no sums over a block"):
        learner.merge(learner.init(1), {})
