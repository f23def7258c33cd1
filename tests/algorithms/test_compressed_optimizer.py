"""Optimizers on the replicas: torch's own results, the accounts of the memories, and what optimism is for."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

from saddlebag.algorithms import METHODS, Stop, check_method, simulate
from saddlebag.algorithms.optimizer_rules import RULES, Lamb
from saddlebag.algorithms.problems import BilinearGame
from saddlebag.compression import Draws, Identity, RandK, TopK, UnscaledRandK
from saddlebag.compression.per_tensor import Tensor
from saddlebag.errors import ConfigError
from saddlebag.proto.codec import LoopbackWire

FULL, TOP = Identity(), TopK(k=2)
NAMES = sorted(f"compressed_{rule}" for rule in RULES)


class Quadratic(BilinearGame):
    """Any problem with tensors: a matrix that decays and a vector that does not."""

    @property
    def tensors(self) -> list[Tensor]:
        return [Tensor("weight", (2, self.dimension // 2 - 1)), Tensor("bias", (2,))]


@pytest.fixture
def game() -> BilinearGame:
    return BilinearGame(n=4, num_workers=3, regularisation=0.3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("up", [FULL, TOP, UnscaledRandK(k=3)], ids=["identity", "top_k", "rand_k"])
def test_the_laws_of_a_method(name: str, up: Any, game: BilinearGame) -> None:
    method = METHODS[name](game, up=up, down=TOP, step_size=0.05, weight_decay=0.01, clip_norm=5.0, warmup=3)
    check_method(method, game, wire=LoopbackWire())


def steps(method: Any, problem: Any, count: int) -> list[Any]:
    """The replicas of `count` iterations with exact messages."""
    replica = method.init_replica(problem.start() + 1.0)
    found = [replica]
    for round_ in range(count):
        draws = Draws(0, round_)
        value_D = np.mean(
            [problem.operator(m)(method.rule.point(replica, method.pace(round_)), draws) for m in range(3)], axis=0
        )
        payload = method.down.encode(value_D, draws)
        replica = method.replay(replica, type("M", (), {"parts": (payload,)})(), draws)
        found.append(replica)
    return found


@pytest.mark.parametrize(("name", "optimizer"), [("compressed_adamw", "AdamW"), ("compressed_sgd", "SGD")])
def test_it_is_torchs_own_optimizer(name: str, optimizer: str) -> None:
    import torch

    game = Quadratic(n=4, num_workers=3, regularisation=0.3)
    decay = {"weight_decay": 0.1} if optimizer == "AdamW" else {}
    method = METHODS[name](game, up=Identity(dtype="float64"), down=Identity(dtype="float64"), step_size=0.02, **decay)
    z = torch.from_numpy(game.start() + 1.0)
    weight, bias = z[:6].clone().requires_grad_(), z[6:].clone().requires_grad_()
    groups: list[dict[str, Any]] = [{"params": [weight], **decay}, {"params": [bias], "weight_decay": 0.0}]
    peer: Any = torch.optim.AdamW(groups, lr=0.02) if optimizer == "AdamW" else torch.optim.SGD(groups, lr=0.02, momentum=0.9)
    for replica in steps(method, game, 50):
        ours_D, theirs_D = replica.z_D, torch.cat((weight, bias)).detach().numpy()
        assert np.allclose(ours_D, theirs_D, rtol=1e-12, atol=1e-12)
        value_D = np.mean([game.operator(m)(theirs_D, Draws(0, 0)) for m in range(3)], axis=0)
        weight.grad, bias.grad = torch.from_numpy(value_D[:6]), torch.from_numpy(value_D[6:])
        peer.step()


def test_lamb_moves_each_tensor_by_the_step_times_its_own_norm() -> None:
    rng = np.random.default_rng(0)
    rule = Lamb(layers=(3, 4), weight_decay=0.1)
    before = rule.init(rng.standard_normal(7))
    after = rule.update(before, rng.standard_normal(7), 0.05)
    for here in (slice(0, 3), slice(3, 7)):
        moved = np.linalg.norm(after.z_D[here] - before.z_D[here])
        assert moved == pytest.approx(0.05 * np.linalg.norm(before.z_D[here]), rel=1e-12)
    flat = rule.init(np.zeros(7))
    assert np.linalg.norm(rule.update(flat, np.ones(7), 0.05).z_D) > 0  # tensors at zero leave it at Adam's own step


def test_sent_and_owed_are_what_came_in(game: BilinearGame) -> None:
    method = METHODS["compressed_adamw"](game, up=TOP, down=TOP, step_size=0.01)
    replica, draws = method.init_replica(game.start()), Draws(0, 0, 1)
    own, inputs_D, sent_D = method.init_worker(replica), np.zeros(8), np.zeros(8)
    for round_ in range(30):
        point_D = np.random.default_rng(round_).standard_normal(8)
        inputs_D += game.operator(1)(point_D, draws)
        own, message = method.worker_step(method.init_replica(point_D), own, game.operator(1), draws)
        sent_D += message.parts[0].dense()
    assert np.allclose(sent_D + own.owed_D, inputs_D, atol=1e-5)


def test_one_worker_with_the_mean_is_all_workers_without_compression(game: BilinearGame) -> None:
    exact = Identity(dtype="float64")
    method = METHODS["compressed_adamw"](game, up=exact, down=exact, step_size=0.02)
    found = simulate(game, method, seed=0, stop=Stop(max_iterations=20, every=20), wire=LoopbackWire())
    replica = method.init_replica(game.start())
    for _ in range(20):
        value_D = np.mean([game.operator(m)(replica.z_D, Draws(0, 0)) for m in range(3)], axis=0)
        replica = method.rule.update(replica, value_D, 0.02)
    assert np.allclose(found.replica.z_D, replica.z_D, rtol=1e-12, atol=1e-13)


def test_clipping_bounds_what_a_worker_sends(game: BilinearGame) -> None:
    exact = Identity(dtype="float64")
    method = METHODS["compressed_sgd"](game, up=exact, down=exact, step_size=0.02, clip_norm=0.5)
    replica = method.init_replica(game.start() + 10.0)
    _, message = method.worker_step(replica, method.init_worker(replica), game.operator(0), Draws(0, 0, 0))
    assert np.linalg.norm(message.parts[0].dense()) == pytest.approx(0.5)


def test_local_steps_send_the_mean_of_the_values_on_the_way(game: BilinearGame) -> None:
    exact, asked = Identity(dtype="float64"), []
    build = functools.partial(METHODS["compressed_sgd"], game, up=exact, down=exact, step_size=0.02)
    method = build(local_steps=4, local_step_size=0.1)
    values = []

    def operator(z_D: Any, draws: Draws) -> Any:
        asked.append(draws)
        values.append(game.operator(0)(z_D, draws))
        return values[-1]

    replica = method.init_replica(game.start() + 1.0)
    _, message = method.worker_step(replica, method.init_worker(replica), operator, Draws(0, 5, 0))
    assert np.allclose(message.parts[0].dense(), np.mean(values, axis=0), rtol=1e-10)
    assert len({draws.round for draws in asked}) == 4  # a batch of its own for each
    assert asked[0] == Draws(0, 5, 0)


def test_the_schedule_rises_and_falls(game: BilinearGame) -> None:
    build = functools.partial(METHODS["compressed_adamw"], game, up=FULL, down=FULL, step_size=1.0, warmup=4, total=12)
    assert [build().pace(k) for k in (0, 3, 100)] == [0.25, 1.0, 1.0]
    assert [build(schedule="linear").pace(k) for k in (4, 8, 12, 99)] == [1.0, 0.5, 0.0, 0.0]
    assert build(schedule="cosine").pace(8) == pytest.approx(0.5)


def test_optimism_comes_nearer_to_a_saddle_point_than_plain_adam() -> None:
    game = BilinearGame(n=4, num_workers=3, regularisation=0.02, heterogeneity=0.0)

    def error(name: str) -> float:
        steps = {"step_size": 0.1, "beta1": 0.5, "beta2": 0.9, "total": 2000, "schedule": "linear"}
        method = METHODS[name](game, up=FULL, down=FULL, **steps)
        stop = Stop(max_iterations=2000, every=2000)
        return simulate(game, method, seed=0, stop=stop, wire=LoopbackWire()).history[-1].merits["relative_error"]

    plain = error("compressed_adamw")
    assert error("compressed_optimistic_adam") < 0.5 * plain  # measured: 0.30
    assert error("compressed_extra_adam") < 0.5 * plain  # 0.31


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"step_size": None}, "compressed_adamw is outside the theory and has no proven step; give method.step_size a number"),
        ({"up": RandK(k=2)}, r"need a contractive compressor up, got RandK\(.*\) \(unbiased\)"),
        ({"beta1": 1.0}, r"beta1 must lie in \[0, 1\), got 1.0"),
        ({"eps": 0.0}, "eps must be positive, got 0.0"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0, got -1.0"),
        ({"clip_norm": 0.0}, "clip_norm must be positive, got 0.0"),
        ({"schedule": "linear"}, "schedule 'linear' needs total above warmup = 0, got total = 0"),
        ({"schedule": "steps"}, "schedule must be one of constant, linear, cosine, got 'steps'"),
        ({"warmup": -1}, "warmup and total must be at least 0, got -1 and 0"),
        ({"local_steps": 0}, "local_steps must be at least 1, got 0"),
        ({"local_steps": 2}, "local_steps = 2 needs a positive local_step_size, got 0.0"),
    ],
)
def test_what_does_not_fit_is_named(parameters: dict[str, Any], message: str, game: BilinearGame) -> None:
    with pytest.raises(ConfigError, match=message):
        METHODS["compressed_adamw"](game, **({"up": FULL, "down": FULL, "step_size": 0.1} | parameters))
