from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.algorithms.groupwise import (
    AdaNormalHedge,
    AdaptMlProd,
    AnyMixer,
    Groupwise,
    GroupwiseState,
    Prediction,
    Ridge,
    Solo,
    Specialists,
    SquaredLoss,
    best_linear_loss,
    mix_recorded,
    recorded,
    states_equal,
)
from saddlebag.compression import Draws
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.algorithms.groupwise.base import Array

D, G = 4, 4


def stream(N: int, seed: int = 0) -> tuple[Array, Array, Array]:
    """Features, labels in [0, 1] that follow another model in each group, memberships; group 3 is always awake."""
    rng = np.random.default_rng(seed)
    x_ND = rng.random((N, D))
    member_NG = np.column_stack((rng.random((N, G - 1)) < (0.5, 0.3, 0.1), np.ones(N, bool)))
    theta_GD = rng.dirichlet(np.ones(D), G)
    y_N = np.array([x @ theta_GD[m].mean(axis=0) for x, m in zip(x_ND, member_NG, strict=True)])
    return x_ND, np.clip(y_N + 0.05 * rng.standard_normal(N), 0, 1), member_NG.astype(float)


def build(mixer: AnyMixer | None = None, **options: Any) -> Groupwise:
    options = {"interval": (0.0, 1.0), "always_on": 3, **options}
    return Groupwise(learner=Ridge(dimension=D), mixer=mixer or AdaNormalHedge(), loss=SquaredLoss(), **options)


def run(algorithm: Groupwise, data: tuple[Array, Array, Array]) -> tuple[GroupwiseState, list[Prediction]]:
    state, predictions = algorithm.init(G), []
    for t, (x, y, awake_G) in enumerate(zip(*data, strict=True)):
        prediction = algorithm.predict(state, x, awake_G, Draws(0, t))
        state = algorithm.learn(state, x, y, prediction, owned=True)
        predictions.append(prediction)
    return state, predictions


def reference(data: tuple[Array, Array, Array], charge: str) -> tuple[list[float], list[float], list[float]]:
    """The algorithm as the paper writes it: one object for each group, plain floats, no log domain."""
    x_ND, y_N, member_NG = data
    A, b = [np.eye(D) for _ in range(G)], [np.zeros(D) for _ in range(G)]
    R, C, values = [0.0] * G, [0.0] * G, []

    def phi(r: float, c: float) -> float:
        return math.exp(max(r, 0.0) ** 2 / (3 * c))

    for x, y, member_G in zip(x_ND, y_N, member_NG, strict=True):
        awake = [g for g in range(G) if member_G[g]]
        z = {g: min(max(float(np.linalg.solve(A[g], b[g]) @ x), 0.0), 1.0) for g in awake}
        w = {g: phi(R[g] + 1, C[g] + 1) - phi(R[g] - 1, C[g] + 1) for g in awake}
        if not any(w.values()):
            w = dict.fromkeys(awake, 1.0)
        p = {g: w[g] / sum(w.values()) for g in awake}
        values.append(sum(p[g] * z[g] for g in awake))
        losses = {g: (z[g] - y) ** 2 for g in awake}
        charged = (values[-1] - y) ** 2 if charge == "played" else sum(p[g] * losses[g] for g in awake)
        for g in awake:
            R[g], C[g] = R[g] + charged - losses[g], C[g] + abs(charged - losses[g])
            A[g], b[g] = A[g] + np.outer(x, x), b[g] + y * x
    return values, R, C


@pytest.mark.parametrize("charge", ["played", "expected"])
def test_equals_the_algorithm_as_written(charge: str) -> None:
    data = stream(300)
    state, predictions = run(build(charge=charge), data)
    values, R, C = reference(data, charge)
    assert np.allclose([prediction.value for prediction in predictions], values, atol=1e-10)
    assert np.allclose(state.ledger.regret_E, R, atol=1e-9)
    assert np.allclose(state.ledger.absolute_E, C, atol=1e-9)
    assert np.allclose(state.mixer.regret_E, R, atol=1e-9)
    assert state.ledger.count_E.tolist() == data[2].sum(axis=0).tolist()


