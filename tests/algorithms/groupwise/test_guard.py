"""No state that is not finite is taken, on any path, by any learner or mixer; a refusal leaves every bit."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saddlebag.algorithms.groupwise import (
    AdaNormalHedge,
    AdaptMlProd,
    AnyLearner,
    AnyMixer,
    Careful,
    Doubling,
    ExpertAggregation,
    Gradient,
    Groupwise,
    GroupwiseState,
    LogLoss,
    Newton,
    ObjectLearner,
    Ridge,
    Solo,
    Specialists,
    SquaredLoss,
    block_sums,
    guard,
    logistic,
    merge_block,
    mix_recorded,
    pack_state,
    predict_block,
    replay_groups,
    run_rounds,
    vovk_azoury_warmuth,
)
from saddlebag.algorithms.groupwise.ledger import judge
from saddlebag.compression import Draws
from saddlebag.errors import ConfigError, DataError, NotFiniteError

D, G, DRAWS = 3, 3, Draws(0, 0)
LEARNERS: list[AnyLearner] = [
    Ridge(dimension=D),
    vovk_azoury_warmuth(dimension=D),
    Gradient(dimension=D),
    Newton(dimension=D),
    logistic(dimension=D),
    Ridge(dimension=80),
]
MIXERS: list[AnyMixer] = [AdaNormalHedge(), AdaptMlProd(), Doubling(), Solo(), Specialists(rate=0.5)]
BAD = [math.nan, math.inf, -math.inf, 1.7976931348623157e308, 1e160]


def name_of(part: Any) -> str:
    return f"{type(part).__name__}-{getattr(part, 'loss', '')}{getattr(part, 'dimension', '')}"


def build(learner: AnyLearner, mixer: AnyMixer | None = None, **options: Any) -> Groupwise:
    loss = LogLoss() if getattr(learner, "loss", "") == "logistic" else SquaredLoss()
    return Groupwise(learner=learner, mixer=mixer or AdaNormalHedge(), loss=loss, always_on=G - 1, **options)


def dimension(algorithm: Groupwise) -> int:
    return int(algorithm.learner.dimension)  # type: ignore[attr-defined]


def bits(state: GroupwiseState) -> dict[str, bytes]:
    return {name: value.tobytes() for name, value in pack_state(state).items()}


def finite(state: GroupwiseState) -> bool:
    return all(np.isfinite(value).all() for value in pack_state(state).values())


def trained(algorithm: Groupwise, rounds: int = 63) -> GroupwiseState:
    """With one place left in the buffer of ridge regression."""
    rng, width = np.random.default_rng(0), dimension(algorithm)
    state = algorithm.init(G)
    x_ND, y_N = rng.random((rounds, width)), rng.integers(0, 2, rounds).astype(float)
    awake_NG = (rng.random((rounds, G)) < 0.7).astype(float)
    awake_NG[:, -1] = 1.0
    return run_rounds(algorithm, state, x_ND, y_N, awake_NG, compiled=False)[0]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("weight", [1.0, 0.5], ids=["whole", "part"])
@pytest.mark.parametrize("learner", LEARNERS, ids=name_of)
def test_a_row_out_of_range_is_refused_whole_or_leaves_finite_numbers(learner: AnyLearner, weight: float, bad: float) -> None:
    """What failed: one row of 1.8e308 with its label left NaN in every model that it touched, without a word."""
    algorithm = build(learner, interval=(0.0, 1.0))
    state, width = trained(algorithm), dimension(algorithm)
    awake_G = np.array([weight, 0.0, 1.0])
    prediction = algorithm.predict(state, np.full(width, 0.1), awake_G, DRAWS)
    x_D = np.full(width, 0.1)
    x_D[1] = bad
    before = bits(state)
    for owned in (False, True):
        try:
            after = algorithm.learn(state, x_D, 1.0, prediction, owned=owned)
        except NotFiniteError:
            assert bits(state) == before
            after = state
        assert finite(after)
    good = algorithm.predict(after, np.full(width, 0.1), awake_G, DRAWS)
    assert math.isfinite(good.value)
    assert finite(algorithm.learn(after, np.full(width, 0.1), 1.0, good))


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("mixer", MIXERS, ids=name_of)
def test_a_label_out_of_range_is_refused_whole(mixer: AnyMixer, bad: float) -> None:
    algorithm = build(Ridge(dimension=D), mixer)
    state = trained(algorithm)
    before, prediction = bits(state), algorithm.predict(state, np.ones(D), np.ones(G), DRAWS)
    for owned in (False, True):
        with pytest.raises(NotFiniteError, match="nothing was learned"):
            algorithm.learn(state, np.ones(D), bad, prediction, owned=owned)
        assert bits(state) == before
    with pytest.raises(NotFiniteError):
        algorithm.learn_block(state, np.ones((1, D)), np.array([bad]), [prediction])
    assert bits(state) == before


@pytest.mark.parametrize("learner", LEARNERS[:5], ids=name_of)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(sizes=st.lists(st.sampled_from([0.0, 1e-320, 1e-160, 1e-8, 1.0, 1e3, 1e7, 1e10, 1e20, 1e80, 1e154, 1e300]), max_size=12))
def test_rows_of_any_sizes_in_any_order_leave_finite_states(learner: AnyLearner, sizes: list[float]) -> None:
    algorithm = build(learner, interval=(0.0, 1.0))
    state, rng = algorithm.init(G), np.random.default_rng(1)
    for size in sizes:
        x_D = size * rng.uniform(-1, 1, D)
        try:
            prediction = algorithm.predict(state, x_D, np.array([1.0, 0.3, 1.0]), DRAWS)
            state = algorithm.learn(state, x_D, float(rng.integers(0, 2)), prediction, owned=True)
        except NotFiniteError:
            pass
        assert finite(state)
    assert math.isfinite(algorithm.predict(state, np.ones(D), np.ones(G), DRAWS).value)


@pytest.mark.parametrize("learner", LEARNERS[:5], ids=name_of)
@pytest.mark.parametrize("bad", [math.nan, 1e200])
def test_recorded_compiled_and_frozen_paths_refuse_it_too(learner: AnyLearner, bad: float) -> None:
    algorithm = build(learner, interval=(0.0, 1.0))
    state = trained(algorithm)
    before, x_ND, y_N, awake_NG = bits(state), np.full((4, D), 0.5), np.ones(4), np.ones((4, G))
    x_ND[1, 1] = bad
    calls = [
        lambda: run_rounds(algorithm, state, x_ND, y_N, awake_NG),
        lambda: run_rounds(algorithm, state, x_ND, y_N, awake_NG, compiled=False),
        lambda: merge_block(algorithm, state, block_sums(algorithm, state, x_ND, y_N, awake_NG, lambda row: DRAWS)),
        lambda: replay_groups(learner, x_ND, y_N, awake_NG),
    ]
    with np.errstate(all="ignore"):
        for call in calls:
            try:
                result: Any = call()
            except NotFiniteError:
                continue
            parts = result if isinstance(result, tuple) else (result,)
            for part in parts:
                assert finite(part) if isinstance(part, GroupwiseState) else np.isfinite(part).all()
        if math.isnan(bad):
            with pytest.raises(NotFiniteError, match="is not finite"):
                predict_block(algorithm, state, x_ND, awake_NG, lambda row: DRAWS)
    assert bits(state) == before


def test_recorded_losses_that_are_no_numbers_are_refused() -> None:
    z_NSE, y_NS, awake_NSE = np.zeros((5, 1, 2)), np.zeros((5, 1)), np.ones((5, 1, 2))
    y_NS[3] = 1e200
    for mixer in MIXERS:
        with pytest.raises(NotFiniteError, match="a loss is not finite"):
            mix_recorded(mixer, np.ones(2) / 2, z_NSE, y_NS, awake_NSE, SquaredLoss())


def test_blocks_refuse_labels_outside_the_interval() -> None:
    algorithm = build(Ridge(dimension=D), interval=(0.0, 1.0))
    with pytest.raises(DataError, match=r"row 2: the label must be in \[0, 1\], got 5"):
        block_sums(algorithm, algorithm.init(G), np.ones((2, D)), np.array([1.0, 5.0]), np.ones((2, G)), lambda row: DRAWS)


def test_a_model_that_answers_nan_is_named() -> None:
    learner = ObjectLearner(make=lambda: None, answer=lambda model, x: math.nan, step=lambda model, x, y: None)
    algorithm = Groupwise(learner=learner, mixer=AdaNormalHedge(), loss=SquaredLoss())
    with pytest.raises(NotFiniteError, match="a prediction of ObjectLearner is not finite"):
        algorithm.predict(algorithm.init(1), np.ones(1), np.ones(1), DRAWS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Careless(Gradient):
    """A learner that does not say what it can take, and overflows on what the outcome cannot show."""

    is_usual = None  # type: ignore[assignment]

    def advance(self, state: Any, x: Any, y: Any, group_K: Any) -> None:
        state.count_G[group_K] += 1.0
        state.theta_GD[group_K] = np.where(x > 5.0, np.nan, 0.1)


def test_a_learner_that_gives_no_promise_is_looked_at_and_put_back() -> None:
    algorithm = build(Careless(dimension=D), interval=(0.0, 1.0))
    assert not isinstance(algorithm.learner, Careful) or algorithm.learner.is_usual is None
    state = algorithm.init(G)
    before, prediction = bits(state), algorithm.predict(state, np.ones(D), np.ones(G), DRAWS)
    with pytest.raises(NotFiniteError, match="Careless cannot learn a round of this size"):
        algorithm.learn(state, np.full(D, 9.0), 1.0, prediction, owned=True)
    assert bits(state) == before
    assert algorithm.learn(state, np.ones(D), 1.0, prediction, owned=True).learner.count_G[0] == 1


def test_a_federation_of_experts_refuses_losses_that_would_overflow() -> None:
    rule = ExpertAggregation(mixer=AdaptMlProd())
    state = rule.init(2)
    with np.errstate(all="ignore"), pytest.raises(NotFiniteError):
        rule.update(state, rule.weights(state, np.ones(2)), np.array([1e300, 0.0]), np.ones(2), 0.0)
    with pytest.raises(ConfigError, match="losses must be finite"):
        rule.update(state, rule.weights(state, np.ones(2)), np.array([math.nan, 0.0]), np.ones(2), 0.0)


FINE: dict[str, Any] = {
    "declared": 1.0,
    "largest": 0.5,
    "rounds": 10,
    "slack": np.array([-1.0]),
    "charged_E": np.array([3.0]),
    "own_E": np.array([2.0]),
    "bound_E": np.array([1.5]),
}


def test_nan_raises_an_alarm_wherever_it_stands() -> None:
    """What failed: comparisons with NaN are false, so that a table of NaN had no alarm."""
    assert judge(**FINE) == ()
    for name in ("largest", "slack", "charged_E", "own_E", "bound_E"):
        bad = {**FINE, name: math.nan if name == "largest" else np.array([math.nan])}
        assert judge(**bad), name
    for name, what in (("largest", "range"), ("slack", "invariant"), ("charged_E", "bound")):
        large = {**FINE, name: 9.0 if name == "largest" else np.array([9.0])}
        assert [alarm.what for alarm in judge(**large)] == [what]


def test_states_are_looked_at_by_name() -> None:
    state = Solo().init(np.ones(2))
    assert guard.checked(state) is state
    with pytest.raises(NotFiniteError, match=r"SoloState\.regret_E would not be finite"):
        guard.checked(dataclasses.replace(state, regret_E=np.array([0.0, math.nan])))
