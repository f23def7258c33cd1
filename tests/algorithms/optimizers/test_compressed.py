"""Optimizers fed by compressed exchanges: the accounts of the memories, states, and what is refused."""

from __future__ import annotations

import dataclasses
import pickle
import typing
from typing import Any

import numpy as np
import pytest

from saddlebag.algorithms import METHODS, Message, Stop, check_method, digest, make_method, restarted, simulate
from saddlebag.algorithms.optimizers import replica
from saddlebag.algorithms.optimizers.compressed import CompressedOptimizer, MemoryKind
from saddlebag.algorithms.optimizers.narrow import Precision
from saddlebag.algorithms.optimizers.power_sgd import PowerSgd
from saddlebag.algorithms.optimizers.rules import RULES, rule_parameters
from saddlebag.algorithms.problems import BilinearGame
from saddlebag.compression import Draws, Identity, RandK, TopK, UnscaledRandK
from saddlebag.errors import ConfigError
from saddlebag.parameters import parameters_of
from saddlebag.proto.codec import LoopbackWire

FULL, TOP, EXACT = Identity(), TopK(k=2), Identity(dtype="float64")
NAMES = sorted(f"compressed_{rule}" for rule in RULES)


@pytest.fixture
def game() -> BilinearGame:
    return BilinearGame(n=4, num_workers=3, regularisation=0.3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("up", [FULL, TOP, UnscaledRandK(k=3)], ids=["identity", "top_k", "rand_k"])
def test_the_laws_of_a_method(name: str, up: Any, game: BilinearGame) -> None:
    method = METHODS[name](game, up=up, down=TOP, step_size=0.05, weight_decay=0.01, clip_norm=5.0, warmup=3)
    check_method(method, game, wire=LoopbackWire())


def test_feedback_sent_and_owed_are_what_came_in(game: BilinearGame, play: Any) -> None:
    method = METHODS["compressed_adamw"](game, up=TOP, down=TOP, step_size=0.01, memory="feedback")
    inputs_D, applied_D = np.zeros(8), np.zeros(8)
    for turn in play(game, method, seed=0, num_rounds=30):
        inputs_D += np.mean([game.operator(m)(turn.replica.z_D, turn.draws) for m in range(3)], axis=0)
        applied_D += turn.down.parts[0].dense()
        owed_D = np.mean([own.memory_D for own in turn.next_workers], axis=0) + turn.next_server.memory_D
        assert np.allclose(applied_D + owed_D, inputs_D, rtol=0, atol=1e-13 * (1 + np.abs(inputs_D).max()))
    assert np.linalg.norm(owed_D) > 0.1


def test_innovations_are_known_to_both_sides(game: BilinearGame, play: Any) -> None:
    method = METHODS["compressed_adamw"](game, up=TOP, down=TOP, step_size=0.01, memory="innovations")
    for turn in play(game, method, seed=0, num_rounds=30):
        mean_D = np.mean([own.memory_D for own in turn.next_workers], axis=0)
        assert np.allclose(turn.next_server.memory_D, mean_D, rtol=0, atol=1e-13 * np.abs(mean_D).max())
        for own, after, up in zip(turn.workers, turn.next_workers, turn.ups, strict=True):
            assert np.array_equal(after.memory_D, own.memory_D + up.parts[0].dense())
        known_D = turn.replica.known_D + turn.down.parts[0].dense()
        assert np.array_equal(turn.next_replica.known_D, known_D)
        by_hand = method.rule.update(method.rule.init(turn.replica.z_D), known_D, 0.01)
        if turn.draws.round == 0:
            assert np.array_equal(turn.next_replica.z_D, by_hand.z_D)


def test_a_moving_mean_before_compression(game: BilinearGame) -> None:
    """v_0 = g_0, then v <- v + a (g - v); a sum of the weights is 1."""
    method = METHODS["compressed_sgd"](game, up=EXACT, down=EXACT, step_size=0.01, memory="innovations", momentum_up=0.25)
    replica, values = method.init_replica(game.start()), [2.0, 6.0, -2.0]
    own = method.init_worker(replica)
    for round_, value in enumerate(values):
        own, _ = method.worker_step(replica, own, lambda z_D, draws, v=value: np.full(8, v), Draws(0, round_, 0))
    assert own.memory_D == pytest.approx(np.full(8, 3.0 + 0.25 * (-2.0 - 3.0)))  # 2, then 3, then this
    assert own.average.count == 3


def test_everybody_clips_the_estimate_alike(game: BilinearGame) -> None:
    given: dict[str, Any] = {"step_size": 1.0, "memory": "innovations", "momentum": 0.0}
    method = METHODS["compressed_sgd"](game, up=EXACT, down=EXACT, clip_estimate=0.5, **given)
    replica = method.init_replica(np.zeros(8))
    after = method.replay(replica, Message((EXACT.encode(np.full(8, 7.0), Draws(0, 0)),)), Draws(0, 0))
    assert np.linalg.norm(after.z_D) == pytest.approx(0.5)
    assert np.array_equal(after.known_D, np.full(8, 7.0))  # what is known is not clipped


@pytest.mark.parametrize("name", ["compressed_adamw", "compressed_extra_adam"])
@pytest.mark.parametrize("memory", ["feedback", "innovations"])
def test_late_workers_answer_for_the_point_of_the_round_before(name: str, memory: str, game: BilinearGame, play: Any) -> None:
    method = METHODS[name](game, up=TOP, down=TOP, step_size=0.02, memory=memory, late=True)
    check_method(method, game, wire=LoopbackWire())
    asked: list[Any] = []

    class Watched(BilinearGame):
        def operator(self, worker: int) -> Any:
            inner = game.operator(worker)
            return lambda z_D, draws: asked.append((z_D, draws.round, worker)) or inner(z_D, draws)

    points = [method._point(method.init_replica(game.start()))]
    for turn in play(Watched(n=4, num_workers=3, regularisation=0.3), method, seed=0, num_rounds=6):
        points.append(method._point(turn.replica))
        for own in turn.next_workers:
            assert np.array_equal(method.foreseen(own), points[-1])
    assert [round_ for _, round_, _ in asked] == [round_ for round_ in range(6) for _ in range(3)]
    for z_D, round_, _ in asked:
        assert np.array_equal(z_D, points[round_])
    assert not np.array_equal(points[-1], points[-2])


def test_plain_steps_that_are_late_are_the_recursion_with_a_delay() -> None:
    """z_{t+1} = z_t - gamma mean F(z_{t-1}), z_{-1} = z_0, without compression."""
    game = BilinearGame(n=4, num_workers=3, regularisation=0.3)
    method = METHODS["compressed_sgd"](game, up=EXACT, down=EXACT, step_size=0.02, momentum=0.0, late=True)
    found = simulate(game, method, seed=0, stop=Stop(max_iterations=12, every=12), wire=LoopbackWire())
    before_D = z_D = game.start()
    for _ in range(12):
        value_D = np.mean([game.operator(m)(before_D, Draws(0, 0)) for m in range(3)], axis=0)
        before_D, z_D = z_D, z_D - 0.02 * value_D
    assert np.allclose(found.replica.z_D, z_D, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("late", "limit"), [(False, 2.0), (True, 1.0)])
def test_the_largest_stable_step_on_a_quadratic(late: bool, limit: float, game: BilinearGame) -> None:
    """Of curvature L: plain steps are stable up to 2/L, late ones, whose roots solve r^2 - r + step L = 0, up to 1/L."""
    curvature = 4.0
    for share, shrinks in ((0.95, True), (1.05, False)):
        step_size = share * limit / curvature
        given: dict[str, Any] = {"up": EXACT, "down": EXACT, "momentum": 0.0, "late": late}
        method = METHODS["compressed_sgd"](game, step_size=step_size, **given)
        replica = method.init_replica(np.ones(8))
        own, server = method.init_worker(replica), method.init_server(replica)
        for round_ in range(200):
            own, up = method.worker_step(replica, own, lambda z_D, draws: curvature * z_D, Draws(0, round_, 0))
            server, down = method.server_step(replica, server, (up.parts[0],), Draws(0, round_))
            replica = method.replay(replica, down, Draws(0, round_))
        assert (np.abs(replica.z_D).max() < 0.1) == shrinks


def test_states_survive_pickling_and_restarts(game: BilinearGame, play: Any) -> None:
    local: dict[str, Any] = {"local_steps": 2, "local_step_size": 0.1, "local_rule": "adamw_kept"}
    method = METHODS["compressed_adamw"](game, up=TOP, down=TOP, step_size=0.01, memory="innovations", momentum_up=0.5, **local)
    *_, turn = play(game, method, seed=0, num_rounds=5)
    for state in (turn.next_replica, turn.next_workers[0]):
        again = pickle.loads(pickle.dumps(state))
        assert type(again) is type(state)
        assert digest(again) == digest(state)
    assert turn.next_workers[0].local.count == 10
    after = restarted(method, turn.next_replica)
    assert (after.iteration, after.known_D.any()) == (5, False)
    assert np.array_equal(after.rule.second_D, turn.next_replica.rule.second_D)


def test_one_worker_with_the_mean_is_all_workers_without_compression(game: BilinearGame) -> None:
    exact = Identity(dtype="float64")
    method = METHODS["compressed_adamw"](game, up=exact, down=exact, step_size=0.02)
    found = simulate(game, method, seed=0, stop=Stop(max_iterations=20, every=20), wire=LoopbackWire())
    replica = method.rule.init(game.start())
    for _ in range(20):
        value_D = np.mean([game.operator(m)(replica.z_D, Draws(0, 0)) for m in range(3)], axis=0)
        replica = method.rule.update(replica, value_D, 0.02)
    assert np.allclose(found.replica.z_D, replica.z_D, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"step_size": None}, "compressed_adamw is outside the theory and has no proven step; give method.step_size a number"),
        ({"up": RandK(k=2)}, r"need a contractive compressor up, got RandK\(.*\) \(unbiased\).* put it into 'scaled'"),
        ({"beta1": 1.0}, r"beta1 must lie in \[0, 1\), got 1.0"),
        ({"eps": 0.0}, "eps must be positive, got 0.0"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0, got -1.0"),
        ({"clip_norm": 0.0}, "clip_norm must be positive, got 0.0"),
        ({"schedule": "linear"}, "schedule 'linear' needs total above warmup = 0, got total = 0"),
        ({"schedule": "steps"}, "schedule must be one of constant, linear, cosine, got 'steps'"),
        ({"warmup": -1}, "warmup and total must be at least 0, got -1 and 0"),
        ({"memory": "none"}, "memory must be one of feedback, innovations, got 'none'"),
        ({"momentum_up": 0.0}, r"momentum_up must lie in \(0, 1\], got 0.0"),
        (
            {"clip_estimate": 1.0},
            "clip_estimate needs memory = 'innovations': with feedback what arrives is paid; use clip_norm",
        ),
        ({"clip_estimate": 0.0, "memory": "innovations"}, "clip_estimate must be positive, got 0.0"),
        ({"local_rule": "adam"}, "local_rule must be one of sgd, adamw, adamw_kept, got 'adam'"),
        ({"local_rule": "adamw"}, "local_steps = 1 of adamw needs a positive local_step_size, got 0.0"),
        ({"late": True, "local_steps": 2, "local_step_size": 0.1}, "late needs local_steps = 1 of the rule sgd, got 2 of sgd"),
        ({"local_steps": 0}, r"local_steps must lie in \[1, 2\^16\), got 0"),
        ({"local_steps": 2**16, "local_step_size": 0.1}, r"local_steps must lie in \[1, 2\^16\), got 65536"),
        ({"local_steps": 2}, "local_steps = 2 of sgd needs a positive local_step_size, got 0.0"),
    ],
)
def test_what_does_not_fit_is_named(parameters: dict[str, Any], message: str, game: BilinearGame) -> None:
    with pytest.raises(ConfigError, match=message):
        METHODS["compressed_adamw"](game, **({"up": FULL, "down": FULL, "step_size": 0.1} | parameters))