@pytest.mark.parametrize("charge", ["played", "expected"])
@pytest.mark.parametrize("mixer", [AdaNormalHedge(), Solo(), AdaptMlProd()], ids=str)
def test_recorded_equals_rounds(mixer: AnyMixer, charge: Any) -> None:
    x_ND, y_N, member_NG = data = stream(300, seed=1)
    state, predictions = run(build(mixer, charge=charge), data)
    z_NSE = np.zeros((300, 1, G))
    for g in range(G):
        awake = member_NG[:, g] > 0
        z_NSE[awake, 0, g] = np.clip(Ridge(dimension=D).replay(x_ND[awake], y_N[awake]), 0, 1)
    mixed = mix_recorded(mixer, np.full(G, 0.25), z_NSE, y_N[:, None], member_NG[:, None], SquaredLoss(), charge=charge)
    assert np.allclose(mixed.value_NS[:, 0], [prediction.value for prediction in predictions], atol=1e-9)
    assert mixed.played_NS.sum() == pytest.approx(state.ledger.played, abs=1e-8)
    assert mixed.expected_NS.sum() == pytest.approx(state.ledger.expected, abs=1e-8)
    assert np.allclose(mixed.absolute_SE[0], state.ledger.absolute_E, atol=1e-8)


@pytest.mark.parametrize("charge", ["played", "expected"])
def test_recorded_runs_are_the_same_compiled(monkeypatch: pytest.MonkeyPatch, charge: Any) -> None:
    pytest.importorskip("numba")
    rng = np.random.default_rng(3)
    z_NSE, y_NS = rng.random((500, 2, G)), rng.random((500, 2))
    awake_NSE = (rng.random((500, 2, G)) < 0.5) * rng.choice([0.5, 1.0], (500, 2, G))
    awake_NSE[..., 3] = 1.0
    arguments: Any = (AdaNormalHedge(loss_range=2.0), np.array([0.1, 0.4, 0.3, 0.2]), z_NSE, y_NS, awake_NSE, SquaredLoss())
    plain = mix_recorded(*arguments, charge=charge)
    monkeypatch.setattr(recorded, "_LONG", 1)
    compiled = mix_recorded(*arguments, charge=charge)
    for name in ("played_NS", "expected_NS", "value_NS", "absolute_SE", "largest_S", "fell_back_S"):
        assert np.allclose(getattr(plain, name), getattr(compiled, name), atol=1e-10), name
    assert np.allclose(plain.state.regret_E, compiled.state.regret_E, atol=1e-10)
    assert np.allclose(AdaNormalHedge().bound(plain.state), AdaNormalHedge().bound(compiled.state), atol=1e-10)


@pytest.mark.parametrize("seed", range(3))
def test_regret_to_the_best_model_is_below_both_bounds(seed: int) -> None:
    """Reg_g <= |theta|^2 + E^2 d ln(1 + T_g X^2 / d) + sqrt(3 C_g (ln |G| + ln B)), with clipping."""
    x_ND, y_N, member_NG = data = stream(600, seed=seed)
    algorithm = build()
    state, _ = run(algorithm, data)
    for g in range(G):
        awake = member_NG[:, g] > 0
        theta_D = np.linalg.lstsq(x_ND[awake], y_N[awake], rcond=None)[0]
        best = best_linear_loss(x_ND[awake], y_N[awake])
        learners = theta_D @ theta_D + D * math.log(1 + awake.sum() * D / D)  # |x|^2 <= D, errors <= 1 when clipped
        assert state.ledger.charged_E[g] - best <= learners + algorithm.mixer.bound(state.mixer)[g]
        assert state.ledger.loss_E[g] - best <= learners
    assert algorithm.alarms(state) == ()


def test_sleepers_are_not_touched() -> None:
    algorithm, (x_ND, y_N, _) = build(), stream(3)
    state = algorithm.init(G)
    awake_G = np.array([1.0, 0, 0, 1])
    prediction = algorithm.predict(state, x_ND[0], awake_G, Draws(0, 0))
    assert prediction.p_E.tolist() == [0.5, 0, 0, 0.5]
    after = algorithm.learn(state, x_ND[0], y_N[0], prediction)
    for name in ("theta_GD", "inverse_GDD", "moment_GD", "count_G"):
        before_G, after_G = getattr(state.learner, name), getattr(after.learner, name)
        assert np.array_equal(before_G[1:3], after_G[1:3])
        assert not np.array_equal(before_G[0], after_G[0])
    assert after.ledger.count_E.tolist() == [1, 0, 0, 1]
    assert not after.mixer.absolute_E[1:3].any()


