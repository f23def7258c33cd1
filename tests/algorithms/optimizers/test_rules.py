"""Update rules on the replicas: torch's own results, closed forms, and what optimism is for."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from saddlebag.algorithms import METHODS, Message, Stop, digest, simulate
from saddlebag.algorithms.optimizers.rules import RULES, Lamb
from saddlebag.algorithms.problems import BilinearGame
from saddlebag.compression import Draws, Identity
from saddlebag.compression.combinators.per_tensor import Tensor
from saddlebag.proto.codec import LoopbackWire

EXACT = Identity(dtype="float64")


class Quadratic(BilinearGame):
    """Any problem with tensors: a matrix that decays and a vector that does not."""

    @property
    def tensors(self) -> list[Tensor]:
        return [Tensor("weight", (2, self.dimension // 2 - 1)), Tensor("bias", (2,))]


def steps(method: Any, problem: Any, count: int) -> list[Any]:
    """The replicas of `count` iterations with exact messages."""
    replica = method.init_replica(problem.start() + 1.0)
    found = [replica]
    for round_ in range(count):
        draws = Draws(0, round_)
        value_D = np.mean([problem.operator(m)(method._point(replica), draws) for m in range(3)], axis=0)
        if method.memory == "innovations":
            value_D = value_D - replica.known_D
        replica = method.replay(replica, Message((method.down.encode(value_D, draws),)), draws)
        found.append(replica)
    return found


@pytest.mark.parametrize("memory", ["feedback", "innovations"])
@pytest.mark.parametrize(
    ("optimizer", "given"),
    [("AdamW", {"weight_decay": 0.1}), ("SGD", {"momentum": 0.9}), ("SGD", {"momentum": 0.8, "nesterov": True})],
)
def test_it_is_torchs_own_optimizer(optimizer: str, given: dict[str, Any], memory: str) -> None:
    import torch

    game = Quadratic(n=4, num_workers=3, regularisation=0.3)
    name = f"compressed_{optimizer.lower()}"
    method = METHODS[name](game, up=EXACT, down=EXACT, step_size=0.02, memory=memory, **given)
    z = torch.from_numpy(game.start() + 1.0)
    weight, bias = z[:6].clone().requires_grad_(), z[6:].clone().requires_grad_()
    groups: list[dict[str, Any]] = [{"params": [weight], **given}, {"params": [bias], **given, "weight_decay": 0.0}]
    peer: Any = getattr(torch.optim, optimizer)(groups, lr=0.02)
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


def slow_lamb(z: list[Any], values: list[list[Any]], step: float, decay: list[float]) -> list[Any]:
    """Algorithm 2 of You et al., tensor by tensor."""
    first, second = [0.0 * x for x in z], [0.0 * x for x in z]
    for t, value in enumerate(values, start=1):
        for i, g in enumerate(value):
            first[i] = 0.9 * first[i] + 0.1 * g
            second[i] = 0.999 * second[i] + 0.001 * g**2
            ratio = first[i] / (1 - 0.9**t) / (np.sqrt(second[i] / (1 - 0.999**t)) + 1e-8) + decay[i] * z[i]
            z[i] = z[i] - step * np.linalg.norm(z[i]) / np.linalg.norm(ratio) * ratio
    return z


def test_lamb_is_its_algorithm_tensor_by_tensor() -> None:
    rng = np.random.default_rng(0)
    start, values_TD = rng.standard_normal(20_000), rng.standard_normal((12, 20_000))  # more than a block
    cut = [9_000, 9_003]
    decays: Any = np.arange(20_000) < cut[0]
    rule = Lamb(layers=(9_000, 3, 10_997), weight_decay=0.1, decays=decays)
    replica = rule.init(start)
    for value_D in values_TD:
        replica = rule.update(replica, value_D, 0.05)
    slow = slow_lamb(np.split(start, cut), [np.split(value_D, cut) for value_D in values_TD], 0.05, [0.1, 0.0, 0.0])
    assert np.allclose(replica.z_D, np.concatenate(slow), rtol=0, atol=1e-12)


def test_optimistic_and_extra_adam_by_hand() -> None:
    """Three steps of scalars; u_t is Adam's direction."""
    g, step = [1.0, -0.5, 2.0], 0.1
    m = v = 0.0
    u: list[float] = []
    for t, value in enumerate(g, start=1):
        m, v = 0.5 * m + 0.5 * value, 0.9 * v + 0.1 * value**2
        u.append(m / (1 - 0.5**t) / (np.sqrt(v / (1 - 0.9**t)) + 1e-8))
    expected = {
        "optimistic_adam": 3.0 - step * (u[0] + (2 * u[1] - u[0]) + (2 * u[2] - u[1])),
        "extra_adam": 3.0 - step * sum(u),
    }
    for name, z in expected.items():
        rule: Any = RULES[name](beta1=0.5)  # type: ignore[call-arg]
        replica = rule.init(np.array([3.0]))
        for value in g:
            replica = rule.update(replica, np.array([value]), step)
        assert replica.z_D[0] == pytest.approx(z, rel=1e-14)
        assert replica.past_D[0] == pytest.approx(u[2], rel=1e-14)
    assert rule.point(replica, step)[0] == pytest.approx(z - step * u[2], rel=1e-14)


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    start, value_D = rng.standard_normal((2, 1000))
    found = set()
    for block in (7, 1 << 13):
        monkeypatch.setattr("saddlebag.algorithms.optimizers.rule._BLOCK", block)
        rules = [kind(weight_decay=0.1, decays=np.arange(1000) % 3 > 0) for kind in RULES.values()]  # type: ignore[arg-type]
        found.add(tuple(digest(rule.update(rule.init(start), value_D, 0.1)) for rule in rules))
    assert len(found) == 1


