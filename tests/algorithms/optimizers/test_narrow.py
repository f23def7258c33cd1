"""Narrow states: two parts of z, the bits of numpy and numba, float64 as the reference, and nobody looks at what is spent."""

from __future__ import annotations

import dataclasses
import functools
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from saddlebag.algorithms import METHODS, Outcome, Stop, check_method, digest, pack, simulate, unpack
from saddlebag.algorithms.guarded import Guarded
from saddlebag.algorithms.optimizers import rules as optimizer_rules
from saddlebag.algorithms.optimizers.compressed import CompressedOptimizer
from saddlebag.algorithms.optimizers.inner import Inner
from saddlebag.algorithms.optimizers.local_rounds import LocalRounds
from saddlebag.algorithms.optimizers.narrow import add_clipped, join, move, narrow_init, norm, split, update_in_place
from saddlebag.algorithms.optimizers.narrow_local import NarrowLocalRounds
from saddlebag.algorithms.optimizers.narrow_optimizer import NarrowOptimizer
from saddlebag.algorithms.optimizers.rules import Adam, ExtraAdam, Lamb, Momentum, OptimisticAdam
from saddlebag.algorithms.problems import BilinearGame
from saddlebag.compression import Dense, Draws, Grid, Identity, Slices, Sparse, TopK
from saddlebag.compression.kernels.loader import LARGE, compiled
from saddlebag.errors import ConfigError, StateError
from saddlebag.proto.codec import LoopbackWire

FLOATS = st.floats(-(2.0**60), 2.0**60, allow_subnormal=False, width=32).filter(lambda x: x == 0 or abs(x) > 2.0**-60)
WALK = Inner(steps=3, rule=Adam(), step_size=0.02, clip_norm=2.0)
KINDS = {
    "adamw": lambda **keys: NarrowOptimizer(rule=Adam(weight_decay=0.01), step_size=0.05, **keys),
    "extra_adam": lambda **keys: NarrowOptimizer(rule=ExtraAdam(), step_size=0.05, **keys),
    "local": lambda **keys: NarrowLocalRounds(inner=WALK, step_size=0.7, momentum=0.6, decay=0.9, **keys),
    "local, no momentum": lambda **keys: NarrowLocalRounds(inner=WALK, step_size=1.0, **keys),
}


def in_parts(z_D: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    high_D, rest_D = np.empty(len(z_D), np.float32), np.empty(len(z_D), np.uint16)
    split(z_D, high_D, rest_D)
    return high_D, rest_D


# -- z in two parts ------------------------------------------------------------------------------------------------------


@given(arrays(np.float64, 5, elements=st.floats(-1e30, 1e30).filter(lambda x: x == 0 or abs(x) > 1e-20)))
def test_two_parts_hold_33_bits(z_D: np.ndarray) -> None:
    high_D, rest_D = in_parts(z_D)
    assert np.array_equal(high_D, z_D.astype(np.float32)), "networks compute at the nearest float32"
    assert (np.abs(join(high_D, rest_D) - z_D) <= 2.0**-33 * np.abs(z_D)).all()


@given(arrays(np.float64, 4, elements=FLOATS), arrays(np.float32, 4, elements=FLOATS))
def test_a_move_is_exact_to_the_last_bit_that_is_kept(z_D: np.ndarray, change_D: np.ndarray) -> None:
    high_D, rest_D = in_parts(z_D)
    before_D, exact_D = join(high_D, rest_D), join(high_D, rest_D) - change_D
    move(high_D, rest_D, change_D.copy())
    lost_D = 2.0**-24 * np.abs(change_D) + 2.0**-31 * (np.abs(before_D) + np.abs(change_D))
    assert (np.abs(join(high_D, rest_D) - exact_D) <= lost_D).all()


def test_steps_far_below_the_spacing_of_float32_add_up() -> None:
    high_D, rest_D = in_parts(np.array([1.0, -3.0]))
    for _ in range(1000):
        move(high_D, rest_D, np.full(2, 1e-9, np.float32))
    assert join(high_D, rest_D) == pytest.approx(np.array([1.0, -3.0]) - 1e-6, abs=1e-7)  # eight bits of rest: a tenth
    assert np.float32(1.0) - np.float32(1e-9) == np.float32(1.0), "where plain float32 stands still"


def test_the_norm_is_that_of_float64_and_clipping_scales_what_is_added() -> None:
    x_D = np.random.default_rng(0).standard_normal(50_000).astype(np.float32)
    assert norm(x_D) == pytest.approx(np.linalg.norm(x_D.astype(np.float64)), rel=1e-14)
    owed_D, free_D = np.zeros(50_000, np.float32), np.zeros(50_000, np.float32)
    add_clipped(owed_D, x_D, 2.0)
    add_clipped(free_D, x_D, np.inf)
    assert norm(owed_D) == pytest.approx(2.0, rel=1e-6)
    assert np.array_equal(free_D, x_D)


# -- rules ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rule", [Adam(weight_decay=0.1), Momentum(nesterov=True), OptimisticAdam(), ExtraAdam(weight_decay=0.1)]
)
def test_a_rule_in_place_follows_its_float64_form(rule: Any) -> None:
    rng = np.random.default_rng(0)
    z_D = rng.standard_normal(20_000)
    exact, (state, rest_D) = rule.init(z_D), narrow_init(rule, z_D)
    for _ in range(30):
        gradient_D = rng.standard_normal(20_000).astype(np.float32)
        exact = rule.update(exact, gradient_D.astype(np.float64), 1e-3)
        state = update_in_place(rule, state, rest_D, Slices(Dense(gradient_D)), 1e-3)
    assert state.iteration == 30
    moved_D, narrow_D = exact.z_D - z_D, join(state.z_D, rest_D) - z_D
    assert np.abs(moved_D).max() > 1e-3
    assert narrow_D == pytest.approx(moved_D, rel=1e-3, abs=1e-6)


