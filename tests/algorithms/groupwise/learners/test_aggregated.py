"""Several penalties, aggregated: the laws, and never worse than the best of them by more than ln(M) / eta."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import saddlebag as sb
from saddlebag.algorithms.groupwise import Groupwise, LogLoss, Ridge, SquaredLoss
from saddlebag.algorithms.groupwise.learners.aggregated import Aggregated
from saddlebag.algorithms.groupwise.learners.aioli import Aioli
from saddlebag.algorithms.groupwise.packing import pack_state, unpack_state
from saddlebag.compression import Draws
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.algorithms.groupwise.base import Array

KINDS = ("ridge", "logistic")
D = 3


def rounds(seed: int, kind: str, number: int = 120) -> tuple[Array, Array]:
    """Labels anywhere in [0, 1], and many at its ends, where the bound is tight."""
    rng = np.random.default_rng(seed)
    x_ND = rng.normal(size=(number, D)) * rng.choice([0.1, 1.0, 3.0])
    y_N = np.clip(x_ND @ rng.normal(size=D) + 0.5, 0.0, 1.0)
    return x_ND, np.round(y_N) if kind == "logistic" or seed % 2 else y_N


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_a_learner(kind: str) -> None:
    x_ND, y_N = rounds(0, kind, 40)
    for penalties in ((1.0, 10.0), (0.1, 2.0, 30.0), (1.0,)):
        sb.check_learner(sb.make_learner("aggregated", D, of=kind, penalties=penalties), x_ND, y_N)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("in_part", [False, True])
def test_it_loses_at_most_ln_of_the_models_more_than_the_best(kind: str, seed: int, in_part: bool) -> None:
    (x_ND, y_N), penalties = rounds(seed, kind), (0.3, 3.0, 30.0)
    weight_N = np.random.default_rng(seed).uniform(0.05, 1.0, len(y_N)) if in_part else np.ones(len(y_N))
    learner = Aggregated(dimension=D, of=kind, penalties=penalties)  # type: ignore[arg-type]
    loss: Any = SquaredLoss() if kind == "ridge" else LogLoss(floor=1e-6)

    def total(one: Any) -> float:
        state, alone, lost = one.init(1), np.zeros(1, np.int64), 0.0
        for x_D, y, weight in zip(x_ND, y_N, weight_N, strict=True):
            lost += weight * float(loss.value(np.clip(one.predict(state, x_D, alone, Draws(0, 0)), 0.0, 1.0), y)[0])
            one.advance_weighted(state, x_D, y, alone, np.array([weight]))
        return lost

    model = Ridge if kind == "ridge" else Aioli
    best = min(total(model(dimension=D, penalty=penalty)) for penalty in penalties)
    assert total(learner) <= best + math.log(3) / (2.0 if kind == "ridge" else 1.0) + 1e-9


@pytest.mark.parametrize("kind", KINDS)
def test_replays_blocks_and_growth_are_the_rounds(kind: str) -> None:
    (x_ND, y_N), one = rounds(2, kind), np.zeros(1, np.int64)
    learner = Aggregated(dimension=D, of=kind)  # type: ignore[arg-type]
    state, z_N = learner.init(2), np.empty(len(y_N))
    for t in range(len(y_N)):
        z_N[t] = learner.predict(state, x_ND[t], one, Draws(0, t))[0]
        learner.advance(state, x_ND[t], y_N[t], one)
    np.testing.assert_allclose(learner.replay(x_ND, y_N), z_N, rtol=1e-9, atol=1e-12)
    block_NG = learner.predict_block(state, x_ND[:5], np.ones((5, 2), np.bool_))
    each_N = [learner.predict(state, x_D, np.arange(2), Draws(0, 0)) for x_D in x_ND[:5]]
    np.testing.assert_allclose(block_NG, each_N, rtol=1e-9, atol=1e-12)
    wide, new = learner.grow(state, 1), learner.init(3)
    assert wide.loss_GM.shape == (3, 2)
    assert np.array_equal(wide.inverse_GDD[2], new.inverse_GDD[2])  # each model has its own penalty
    assert np.array_equal(wide.inverse_GDD[1], new.inverse_GDD[1])


def test_its_bound_holds_and_its_states_are_saved() -> None:
    x_ND, y_N = rounds(4, "ridge")
    learner = Aggregated(dimension=D)
    z_N = learner.replay(x_ND, y_N)
    theta_D = np.linalg.lstsq(x_ND, y_N, rcond=None)[0]
    regret = ((z_N - y_N) ** 2).sum() - ((x_ND @ theta_D - y_N) ** 2).sum()
    assert regret <= learner.regret_bound(x_ND, y_N, z_N)
    assert math.isnan(Aggregated(dimension=D, of="logistic").regret_bound(x_ND, y_N, z_N))
    algorithm = Groupwise(learner=learner, mixer=sb.make_mixer("ada_normal_hedge"), loss=SquaredLoss(), interval=(0.0, 1.0))
    state = algorithm.init(2)
    for x_D, y in zip(x_ND[:20], y_N[:20], strict=True):
        prediction = algorithm.predict(state, x_D, np.ones(2), Draws(0, 0))
        state = algorithm.learn(state, x_D, float(y), prediction, owned=True)
    again = unpack_state(algorithm.init(2), pack_state(state))
    assert algorithm.predict(again, x_ND[0], np.ones(2), Draws(0, 0)).value == pytest.approx(
        algorithm.predict(state, x_ND[0], np.ones(2), Draws(0, 0)).value, abs=0.0
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"penalties": ()}, "penalties must be different numbers, at least one"),
        ({"penalties": (1.0, 1.0)}, "penalties must be different numbers"),
        ({"penalties": (0.0,)}, "penalties must be a positive number"),
        ({"interval": (1.0, 0.0)}, "interval"),
        ({"interval": (1.0,)}, r"interval must be \[low, high\]"),
        ({"of": "trees"}, "of"),
        ({"of": "logistic", "interval": (0.0, 2.0)}, r"labels in \[0, 1\]"),
        ({"dimension": 0}, "dimension must be at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Aggregated(**{"dimension": D, **wrong})
