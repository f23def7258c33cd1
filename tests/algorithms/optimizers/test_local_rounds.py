"""Methods of local steps against the algorithms written out, and the traps that their papers' readers fall into."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.algorithms import Stop, check_method, make_method, simulate
from saddlebag.algorithms.optimizers.diloco import outer_defaults
from saddlebag.algorithms.optimizers.inner import Inner
from saddlebag.algorithms.optimizers.rules import Momentum
from saddlebag.algorithms.problems import quadratic
from saddlebag.algorithms.problems.linked import LinkedPrograms
from saddlebag.compression import SERVER, BlockTopK, Cast, ChunkTopK, Draws, Grid, Identity, NearestInt4, RandK, Tensor, TopK
from saddlebag.errors import ConfigError
from saddlebag.proto.codec import LoopbackWire

if TYPE_CHECKING:
    from saddlebag.algorithms import Problem
    from saddlebag.compression import Vector

WORKERS, ROUNDS, H = 3, 50, 4
FULL = Identity(dtype="float64")
FREE: dict[str, Any] = {"up": FULL, "down": FULL}
NAMES = ("local_average", "diloco", "sparse_loco")


@functools.cache
def problem() -> Problem:
    return quadratic(None, num_workers=WORKERS, seed=3)


def run(method: Any, rounds: int = ROUNDS) -> Vector:
    z_D: Vector = simulate(
        problem(), method, seed=0, stop=Stop(max_rounds=rounds, every=rounds), wire=LoopbackWire()
    ).replica.z_D
    return z_D


def adamw(z_D: Vector, state: dict[str, Any], ask: Any, *, steps: int, lr: float, decay: float, clip: float) -> Vector:
    """H steps of torch's AdamW with betas 0.9 and 0.95 and clipped gradients, as its documentation writes them."""
    z_D = z_D.copy()
    for step in range(steps):
        g_D = ask(z_D, step)
        g_D = g_D * min(1.0, clip / np.linalg.norm(g_D))
        state["t"] += 1
        state["m"] = 0.9 * state["m"] + 0.1 * g_D
        state["v"] = 0.95 * state["v"] + 0.05 * g_D**2
        z_D *= 1 - lr * decay
        m_D, v_D = state["m"] / (1 - 0.9 ** state["t"]), state["v"] / (1 - 0.95 ** state["t"])
        z_D -= lr * m_D / (np.sqrt(v_D) + 1e-8)
    return z_D


def test_uncompressed_diloco_is_the_algorithm_to_1e_6_over_50_rounds() -> None:
    method = make_method(
        "diloco", problem(), **FREE, step_size=0.7, momentum=0.9, local_steps=H, local_step_size=0.01, clip_norm=0.5
    )
    z_D, m_D = problem().start(), np.zeros(problem().dimension)
    states = [{"t": 0, "m": np.zeros(len(z_D)), "v": np.zeros(len(z_D))} for _ in range(WORKERS)]
    for round_ in range(ROUNDS):
        ends = []
        for worker, state in enumerate(states):
            operator, draws = problem().operator(worker), Draws(0, round_, worker)
            ask = lambda point_D, step, operator=operator, draws=draws: operator(point_D, draws.within(step))  # noqa: E731
            ends.append(adamw(z_D, state, ask, steps=H, lr=0.01, decay=0.1, clip=0.5))
        delta_D = z_D - np.mean(ends, axis=0)
        m_D = 0.9 * m_D + delta_D
        z_D = z_D - 0.7 * (delta_D + 0.9 * m_D)
    found_D = run(method)
    assert np.abs(found_D - z_D).max() <= 1e-6 * np.abs(z_D).max()
    assert np.abs(found_D - problem().start()).max() > 0.01  # it went somewhere


def test_local_average_of_one_plain_step_is_the_step_along_the_mean_gradient() -> None:
    method = make_method("local_average", problem(), **FREE, local_steps=1, local_step_size=0.05)
    z_D = problem().start()
    for round_ in range(ROUNDS):
        z_D = z_D - 0.05 * np.mean([problem().operator(w)(z_D, Draws(0, round_, w)) for w in range(WORKERS)], axis=0)
    assert np.allclose(run(method), z_D, rtol=0, atol=1e-12 * np.abs(z_D).max())


def test_a_memory_decays_by_beta_before_what_is_new() -> None:
    method = make_method("sparse_loco", linked(), up=TopK(k=1), down=FULL, decay=0.5)
    replica = method.init_replica(linked().start())
    own, changes = method.init_worker(replica), [np.array([4.0, 3.0, 0.0]), np.array([0.0, 0.0, 1.0])]
    sent = []
    for round_, change_D in enumerate(changes):
        own, message = method.worker_step(replica, own, lambda z_D, draws, c_D=change_D: c_D, Draws(0, round_, 0))
        sent.append(message.parts[0].dense().tolist())
    assert sent == [[4.0, 0.0, 0.0], [0.0, 1.5, 0.0]]  # 3 has become 1.5, and goes before 1
    assert own.owed_D.tolist() == [0.0, 0.0, 1.0]


def linked(averaged: int = 0) -> LinkedPrograms:
    return LinkedPrograms(origin_D=np.zeros(3), tensors=[Tensor("w", (3,))], num_workers=1, averaged=averaged)