def test_pure_and_owned_forms_agree() -> None:
    algorithm, data = build(), stream(80)
    owned, _ = run(algorithm, data)
    state = algorithm.init(G)
    for t, (x, y, awake_G) in enumerate(zip(*data, strict=True)):
        kept = algorithm.learn(state, x, y, algorithm.predict(state, x, awake_G, Draws(0, t)))
        assert kept.learner is not state.learner
        state = kept
    assert states_equal(state.learner, owned.learner)
    assert states_equal(state.mixer, owned.mixer)


def test_blocks_of_one_equal_rounds_and_longer_ones_keep_their_bound() -> None:
    data, B = stream(320, seed=5), 16
    x_ND, y_N, member_NG = data
    plain, _ = run(build(), data)
    for block in (1, B):
        algorithm = build(AdaNormalHedge(loss_range=float(block)))
        state = algorithm.init(G)
        for at in range(0, 320, block):
            part = slice(at, at + block)
            rounds = zip(x_ND[part], member_NG[part], strict=True)
            predictions = [algorithm.predict(state, x, awake_G, Draws(0, at)) for x, awake_G in rounds]
            state = algorithm.learn_block(state, x_ND[part], y_N[part], predictions)
        assert algorithm.alarms(state) == ()
        assert (state.ledger.regret_E <= algorithm.mixer.bound(state.mixer)).all()
        assert state.ledger.count_E.tolist() == plain.ledger.count_E.tolist()
        if block == 1:
            assert np.allclose(state.ledger.charged_E, plain.ledger.charged_E, atol=1e-9)
            assert np.allclose(state.learner.theta_GD, plain.learner.theta_GD, atol=1e-9)


def test_late_feedback_is_charged_for_the_prediction_as_it_was_made() -> None:
    algorithm, (x_ND, y_N, member_NG) = build(), stream(20)
    state, waiting, losses = algorithm.init(G), [], 0.0
    for t in range(20):
        prediction = algorithm.predict(state, x_ND[t], member_NG[t], Draws(0, t))
        losses += (prediction.value - y_N[t]) ** 2
        waiting.append((t, prediction))
        if len(waiting) == 3:
            s, late = waiting.pop(1)
            state = algorithm.learn(state, x_ND[s], y_N[s], late)
    for s, late in reversed(waiting):
        state = algorithm.learn(state, x_ND[s], y_N[s], late)
    assert state.ledger.played == pytest.approx(losses, rel=1e-12)
    assert state.ledger.rounds == 20


def test_labels_a_hundred_times_too_large_raise_the_alarm() -> None:
    x_ND, y_N, member_NG = stream(400)
    algorithm = build(interval=None)
    state, _ = run(algorithm, (x_ND, 100 * y_N, member_NG))
    kinds = {alarm.what for alarm in algorithm.alarms(state)}
    assert {"range", "invariant"} <= kinds
    scale_free = build(Solo(), interval=None)
    assert scale_free.alarms(run(scale_free, (x_ND, 100 * y_N, member_NG))[0]) == ()


def test_nobody_awake_gets_the_default_and_counts_nowhere() -> None:
    algorithm = build(always_on=None, default=0.5)
    state = algorithm.init(G)
    prediction = algorithm.predict(state, np.ones(D), np.zeros(G), Draws(0, 0))
    assert prediction.value == 0.5
    assert not prediction.p_E.any()
    after = algorithm.learn(state, np.ones(D), 1.0, prediction)
    assert after.ledger.orphans == 1
    assert after.ledger.played == 0.25
    assert not after.ledger.charged_E.any()
    assert np.isfinite(algorithm.mixer.log_weights(after.mixer)).all()


def test_shadows_bring_us_within_the_bound_of_the_global_learner() -> None:
    """Regret on g to the always-on learner's loss there, for which the theorem alone promises nothing."""
    algorithm, data = build(shadows=True), stream(500, seed=2)
    state, predictions = run(algorithm, data)
    assert len(state.ledger.count_E) == 7
    assert sum(state.mixer.prior_E) == pytest.approx(1.0)
    global_N = np.array([prediction.z_E[3] for prediction in predictions])
    for shadow, g in ((4, 0), (5, 1), (6, 2)):
        awake = data[2][:, g] > 0
        assert state.ledger.loss_E[shadow] == pytest.approx(((global_N - data[1])[awake] ** 2).sum(), rel=1e-12)
        assert state.ledger.charged_E[shadow] == state.ledger.charged_E[g]
        assert state.ledger.regret_E[shadow] <= algorithm.mixer.bound(state.mixer)[shadow]


