"""PowerSGD in two rounds an iteration: the centralised projection, its accounts, and what it does when nothing is lost."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.algorithms import METHODS, Stop, check_method, restarted, simulate
from saddlebag.compression import SERVER, Draws, Identity, Vector
from saddlebag.compression.combinators.per_tensor import Tensor
from saddlebag.errors import ConfigError
from saddlebag.proto.codec import LoopbackWire

if TYPE_CHECKING:
    from collections.abc import Mapping

    from saddlebag.algorithms import Operator

SHAPES = ((12, 10), (10,), (4, 5, 8), (3,))
SIZES = [int(np.prod(shape)) for shape in SHAPES]


@dataclasses.dataclass(frozen=True)
class Layers:
    """|z - target_m|^2 / 2 on matrices and vectors: F_m(z) = z - target_m."""

    num_workers: int = 3
    name: str = "layers"
    constants: None = None
    unconstrained: bool = True

    @property
    def dimension(self) -> int:
        return sum(SIZES)

    @property
    def tensors(self) -> list[Tensor]:
        return [Tensor(f"t{number}", shape) for number, shape in enumerate(SHAPES)]

    def target(self, worker: int) -> Vector:
        return np.random.default_rng(worker).standard_normal(self.dimension) + 1.0

    def start(self) -> Vector:
        return np.zeros(self.dimension)

    def operator(self, worker: int) -> Operator:
        target_D = self.target(worker)
        return lambda z_D, draws: z_D - target_D

    def prox(self, v_D: Vector, step_size: float) -> Vector:
        del step_size
        return v_D

    def merits(self, z_D: Vector) -> Mapping[str, float]:
        mean_D = np.mean([self.target(worker) for worker in range(self.num_workers)], axis=0)
        return {"distance": float(np.linalg.norm(z_D - mean_D))}


LAYERS = Layers()
build = functools.partial(METHODS["power_sgd"], LAYERS, step_size=0.1)


@pytest.mark.parametrize("rule", ["adamw", "sgd", "lamb", "optimistic_adam", "extra_adam"])
def test_the_laws_of_a_method(rule: str) -> None:
    check_method(build(rule=rule, rank=2, weight_decay=0.1, clip_norm=9.0), LAYERS, wire=LoopbackWire())
    local = {"local_steps": 2, "local_step_size": 0.1, "local_rule": "adamw_kept"}
    check_method(build(rule=rule, rank=1, **local), LAYERS, wire=LoopbackWire())


def iterations(method: Any, play: Any, count: int) -> Any:
    """First and second rounds in pairs."""
    turns = play(LAYERS, method, seed=3, num_rounds=2 * count)
    return zip(turns, turns, strict=True)


def test_replicas_apply_the_projection_of_the_mean(play: Any) -> None:
    method = build(rule="sgd", momentum=0.0, rank=2)
    owed_D = np.zeros(LAYERS.dimension)
    for first, second in iterations(method, play, 12):
        mean_D = np.mean([LAYERS.operator(m)(first.replica.z_D, first.draws) for m in range(3)], axis=0) + owed_D
        moved_D = (second.replica.z_D - second.next_replica.z_D) / 0.1
        start = 0
        for shape, size, rows in zip(SHAPES, SIZES, (12, 10, 4, 3), strict=True):
            here = slice(start, start + size)
            start += size
            if len(shape) == 1 or rows == 4:  # 4 x 40 of rank 2 would not shrink
                assert np.allclose(moved_D[here], mean_D[here], atol=1e-5)
                continue
            got, mean = moved_D[here].reshape(rows, -1), mean_D[here].reshape(rows, -1)
            u, s, _ = np.linalg.svd(got)
            assert s[2] < 1e-6 * s[0]
            p = u[:, :2]
            assert np.allclose(got, p @ p.T @ mean, atol=1e-4 * s[0])  # factors are float32
        owed_D = mean_D - moved_D


def test_sent_and_owed_are_what_came_in(play: Any) -> None:
    """The mean over the workers, to the rounding of the small tensors' mean."""
    method = build(rule="sgd", momentum=0.0, rank=1)
    inputs_D, moved_D = np.zeros(LAYERS.dimension), np.zeros(LAYERS.dimension)
    for first, second in iterations(method, play, 30):
        inputs_D += np.mean([LAYERS.operator(m)(first.replica.z_D, first.draws) for m in range(3)], axis=0)
        moved_D += (second.replica.z_D - second.next_replica.z_D) / 0.1
        owed_D = np.mean([own.owed_D for own in second.next_workers], axis=0)
        for piece in method._pieces:
            if piece.columns:
                owed_D[piece.here] -= method._product(piece, second.next_replica.factor_D)
        assert np.allclose(moved_D + owed_D, inputs_D, rtol=0, atol=1e-6 * len(SHAPES))
    assert np.linalg.norm(owed_D) > 1e-3  # something is owed, or nothing was tested


