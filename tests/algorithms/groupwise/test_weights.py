"""Memberships in part: identities and bounds of every learner and mixer, and the same numbers on every path."""

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
    Doubling,
    Gradient,
    Groupwise,
    LearnerDefaults,
    LogLoss,
    Newton,
    PerturbedLeader,
    Ridge,
    Solo,
    Specialists,
    SquaredLoss,
    WeightedLearner,
    add_blocks,
    best_linear_loss,
    block_sums,
    estimator_learner,
    logistic,
    merge_block,
    mix_recorded,
    predict_block,
    replay_groups,
    run_rounds,
    states_equal,
    vovk_azoury_warmuth,
    weights,
)
from saddlebag.algorithms.groupwise.base import Array, copied
from saddlebag.compression import Draws
from saddlebag.errors import ConfigError

ONE, DRAWS, D, G = np.zeros(1, np.int64), Draws(0, 0), 3, 4
SEEDS = st.integers(0, 2**32 - 1)
FEW = settings(max_examples=25, deadline=None, derandomize=True)
MIXERS: list[AnyMixer] = [AdaNormalHedge(), AdaptMlProd(), Doubling(), Solo(), Specialists(rate=0.5)]
SCALAR: list[AnyLearner] = [
    Ridge(dimension=D),
    vovk_azoury_warmuth(dimension=D),
    Gradient(dimension=D),
    Newton(dimension=D),
    logistic(dimension=D),
]


def stream(seed: int, N: int = 60) -> tuple[Array, Array, Array]:
    """Rows, labels in [0, 1] of which some are hostile, and weights from whole over 1e-3 to 1e-9."""
    rng = np.random.default_rng(seed)
    x_ND = rng.uniform(-1, 1, (N, D)) * 10.0 ** rng.integers(-1, 2)
    y_N = np.where(rng.random(N) < 0.5, np.clip(0.5 + x_ND[:, 0], 0, 1), rng.integers(0, 2, N)).astype(float)
    weight_N = np.where(rng.random(N) < 0.3, 1.0, rng.choice([0.7, 0.1, 1e-3, 1e-9], N))
    return x_ND, y_N, weight_N


def online(learner: Any, x_ND: Array, y_N: Array, weight_N: Array) -> tuple[Array, Any]:
    state, z_N = learner.init(1), np.empty(len(y_N))
    for t in range(len(y_N)):
        weight_1 = weight_N[t : t + 1]
        z_N[t] = weights.predict(learner, state, x_ND[t], ONE, weight_1, DRAWS)[0]
        weights.advance(learner, state, x_ND[t], y_N[t], ONE, weight_1)
    return z_N, state


@FEW
@given(SEEDS)
def test_identity_of_weighted_ridge(seed: int) -> None:
    """Sum w e^2 / (1 + w x' A_{t-1}^-1 x) is the least sum w (y - theta' x)^2 + penalty |theta|^2."""
    x_ND, y_N, weight_N = stream(seed)
    z_N, state = online(Ridge(dimension=D, penalty=0.5), x_ND, y_N, weight_N)
    A_DD, total = 0.5 * np.eye(D), 0.0
    for x_D, error, weight in zip(x_ND, y_N - z_N, weight_N, strict=True):
        total += weight * error**2 / (1.0 + weight * x_D @ np.linalg.solve(A_DD, x_D))
        A_DD = A_DD + weight * np.outer(x_D, x_D)
    theta_D = np.linalg.solve(A_DD, x_ND.T @ (weight_N * y_N))
    least = (weight_N * (y_N - x_ND @ theta_D) ** 2).sum() + 0.5 * theta_D @ theta_D
    assert total == pytest.approx(least, rel=1e-9)
    assert np.allclose(state.theta_GD[0], theta_D, rtol=1e-8, atol=1e-11)
    assert np.allclose(Ridge(dimension=D, penalty=0.5).replay_weighted(x_ND, y_N, weight_N), z_N, rtol=1e-8, atol=1e-10)