@dataclasses.dataclass(frozen=True)
class Rotation:
    """min over x, max over y of x y: F(x, y) = (y, -x), whose saddle point is 0."""

    name: str = "rotation"
    dimension: int = 2
    num_workers: int = 2
    constants: None = None
    unconstrained: bool = True

    def start(self) -> Any:
        return np.array([1.0, 0.5])

    def operator(self, worker: int) -> Any:
        return lambda z_D, draws: np.array([z_D[1], -z_D[0]])

    def prox(self, v_D: Any, step_size: float) -> Any:
        return v_D

    def merits(self, z_D: Any) -> dict[str, float]:
        return {"distance": float(np.linalg.norm(z_D))}


def test_optimism_finds_the_centre_that_plain_rules_go_round() -> None:
    """Measured: SGD 13.6, Adam 3.0, optimistic and extra Adam below 1e-60, from 1.12 on; with beta1 = 0.5 both go outward."""
    rotation: Any = Rotation()

    def distance(name: str, **keys: Any) -> float:
        method = METHODS[name](rotation, up=EXACT, down=EXACT, step_size=0.05, **keys)
        stop = Stop(max_iterations=2000, every=2000)
        return simulate(rotation, method, seed=0, stop=stop, wire=LoopbackWire()).history[-1].merits["distance"]

    start = rotation.merits(rotation.start())["distance"]
    grown = start * (1.0 + 0.05**2) ** (2000 / 2)  # every plain step multiplies the distance by sqrt(1 + step^2)
    assert distance("compressed_sgd", momentum=0.0) == pytest.approx(grown, rel=1e-9)
    assert distance("compressed_adamw", beta1=0.0) > 2 * start
    for name in ("compressed_optimistic_adam", "compressed_extra_adam"):
        assert distance(name, beta1=0.0, beta2=0.999) < 1e-30
        assert distance(name, beta1=0.5, beta2=0.999) > 2 * start, "momentum undoes optimism: the default is beta1 = 0"
        assert distance(name, total=2000, schedule="linear") < 1e-3  # the defaults