def test_at_full_rank_nothing_is_lost() -> None:
    """Where the mean gradient has no more than the rank, in every tensor that is compressed."""
    low = dataclasses.replace(LAYERS)
    left, right = np.random.default_rng(0).standard_normal((2, 12, 2)), np.random.default_rng(1).standard_normal((2, 10))

    class LowRank(Layers):
        def target(self, worker: int) -> Vector:
            target_D = low.target(worker).copy()
            target_D[:120] = ((1.0 + worker) * left[0] @ right).reshape(-1)
            return target_D

    problem = LowRank()
    exact = {"step_size": 0.1, "momentum": 0.5}
    ours = METHODS["power_sgd"](problem, rule="sgd", rank=2, **exact)
    full = Identity(dtype="float64")
    theirs = METHODS["compressed_sgd"](problem, up=full, down=full, **exact)
    found = [
        simulate(problem, method, seed=0, stop=Stop(max_iterations=20, every=20), wire=LoopbackWire())  # type: ignore[arg-type]
        for method in (ours, theirs)
    ]
    assert [outcome.rounds for outcome in found] == [40, 20]
    assert np.allclose(found[0].replica.z_D, found[1].replica.z_D, atol=2e-6)


def test_bytes_are_those_of_the_factors() -> None:
    method = build(rank=1)
    first = 12 + 10 + 4 + 3
    assert method.layout.exchange_sizes() == (first, 10 + 40)
    outcome = simulate(LAYERS, method, seed=0, stop=Stop(max_iterations=5, every=5), wire=LoopbackWire())  # type: ignore[arg-type]
    values = 4 * (first + 50) * 5 * 3
    assert values <= outcome.up_bytes <= values + 30 * 10 * 3  # headers of ten messages
    assert values <= outcome.down_bytes <= values + 30 * 10 * 3


def test_the_operator_is_asked_in_the_first_round_alone() -> None:
    method, asked = build(rank=1), []

    def operator(z_D: Vector, draws: Draws) -> Vector:
        asked.append(draws.round)
        return LAYERS.operator(0)(z_D, draws)

    replica = method.init_replica(LAYERS.start())
    own = method.init_worker(replica)
    for round_ in range(6):
        draws = Draws(0, round_, SERVER)
        own, up = method.worker_step(replica, own, operator, draws.of(0))
        means = (type("Exact", (), {"dense": lambda self, up=up: up.parts[0].dense()})(),)
        _, down = method.server_step(replica, None, means, draws)
        replica = method.replay(replica, down, draws)
    assert asked == [0, 2, 4]
    assert replica.iteration == 3


def test_it_converges_to_the_mean_target() -> None:
    method = build(rank=1, rule="sgd", momentum=0.0)
    outcome = simulate(LAYERS, method, seed=0, stop=Stop(max_iterations=600, every=600), wire=LoopbackWire())  # type: ignore[arg-type]
    assert outcome.history[-1].merits["distance"] < 1e-4 * LAYERS.merits(LAYERS.start())["distance"]


def test_a_restart_keeps_moments_and_forgets_what_was_owed(play: Any) -> None:
    method = build(rank=1)
    *_, (_, last) = iterations(method, play, 4)
    before = last.next_replica
    after = restarted(method, before)
    assert after.iteration == 4
    assert np.array_equal(after.rule.second_D, before.rule.second_D)
    assert not after.factor_D[:29].any()
    assert np.array_equal(after.factor_D[29:79], before.factor_D[29:79])
    assert restarted(method, last.replica).at_half is False


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"step_size": None}, "power_sgd is outside the theory and has no proven step; give method.step_size a number"),
        ({"rank": 0}, "power_sgd.rank must be a whole number of at least 1, got 0"),
        ({"rank": 9}, r"power_sgd of rank 9 compresses none of the tensors \(\(12, 10\)"),
        ({"rule": "adagrad"}, "rule must be one of adamw, extra_adam, lamb, optimistic_adam, sgd, got 'adagrad'"),
        ({"rule": "sgd", "beta1": 0.5}, "rule 'sgd' has no parameter 'beta1'; known: weight_decay, momentum, nesterov"),
    ],
)
def test_what_does_not_fit_is_named(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(**parameters)


def test_it_needs_tensors(game: Any) -> None:
    with pytest.raises(ConfigError, match=r"power_sgd needs a problem with tensors, which .* does not name; use a network"):
        METHODS["power_sgd"](game, step_size=0.1)