@FEW
@given(SEEDS)
def test_weighted_vaw_predicts_as_defined(seed: int) -> None:
    """b' (A + w x x')^-1 x, the weight of the coming round being known."""
    x_ND, y_N, weight_N = stream(seed)
    A_DD, b_D, expected = np.eye(D), np.zeros(D), []
    for x_D, y, weight in zip(x_ND, y_N, weight_N, strict=True):
        A_DD = A_DD + weight * np.outer(x_D, x_D)
        expected.append(b_D @ np.linalg.solve(A_DD, x_D))
        b_D = b_D + weight * y * x_D
    learner = vovk_azoury_warmuth(dimension=D)
    assert np.allclose(online(learner, x_ND, y_N, weight_N)[0], expected, rtol=1e-8, atol=1e-10)
    assert np.allclose(learner.replay_weighted(x_ND, y_N, weight_N), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("forward", [False, True], ids=["ridge", "vaw"])
@FEW
@given(SEEDS)
def test_regret_of_weighted_ridge_is_below_its_bound(forward: bool, seed: int) -> None:
    x_ND, y_N, weight_N = stream(seed)
    learner, root_N = Ridge(dimension=D, forward=forward), np.sqrt(weight_N)
    z_N, _ = online(learner, x_ND, y_N, weight_N)
    row_ND, label_N = x_ND * root_N[:, None], y_N * root_N
    regret = (weight_N * (y_N - z_N) ** 2).sum() - best_linear_loss(row_ND, label_N)
    assert regret <= learner.regret_bound(row_ND, label_N, z_N * root_N) * (1 + 1e-9) + 1e-9


def comparators(rng: np.random.Generator, x_ND: Array, y_N: Array, weight_N: Array) -> Array:
    """Models among which the best is hard to beat: many directions and lengths, and weighted least squares."""
    root_N = np.sqrt(weight_N)
    least_D = np.linalg.lstsq(x_ND * root_N[:, None], y_N * root_N, rcond=None)[0]
    theta_MD = rng.standard_normal((500, D)) * 10.0 ** rng.uniform(-2, 1, (500, 1))
    return np.vstack((theta_MD, least_D, 0.5 * least_D, np.zeros(D)))


def values(loss: str, score: Array, y: Array) -> Array:
    if loss == "logistic":
        return np.logaddexp(0.0, score) - y * score
    return np.abs(score - y) ** (2 if loss == "squared" else 1)


@pytest.mark.parametrize("loss", ["squared", "absolute", "logistic"])
@FEW
@given(SEEDS)
def test_regret_of_weighted_gradient_descent_is_below_its_bound(loss: Any, seed: int) -> None:
    x_ND, y_N, weight_N = stream(seed)
    learner, scores = Gradient(dimension=D, loss=loss, radius=1.5), []
    state = learner.init(1)
    for x_D, y, weight in zip(x_ND, y_N, weight_N, strict=True):
        scores.append(float(state.theta_GD[0] @ x_D))
        weights.advance(learner, state, x_D, y, ONE, np.array([weight]))
    theta_MD = comparators(np.random.default_rng(seed), x_ND, y_N, weight_N)
    theta_MD *= np.minimum(1.0, 1.5 / np.maximum(np.linalg.norm(theta_MD, axis=1, keepdims=True), 1e-300))
    best = (weight_N * values(loss, theta_MD @ x_ND.T, y_N)).sum(axis=1).min()
    ours = (weight_N * values(loss, np.array(scores), y_N)).sum()
    assert ours - best <= 3.0 * math.sqrt(2.0 * state.square_G[0]) + 1e-9


@pytest.mark.parametrize("loss", ["squared", "logistic"])
@FEW
@given(SEEDS)
def test_regret_of_weighted_newton_steps_is_below_their_bound(loss: Any, seed: int) -> None:
    x_ND, y_N, weight_N = stream(seed)
    learner, scores = Newton(dimension=D, loss=loss, bound=1.0, penalty=0.7), []
    state = learner.init(1)
    for x_D, y, weight in zip(x_ND, y_N, weight_N, strict=True):
        scores.append(float(np.clip(state.theta_GD[0] @ x_D, -1, 1)))
        weights.advance(learner, state, x_D, y, ONE, np.array([weight]))
    theta_MD = comparators(np.random.default_rng(seed), x_ND, y_N, weight_N)
    theta_MD /= np.maximum(1.0, np.abs(theta_MD @ x_ND.T).max(axis=1, keepdims=True))  # scores within the bound
    loss_M = (weight_N * values(loss, theta_MD @ x_ND.T, y_N)).sum(axis=1)
    volume = -np.linalg.slogdet(0.7 * state.inverse_GDD[0])[1]
    bound_M = 0.35 * (theta_MD**2).sum(axis=1) + volume / (2.0 * learner._sigma)
    assert ((weight_N * values(loss, np.array(scores), y_N)).sum() - loss_M <= bound_M + 1e-9).all()


@dataclasses.dataclass(frozen=True)
class Choices:
    """One of `dimension` choices."""

    dimension: int = 3
    diameter: float = 2.0
    largest: float = 1.0

    def best(self, cost_KN: Array) -> Array:
        return np.eye(self.dimension)[cost_KN.argmin(axis=1)]


@pytest.mark.parametrize("seed", range(3))
def test_mean_regret_of_weighted_perturbed_leaders_is_below_their_bound(seed: int) -> None:
    """Over 400 groups with the same rounds, whose draws are independent; the mean's error is about a twentieth of the range."""
    rng, repeats, T = np.random.default_rng(seed), 400, 60
    learner, group_K = PerturbedLeader(oracle=Choices()), np.arange(400)
    state, cost_K, total_N = learner.init(repeats), np.zeros(repeats), np.zeros(3)
    for t in range(T):
        weight = float(rng.choice([1.0, 0.5, 1e-3]))
        z_KN = weights.predict(learner, state, None, group_K, np.full(repeats, weight), Draws(seed, t))
        y_N = np.zeros(3)
        y_N[int(np.argmax(z_KN.mean(axis=0)))] = 1.0  # the favourite costs 1
        cost_K += weight * (z_KN @ y_N)
        total_N += weight * y_N
        weights.advance(learner, state, None, y_N, group_K, np.full(repeats, weight))
    assert np.allclose(state.cost_GN, total_N)
    assert cost_K.mean() - total_N.min() <= learner.expected_regret_bound(T)


def soft_rounds(seed: int, N: int = 40) -> tuple[Array, Array, Array]:
    """Groups 0 to 2 in part, group 3 always awake."""
    rng = np.random.default_rng(seed)
    x_ND, y_N, _ = stream(seed, N)
    awake_NG = rng.choice([0.0, 1.0, 0.3, 1e-3], (N, G))
    awake_NG[:, -1] = 1.0
    return np.clip(x_ND, -1, 1), y_N, awake_NG


def algorithm_of(learner: AnyLearner, mixer: AnyMixer, **options: Any) -> Groupwise:
    loss = LogLoss(floor=0.1) if learner == logistic(dimension=D) else SquaredLoss()
    if hasattr(mixer, "loss_range"):
        mixer = dataclasses.replace(mixer, loss_range=max(loss.range((0.0, 1.0)), 1.0))
    return Groupwise(learner=learner, mixer=mixer, loss=loss, interval=(0.0, 1.0), default=0.5, always_on=G - 1, **options)


@pytest.mark.parametrize("mixer", MIXERS, ids=lambda mixer: type(mixer).__name__)
@pytest.mark.parametrize("learner", SCALAR, ids=lambda learner: f"{type(learner).__name__}-{getattr(learner, 'loss', '')}")
@pytest.mark.parametrize("shadows", [False, True], ids=["plain", "shadows"])
@settings(max_examples=5, deadline=None, derandomize=True)
@given(seed=SEEDS)
def test_every_learner_under_every_mixer_keeps_the_bound(
    learner: AnyLearner, mixer: AnyMixer, shadows: bool, seed: int
) -> None:
    x_ND, y_N, awake_NG = soft_rounds(seed)
    algorithm = algorithm_of(learner, mixer, shadows=shadows)
    state, value_N = run_rounds(algorithm, algorithm.init(G), x_ND, y_N, awake_NG)
    assert algorithm.alarms(state) == ()
    regret_E, bound_E = state.ledger.regret_E, algorithm.mixer.bound(state.mixer)
    assert (regret_E <= bound_E + 1e-9).all()
    ours_N = algorithm.loss.value(value_N, y_N)
    assert np.allclose(state.ledger.charged_E[:G], awake_NG.T @ ours_N, rtol=1e-9, atol=1e-12)


def close(first: Any, second: Any) -> bool:
    pairs = ((getattr(first, field.name), getattr(second, field.name)) for field in dataclasses.fields(first))
    return all(np.allclose(a, b, rtol=1e-9, atol=1e-10) for a, b in pairs)


@pytest.mark.parametrize("learner", SCALAR, ids=lambda learner: f"{type(learner).__name__}-{getattr(learner, 'loss', '')}")
@pytest.mark.parametrize("seed", range(3))
def test_recorded_rounds_are_the_rounds(learner: AnyLearner, seed: int) -> None:
    x_ND, y_N, awake_NG = soft_rounds(seed)
    algorithm = algorithm_of(learner, AdaNormalHedge())
    state, value_N = run_rounds(algorithm, algorithm.init(G), x_ND, y_N, awake_NG, compiled=False)
    z_NG = np.clip(replay_groups(learner, x_ND, y_N, awake_NG), 0, 1)
    mixed = mix_recorded(algorithm.mixer, np.full(G, 1 / G), z_NG[:, None], y_N[:, None], awake_NG[:, None], algorithm.loss)
    assert np.allclose(mixed.value_NS[:, 0], value_N, rtol=1e-9, atol=1e-10)
    assert np.allclose(algorithm.mixer.bound(mixed.state)[0], algorithm.mixer.bound(state.mixer), rtol=1e-8)


@pytest.mark.parametrize("charge", ["played", "expected"])
def test_compiled_rounds_are_the_rounds(charge: Any) -> None:
    pytest.importorskip("numba")
    x_ND, y_N, awake_NG = soft_rounds(5, N=200)
    algorithm = algorithm_of(Ridge(dimension=D), AdaNormalHedge(), charge=charge)
    slow, fast = (run_rounds(algorithm, algorithm.init(G), x_ND, y_N, awake_NG, compiled=each) for each in (False, True))
    assert np.allclose(slow[1], fast[1], rtol=1e-9, atol=1e-10)
    assert close(slow[0].ledger, fast[0].ledger)
    settled = algorithm.learner._settled(slow[0].learner)  # type: ignore[attr-defined]
    for name in ("gram_GDD", "inverse_GDD", "moment_GD", "theta_GD", "count_G"):
        assert np.allclose(getattr(settled, name), getattr(fast[0].learner, name), rtol=1e-8, atol=1e-10), name


@pytest.mark.parametrize("learner", SCALAR, ids=lambda learner: f"{type(learner).__name__}-{getattr(learner, 'loss', '')}")
def test_blocks_on_two_machines_are_the_block_of_one(learner: AnyLearner) -> None:
    x_ND, y_N, awake_NG = soft_rounds(7)
    algorithm = algorithm_of(learner, AdaNormalHedge())
    state = algorithm.init(G)
    for at in range(0, 40, 8):
        part = slice(at, at + 8)
        predictions = [algorithm.predict(state, x_ND[t], awake_NG[t], DRAWS) for t in range(at, at + 8)]
        block = predict_block(algorithm, state, x_ND[part], awake_NG[part], lambda row: DRAWS)
        assert np.allclose(block.value_N, [each.value for each in predictions], rtol=1e-10, atol=1e-12)
        halves = [
            block_sums(algorithm, state, x_ND[half], y_N[half], awake_NG[half], lambda row: DRAWS)
            for half in (slice(at, at + 3), slice(at + 3, at + 8))
        ]
        merged = merge_block(algorithm, state, add_blocks(*halves))
        state = algorithm.learn_block(state, x_ND[part], y_N[part], predictions)
        assert close(merged.ledger, state.ledger)
        assert close(merged.learner, state.learner)


@pytest.mark.parametrize("learner", [*SCALAR, PerturbedLeader(oracle=Choices())], ids=str)
def test_weights_of_one_are_whole_rounds(learner: Any) -> None:
    """The weighted methods at 1, against the plain ones; and sums are linear in the weights."""
    assert isinstance(learner, WeightedLearner)
    rng, group_K = np.random.default_rng(2), np.arange(2)
    plain, in_part = learner.init(2), learner.init(2)
    flat = isinstance(learner, PerturbedLeader)
    x_ND, y_N = rng.uniform(-1, 1, (20, D)), rng.random((20, 3)) if flat else rng.random(20)
    for x_D, y in zip(x_ND, y_N, strict=True):
        learner.advance(plain, x_D, y, group_K)
        learner.advance_weighted(in_part, x_D, y, group_K, np.ones(2))
    whole_K = learner.predict(plain, x_ND[0], group_K, DRAWS)
    assert np.allclose(learner.predict(in_part, x_ND[0], group_K, DRAWS), whole_K, rtol=1e-9, atol=1e-12)
    half = learner.sums_weighted(plain, x_ND, y_N, np.full((20, 2), 0.5))
    for name, value in learner.sums(plain, x_ND, y_N, np.ones((20, 2), bool)).items():
        assert np.allclose(half[name], 0.5 * value, rtol=1e-12), name


@pytest.mark.parametrize("learner", [*SCALAR, PerturbedLeader(oracle=Choices())], ids=str)
def test_a_round_of_weight_nearly_none_teaches_nearly_nothing(learner: Any) -> None:
    """What failed: a round with membership 0.001 moved the group's model as a whole one does."""
    y: Any = np.ones(3) if isinstance(learner, PerturbedLeader) else 1.0
    state = learner.init(1)
    weights.advance(learner, state, np.ones(D), y, ONE, np.array([1e-12]))
    fields = [field.name for field in dataclasses.fields(state) if field.name not in ("count_G", "since_G", "pending")]
    if isinstance(learner, Gradient):  # its step knows no scale: the first gradient, however small, moves it by its diameter
        fields = ["square_G"]
    assert all(np.allclose(getattr(state, name), getattr(learner.init(1), name), atol=1e-11) for name in fields)


def test_updates_leave_the_state_alone() -> None:
    x_ND, y_N, _ = soft_rounds(3)
    algorithm = algorithm_of(Ridge(dimension=D), AdaNormalHedge())
    state = algorithm.init(G)
    prediction = algorithm.predict(state, x_ND[0], np.full(G, 0.5), DRAWS)
    before = copied(state.learner)
    after = algorithm.learn(state, x_ND[0], y_N[0], prediction)
    assert states_equal(state.learner, before)
    owned = algorithm.learn(state, x_ND[0], y_N[0], prediction, owned=True)
    assert states_equal(after.learner, owned.learner)


def test_objects_refuse_memberships_in_part_by_name() -> None:
    learner = estimator_learner(lambda: None)
    algorithm = Groupwise(learner=learner, mixer=AdaNormalHedge(), loss=SquaredLoss())
    with pytest.raises(ConfigError, match=r"ObjectLearner takes memberships of 0 and 1 only"):
        algorithm.predict(algorithm.init(2), np.ones(D), np.array([0.5, 1.0]), DRAWS)
    with pytest.raises(ConfigError, match=r"ObjectLearner takes memberships of 0 and 1 only"):
        replay_groups(learner, np.ones((2, D)), np.ones(2), np.full((2, 1), 0.5))
    with pytest.raises(ConfigError, match=r"ObjectLearner takes memberships of 0 and 1 only"):
        predict_block(algorithm, algorithm.init(2), np.ones((1, D)), np.array([[0.5, 1.0]]), lambda row: DRAWS)


@pytest.mark.parametrize("weight", [-0.5, 1.5, math.nan, math.inf])
def test_memberships_outside_the_unit_interval_are_refused(weight: float) -> None:
    algorithm = algorithm_of(Ridge(dimension=D), AdaNormalHedge())
    with pytest.raises(ConfigError, match=r"memberships must lie in \[0, 1\]"):
        algorithm.predict(algorithm.init(G), np.ones(D), np.array([weight, 0.0, 0.0, 1.0]), DRAWS)


def test_a_learner_says_itself_what_a_weight_does_to_its_prediction() -> None:
    """What all learners inherit from says nothing of it, or a learner would take memberships in part unasked."""
    assert "predict_weighted" not in dir(LearnerDefaults)