@pytest.mark.parametrize("name", [*NAMES, "power_sgd"])
def test_the_declared_keys_are_the_fields_of_rule_and_method(name: str) -> None:
    kind = PowerSgd if name == "power_sgd" else CompressedOptimizer
    rules = RULES if name == "power_sgd" else [name.removeprefix("compressed_")]
    fields = {field.name for field in dataclasses.fields(kind)} - {"rule", "up", "down", "prox", "layout", "step_size"}
    expected = fields | {key for rule in rules for key in rule_parameters(rule)}
    keys = parameters_of(METHODS[name])
    assert set(keys) - {"problem", "up", "down", "step_size", "rule", "rank", "worth"} == expected
    local = {"Rule": Any, "Compressor": Any, "PowerSGD": Any, "MemoryKind": MemoryKind, "Precision": Precision}
    hints = typing.get_type_hints(kind, vars(replica), local)
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}
    defaults |= {key: field.default for rule in rules for key, field in rule_parameters(rule).items() if len(rules) == 1}
    assert {key: keys[key].default for key in expected} == {key: defaults.get(key) for key in expected}
    assert {key: keys[key].annotation for key in expected & fields} == {key: hints[key] for key in expected & fields}


def test_a_key_of_another_rule_is_named(game: BilinearGame) -> None:
    with pytest.raises(ConfigError, match=r"method 'compressed_adamw' has no parameter 'momentum'; known: .*beta1, beta2"):
        make_method("compressed_adamw", game, up=TOP, down=TOP, step_size=0.1, momentum=0.9)
