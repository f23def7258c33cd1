"""Optimizers on the replicas: torch's own results, the accounts of the memories, and what optimism is for."""

from __future__ import annotations

import dataclasses
import functools
import pickle
from typing import Any

import numpy as np
import pytest

from saddlebag.algorithms import METHODS, Message, Stop, check_method, digest, restarted, simulate
from saddlebag.algorithms.optimizer_rules import RULES, Lamb
from saddlebag.algorithms.problems import BilinearGame
from saddlebag.compression import Draws, Identity, RandK, TopK, UnscaledRandK
from saddlebag.compression.per_tensor import Tensor
from saddlebag.errors import ConfigError
from saddlebag.proto.codec import LoopbackWire

FULL, TOP, EXACT = Identity(), TopK(k=2), Identity(dtype="float64")
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
        monkeypatch.setattr("saddlebag.algorithms.update_rule._BLOCK", block)
        rules = [kind(weight_decay=0.1, decays=np.arange(1000) % 3 > 0) for kind in RULES.values()]  # type: ignore[arg-type]
        found.add(tuple(digest(rule.update(rule.init(start), value_D, 0.1)) for rule in rules))
    assert len(found) == 1


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
    assert own.averaged == 3


def test_everybody_clips_the_estimate_alike(game: BilinearGame) -> None:
    given: dict[str, Any] = {"step_size": 1.0, "memory": "innovations", "momentum": 0.0}
    method = METHODS["compressed_sgd"](game, up=EXACT, down=EXACT, clip_estimate=0.5, **given)
    replica = method.init_replica(np.zeros(8))
    after = method.replay(replica, Message((EXACT.encode(np.full(8, 7.0), Draws(0, 0)),)), Draws(0, 0))
    assert np.linalg.norm(after.z_D) == pytest.approx(0.5)
    assert np.array_equal(after.known_D, np.full(8, 7.0))  # what is known is not clipped


def test_states_survive_pickling_and_restarts(game: BilinearGame, play: Any) -> None:
    local: dict[str, Any] = {"local_steps": 2, "local_step_size": 0.1, "local_rule": "adamw_kept"}
    method = METHODS["compressed_adamw"](game, up=TOP, down=TOP, step_size=0.01, memory="innovations", momentum_up=0.5, **local)
    *_, turn = play(game, method, seed=0, num_rounds=5)
    for state in (turn.next_replica, turn.next_workers[0]):
        again = pickle.loads(pickle.dumps(state))
        assert type(again) is type(state)
        assert digest(again) == digest(state)
    assert turn.next_workers[0].local_count == 10
    after = restarted(method, turn.next_replica)
    assert (after.iteration, after.known_D.any()) == (5, False)
    assert np.array_equal(after.second_D, turn.next_replica.second_D)


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
    asked = []
    method = METHODS["compressed_sgd"](game, up=EXACT, down=EXACT, step_size=0.02, local_steps=4, local_step_size=0.1)
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


@pytest.mark.parametrize("rule", ["adamw", "adamw_kept"])
def test_local_adam_keeps_its_means_where_asked(rule: str, game: BilinearGame, play: Any) -> None:
    """The workers' own steps by torch's AdamW, and the outer step that averages their points."""
    import torch

    local: dict[str, Any] = {"local_steps": 3, "local_step_size": 0.05, "local_rule": rule}
    method = METHODS["compressed_sgd"](game, up=EXACT, down=EXACT, step_size=3 * 0.05, momentum=0.0, **local)
    points = [torch.zeros(8, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    peers = [torch.optim.AdamW([point], lr=0.05, weight_decay=0.0) for point in points]
    for turn in play(game, method, seed=0, num_rounds=4):
        for m, point in enumerate(points):
            with torch.no_grad():
                point.copy_(torch.from_numpy(turn.replica.z_D))
            if rule == "adamw":
                peers[m] = torch.optim.AdamW([point], lr=0.05, weight_decay=0.0)
            for _ in range(3):
                point.grad = torch.from_numpy(game.operator(m)(point.detach().numpy(), turn.draws))
                peers[m].step()
        mean_D = torch.stack(points).mean(dim=0).detach().numpy()
        assert np.allclose(turn.next_replica.z_D, mean_D, rtol=0, atol=1e-12)


def test_one_local_step_is_none(game: BilinearGame) -> None:
    build = functools.partial(METHODS["compressed_adamw"], game, up=TOP, down=TOP, step_size=0.02)
    stop = Stop(max_iterations=20, every=20)
    found = [
        simulate(game, method, seed=0, stop=stop, wire=LoopbackWire())
        for method in (build(), build(local_steps=1, local_step_size=0.3))
    ]
    assert digest(found[0].replica) == digest(found[1].replica)


def test_the_schedule_rises_and_falls(game: BilinearGame) -> None:
    build = functools.partial(METHODS["compressed_adamw"], game, up=FULL, down=FULL, step_size=1.0, warmup=4, total=12)
    assert [build().pace(k) for k in (0, 3, 100)] == [0.25, 1.0, 1.0]
    assert [build(schedule="linear").pace(k) for k in (4, 8, 12, 99)] == [1.0, 0.5, 0.0, 0.0]
    assert build(schedule="cosine").pace(8) == pytest.approx(0.5)


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
        ({"momentum": 0.9}, "rule 'adamw' has no parameter 'momentum'; known: weight_decay, beta1, beta2, eps"),
        ({"local_steps": 0}, r"local_steps must lie in \[1, 2\^16\), got 0"),
        ({"local_steps": 2}, "local_steps = 2 of sgd needs a positive local_step_size, got 0.0"),
    ],
)
def test_what_does_not_fit_is_named(parameters: dict[str, Any], message: str, game: BilinearGame) -> None:
    with pytest.raises(ConfigError, match=message):
        METHODS["compressed_adamw"](game, **({"up": FULL, "down": FULL, "step_size": 0.1} | parameters))