def test_sampling_draws_experts_by_their_weights() -> None:
    algorithm = build(output="sample", charge="expected")
    state, _ = run(algorithm, stream(50))
    awake_G, x = np.array([1.0, 1, 0, 1]), np.full(D, 0.7)
    drawn = [algorithm.predict(state, x, awake_G, Draws(1, t)) for t in range(4000)]
    p_E, z_E = drawn[0].p_E, drawn[0].z_E
    share_E = np.array([np.mean([d.value == z for d in drawn]) for z in z_E])
    assert (np.abs(share_E - p_E)[[0, 1, 3]] <= 6 * np.sqrt(p_E * (1 - p_E) / 4000)[[0, 1, 3]] + 1e-12).all()  # six sigmas


def test_groups_are_added_at_run_time() -> None:
    algorithm, (x_ND, y_N, member_NG) = build(), stream(60)
    state, _ = run(algorithm, (x_ND[:30], y_N[:30], member_NG[:30]))
    state = algorithm.grow(state, np.array([0.1]))
    for t in range(30, 60):
        awake_G = np.append(member_NG[t], t % 2)
        prediction = algorithm.predict(state, x_ND[t], awake_G, Draws(0, t))
        assert prediction.p_E.sum() == pytest.approx(1.0)
        state = algorithm.learn(state, x_ND[t], y_N[t], prediction)
    assert state.ledger.count_E.tolist() == [*member_NG.sum(axis=0), 15]
    assert algorithm.alarms(state) == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": "sample"}, "needs charge 'expected'"),
        ({"output": "vote"}, "output must be mixture or sample"),
        ({"shadows": True, "always_on": None}, "shadows need an always_on group"),
        ({"interval": (1.0, 0.0)}, "low < high"),
        ({"mixer": Specialists(rate=0.5), "charge": "expected"}, "specialists are proven for the loss of the mixture"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(**options)


def test_shapes_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"always_on must lie in 0\.\.1"):
        build().init(2)
    with pytest.raises(ConfigError, match="a prior needs 4 entries"):
        build().init(G, np.ones(3))


@pytest.mark.parametrize("mixer", [AdaNormalHedge(), Specialists(rate=0.5)], ids=lambda mixer: type(mixer).__name__)
def test_groups_come_while_shadows_are_on_as_if_they_had_slept(mixer: Any) -> None:
    """The same rounds with the late group there from the start: with its prior beside the others', everything is equal."""
    algorithm = Groupwise(
        learner=Ridge(dimension=2), mixer=mixer, loss=SquaredLoss(), interval=(0.0, 1.0), always_on=1, shadows=True
    )
    early, late = algorithm.init(3, np.array([0.4, 0.4, 0.2])), algorithm.init(2, np.array([0.4, 0.4]))
    rng = np.random.default_rng(0)
    waiting: Any = None
    for t in range(60):
        x, y = rng.random(2), float(rng.random())
        awake_G = np.array([t % 3 == 0, 1.0, t > 30 and t % 2 == 0], float)
        if t == 30:
            late = algorithm.grow(late, np.array([0.2]))
            late = algorithm.learn(late, *waiting[:2], algorithm.widened(waiting[2], 3))
            early = algorithm.learn(early, *waiting[:2], waiting[3])
        ours = algorithm.predict(late, x, awake_G[: algorithm.num_groups(late)], Draws(0, t))
        theirs = algorithm.predict(early, x, awake_G, Draws(0, t))
        assert ours.value == pytest.approx(theirs.value, rel=1e-12)
        if t == 20:
            waiting = (x, y, ours, theirs)
            continue
        late, early = algorithm.learn(late, x, y, ours), algorithm.learn(early, x, y, theirs)
    np.testing.assert_allclose(late.ledger.charged_E, early.ledger.charged_E, rtol=1e-12)
    np.testing.assert_allclose(algorithm.mixer.regret(late.mixer), algorithm.mixer.regret(early.mixer), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(late.learner.theta_GD, early.learner.theta_GD, rtol=1e-12)