def test_statistics_are_averaged_without_memory_momentum_or_step() -> None:
    method = make_method("diloco", linked(averaged=1), up=TopK(k=1), down=TopK(k=1), step_size=0.5, momentum=0.9)
    replica = method.init_replica(np.zeros(3))
    own, server = method.init_worker(replica), method.init_server(replica)
    for round_ in range(2):
        draws = Draws(0, round_, SERVER)
        own, up = method.worker_step(replica, own, lambda z_D, draws: np.array([1.0, 0.0, -2.0]), draws.of(0))
        mean = [_mean(part) for part in up.parts]
        server, down = method.server_step(replica, server, tuple(mean), draws)
        replica = method.replay(replica, down, draws)
    assert replica.z_D[2] == 4.0
    assert replica.z_D[0] == pytest.approx(-0.5 * (1.9 + 1.0 + 0.9 * 1.9))


def _mean(part: Any) -> Any:
    from saddlebag.compression import Sum

    total = Sum(part.dimension)
    total.add(part)
    return total.mean(1)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "compressor",
    [TopK(k=2), BlockTopK(block=4, k=1), ChunkTopK(chunk=8, k=2), Grid(), NearestInt4(), Cast(), Identity()],
    ids=lambda compressor: type(compressor).__name__,
)
def test_every_contractive_compressor_goes_both_ways(name: str, compressor: Any) -> None:
    method = make_method(name, problem(), up=compressor, down=compressor, local_steps=2)
    check_method(method, problem(), wire=LoopbackWire(), num_rounds=6)
    assert np.isfinite(run(method, 20)).all()


def test_unbiased_compressors_are_refused() -> None:
    with pytest.raises(ConfigError, match="methods of local steps need a contractive compressor up, got RandK"):
        make_method("diloco", problem(), up=RandK(k=2), down=FULL)


def test_nothing_has_momentum_that_was_not_asked_for() -> None:
    assert make_method("local_average", problem(), **FREE).momentum == 0.0
    assert make_method("sparse_loco", problem()).momentum == 0.0
    assert make_method("sparse_loco", problem()).inner.rule.beta1 == 0.9


@pytest.mark.parametrize(
    ("compressor", "rounds", "expected"),
    [
        (FULL, 8, (1.0, 0.0)),
        (FULL, 32, (0.7, 0.6)),
        (FULL, None, (0.7, 0.6)),
        (FULL, 100, (0.7, 0.9)),
        (TopK(fraction=0.03), 1000, (1.0, 0.0)),
        (Grid(), 1000, (1.0, 0.0)),  # its alpha is that of the worst vector
    ],
)
def test_outer_defaults_follow_rounds_and_compressors(compressor: Any, rounds: int | None, expected: Any) -> None:
    assert outer_defaults(problem(), compressor, FULL, rounds) == expected
    method = make_method("diloco", problem(), up=compressor, down=FULL, rounds=rounds, step_size=0.3, momentum=0.2)
    assert (method.step_size, method.momentum) == (0.3, 0.2)  # what is given is obeyed


def test_clipping_bounds_gradients_and_not_the_walk() -> None:
    """Under AdamW a walk has a direction of norm sqrt(d): clipped there, it hardly moved."""
    free = make_method("diloco", problem(), **FREE, local_steps=H, clip_norm=1e9)
    clipped = make_method("diloco", problem(), **FREE, local_steps=H, clip_norm=1.0)
    start_D = problem().start()
    far = [np.linalg.norm(run(method, 1) - start_D) for method in (free, clipped)]
    assert far[1] > 0.5 * far[0]


def test_the_inner_schedule_counts_inner_steps_over_all_rounds() -> None:
    inner = Inner(steps=5, rule=Momentum(momentum=0.0), step_size=1.0, warmup=2, total=12, schedule="linear")
    assert [inner.pace(step) for step in (0, 1, 2, 7, 12, 13)] == [0.5, 1.0, 1.0, 0.5, 0.0, 0.0]
    method = make_method("local_average", problem(), **FREE, local_steps=5, local_step_size=0.01, schedule="linear", total=10)
    two, three = (run(method, rounds) for rounds in (2, 3))
    assert np.array_equal(two, three)  # after ten steps nothing moves
    assert not np.array_equal(two, run(method, 1))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"local_rule": "lamb"}, "local_rule must be one of sgd, adamw, muon, got 'lamb'"),
        ({"local_rule": "muon"}, "local_rule 'muon' needs a problem with matrices"),
        ({"local_momentum": 0.9}, "local_momentum is for sgd and muon, got 0.9 for adamw"),
        ({"local_steps": 0}, r"local_steps must lie in \[1, 2\^16\), got 0"),
        ({"local_steps": 2**16}, r"local_steps must lie in \[1, 2\^16\), got 65536"),
        ({"clip_norm": 0.0}, "clip_norm must be positive, got 0.0"),
        ({"schedule": "cosine"}, "schedule 'cosine' needs total above warmup = 0, got total = 0"),
        ({"momentum": 1.0}, r"momentum must lie in \[0, 1\), got 1.0"),
        ({"rounds": 0}, "rounds must be at least 1, got 0"),
    ],
)
def test_what_does_not_fit_is_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_method("diloco", problem(), **FREE, **given)