@pytest.mark.skipif(compiled() is None, reason="no numba: pip install 'saddlebag[fast]'")
@pytest.mark.parametrize("decays", [None, "some", "one tensor"])
def test_compiled_and_in_numpy_a_narrow_step_has_the_same_bits(decays: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    d, rng = LARGE + 5, np.random.default_rng(0)
    masks = {None: None, "some": np.arange(d) % 3 > 0, "one tensor": np.arange(d) < d // 2}
    rule = Adam(weight_decay=0.02, decays=masks[decays])
    z_D = rng.standard_normal(d) * 10.0 ** rng.integers(-30, 3, d)
    gradients = [(rng.standard_normal(d) * 10.0 ** rng.integers(-25, 3, d)).astype(np.float32) for _ in range(2)]
    kept = np.sort(rng.choice(d, 1000, replace=False))
    payloads = [Dense(gradients[0]), Sparse(d, kept, Dense(gradients[1][kept]))]

    def run() -> bytes:
        state, rest_D = narrow_init(rule, z_D)
        for payload in payloads:
            state = update_in_place(rule, state, rest_D, Slices(payload), 3e-3, scale=0.3)
        return b"".join(array.tobytes() for array in (state.z_D, rest_D, state.first_D, state.second_D))

    fused = run()
    monkeypatch.setattr(optimizer_rules, "_compiled", lambda: None)
    assert run() == fused


# -- methods -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def game() -> BilinearGame:
    return BilinearGame(n=4, num_workers=3, regularisation=0.3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("down", [TopK(k=2), Grid(step=0.5)], ids=["top_k", "grid"])
def test_the_laws_of_a_method(kind: str, down: Any, game: BilinearGame) -> None:
    check_method(KINDS[kind](up=TopK(k=3), down=down), game, wire=LoopbackWire())


def play(game: BilinearGame, method: Any, rounds: int = 60) -> Outcome:
    return simulate(game, method, seed=3, stop=Stop(max_rounds=rounds), wire=LoopbackWire())


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [
        (
            KINDS["adamw"](up=Identity(), down=Identity()),
            CompressedOptimizer(rule=Adam(weight_decay=0.01), step_size=0.05, up=Identity(), down=Identity()),
        ),
        (
            KINDS["local"](up=Identity(), down=Identity()),
            LocalRounds(inner=WALK, step_size=0.7, momentum=0.6, decay=0.9, up=Identity(), down=Identity()),
        ),
    ],
)
def test_a_narrow_method_follows_its_float64_form(narrow: Any, wide: Any, game: BilinearGame) -> None:
    got, expected = play(game, narrow).replica, play(game, wide).replica
    assert got.z_D.dtype == np.float32
    assert got.z_D == pytest.approx(expected.z_D, abs=1e-4 * np.abs(expected.z_D).max())


def test_what_is_sent_and_owed_is_what_came_in(game: BilinearGame) -> None:
    method = KINDS["adamw"](up=TopK(k=2), down=TopK(k=2))
    replica = method.init_replica(game.start())
    own, sent_D, came_D = method.init_worker(replica), np.zeros(8), np.zeros(8)
    for round_ in range(40):
        value_D = np.random.default_rng(round_).standard_normal(8).astype(np.float32)
        own, up = method.worker_step(replica, own, lambda z_D, draws, value_D=value_D: value_D, Draws(0, round_, 0))
        sent_D, came_D = sent_D + up.parts[0].dense(), came_D + value_D
    assert sent_D + own.memory_D == pytest.approx(came_D, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_looks_at_a_state_that_was_handed_on(kind: str, game: BilinearGame, network: Any) -> None:
    method = KINDS[kind](up=TopK(k=3), down=Grid())
    expected = digest(play(game, method).replica)
    assert digest(play(game, Guarded(method=method)).replica) == expected
    reference = simulate(game, method, seed=7, stop=Stop(max_rounds=40), wire=LoopbackWire())
    net = network(game, Guarded(method=method), Stop(max_rounds=40), rng=random.Random(1), frame_bytes=40, checkpoint_every=4)
    net.run([("server", 9), ("1", 13), ("0", 21)])
    assert {digest(worker.replica) for worker in net.workers.values()} == {digest(reference.replica)}


def test_the_guard_turns_what_is_spent_into_nan(game: BilinearGame) -> None:
    method = Guarded(method=KINDS["adamw"](up=TopK(k=3), down=Identity()))
    replica = method.init_replica(game.start())
    own = method.init_worker(replica)
    method.worker_step(replica, own, game.operator(0), Draws(0, 0, 0))
    assert np.isnan(own.memory_D).all()
    assert np.isfinite(replica.z_D).all()


def test_a_state_with_a_rest_that_is_no_number_is_refused(game: BilinearGame) -> None:
    replica = KINDS["adamw"](up=TopK(k=3), down=Identity()).init_replica(game.start())
    arrays = pack(replica)
    assert arrays["rest_D"].dtype == np.uint16
    arrays["rest_D"] = np.full(8, 0x7F80, np.uint16)
    with pytest.raises(StateError, match=r"OptimizerReplica\.rest_D holds NaN or infinity"):
        unpack(replica, arrays)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_a_restored_state_goes_on_in_memory_of_its_own(seed: int) -> None:
    """What was read from bytes may be a view of them, which nobody can write to."""
    z_D = np.random.default_rng(seed).standard_normal(8)
    replica = KINDS["adamw"](up=TopK(k=3), down=Identity()).init_replica(z_D)
    frozen = {name: np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape) for name, array in pack(replica).items()}
    again = unpack(replica, frozen)
    again.rule.z_D[0] = 7.0
    assert digest(unpack(replica, frozen)) == digest(replica)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"memory": "innovations"}, "precision 'float32' needs memory = 'feedback', got 'innovations'; leave precision at"),
        ({"momentum_up": 0.5}, "precision 'float32' needs momentum_up = 1.0, got 0.5"),
        ({"late": True}, "precision 'float32' needs late = False, got True"),
        ({"rule": Lamb()}, "precision 'float32' needs a rule that works coordinate by coordinate, got Lamb"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], message: str) -> None:
    make = functools.partial(NarrowOptimizer, up=TopK(k=1), down=TopK(k=1), step_size=0.1, rule=Adam())
    with pytest.raises(ConfigError, match=message):
        make(**change)


@pytest.mark.parametrize("name", ["compressed_adamw", "diloco", "sparse_loco", "local_average"])
def test_games_keep_float64(name: str, game: BilinearGame) -> None:
    make = functools.partial(METHODS[name], game, up=TopK(k=1), down=TopK(k=1), step_size=0.1)
    with pytest.raises(ConfigError, match=r"precision 'float32' is for networks, bilinear.* is none; leave precision at"):
        make(precision="float32")
    with pytest.raises(ConfigError, match="precision must be one of float64, float32, got 'half'"):
        make(precision="half")
    assert not getattr(make(), "narrow", False)
    assert dataclasses.asdict(make())["prox"] is not None
