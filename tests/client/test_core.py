"""The worker's state machine: steps can be repeated, states saved, replicas healed."""

from __future__ import annotations

import functools
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from saddlebag.algorithms import METHODS, AnyMethod, Message, Stop, digest
from saddlebag.algorithms.networks.game import ModuleGame
from saddlebag.algorithms.wrapped import start_of
from saddlebag.client.core import WorkerCore
from saddlebag.compression import Draws, Identity, TopK
from saddlebag.errors import LocalProtocolError, StateError

if TYPE_CHECKING:
    from saddlebag.algorithms.problems import BilinearGame


def test_a_step_can_be_repeated(game: BilinearGame, game_method: AnyMethod) -> None:
    core = WorkerCore(game_method, game.operator(1), game.start(), worker=1, seed=7)
    first, again = core.step(), core.step()
    assert [bytes(b) for b in first[0]] == [bytes(b) for b in again[0]]
    assert first[1] == again[1] == digest(core.replica)


def test_a_downlink_without_a_step_is_our_fault(game: BilinearGame, game_method: AnyMethod) -> None:
    core = WorkerCore(game_method, game.operator(1), game.start(), worker=1, seed=7)
    with pytest.raises(LocalProtocolError, match="no step"):
        core.apply(Message(()))


def test_what_the_next_step_will_ask_is_told_where_the_method_foresees_it(game: BilinearGame, game_method: AnyMethod) -> None:
    asked: list[Any] = []
    told: list[Any] = []

    def operator(z_D: Any, draws: Draws) -> Any:
        asked.append((z_D, draws))
        return game.operator(1)(z_D, draws)

    exact = Identity(dtype="float64")
    late = METHODS["compressed_adamw"](game, up=exact, down=exact, step_size=0.1, late=True)
    core = WorkerCore(late, operator, game.start(), worker=1, seed=7)
    core.ahead = lambda *what: told.append(what)
    core.begin(0, 5, late.init_replica(game.start()))
    for _ in range(3):
        core.step()
        core.look_ahead()
        core.apply(Message((exact.encode(np.ones(game.dimension), Draws(7, core.round)),)))
    core.step()
    assert [draws.round for _, draws in told] == [6, 7, 8]
    for (point_D, key), (z_D, draws) in zip(told, asked[1:], strict=True):
        assert point_D is z_D
        assert key == draws
    other = WorkerCore(game_method, game.operator(1), game.start(), worker=1, seed=7)
    other.ahead = core.ahead
    other.step()
    other.look_ahead()
    assert len(told) == 3


def test_capture_and_restore(game: BilinearGame, game_method: AnyMethod, network: Any) -> None:
    net = network(game, game_method, Stop(max_rounds=30), rng=random.Random(0), checkpoint_every=10)
    net.run()
    core = net.workers[3]
    arrays, meta = core.capture()
    copy = WorkerCore(game_method, game.operator(3), game.start(), worker=3, seed=7)
    copy.restore(arrays, meta)
    assert (copy.round, copy.epoch, digest(copy.replica)) == (core.round, core.epoch, digest(core.replica))
    assert [bytes(b) for b in copy.step()[0]] == [bytes(b) for b in core.step()[0]]
    del arrays["worker.operator_w_D"]
    with pytest.raises(StateError, match="operator_w_D is missing"):
        copy.restore(arrays, meta)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("ogda", {"step_size": "auto"}),
        ("compressed_adamw", {"memory": "innovations", "momentum_up": 0.5, "late": True}),
        ("compressed_sgd", {"local_steps": 2, "local_step_size": 0.1, "local_rule": "adamw_kept"}),
    ],
)
@pytest.mark.parametrize("stepped", [False, True])
def test_nested_states_come_back_in_the_middle_of_a_round(
    game: BilinearGame, name: str, given: dict[str, Any], stepped: bool
) -> None:
    compressors = {"up": TopK(k=2), "down": TopK(k=2)} if name.startswith("compressed") else {}
    method = METHODS[name](game, **({"step_size": 0.01} | compressors | given))

    def fresh() -> WorkerCore:
        return WorkerCore(method, game.operator(1), game.start(), worker=1, seed=7)

    core = fresh()
    for round_ in range(5):
        core.step()
        core.apply(Message((TopK(k=2).encode(np.arange(1.0 * len(game.start())) - round_, Draws(0, round_)),)))
    if stepped:
        core.step()
    arrays, meta = core.capture()
    copy = fresh()
    copy.restore(arrays, meta)
    assert {name: array.tobytes() for name, array in copy.capture()[0].items()} == {
        name: array.tobytes() for name, array in arrays.items()
    }
    assert [bytes(b) for b in copy.step()[0]] == [bytes(b) for b in core.step()[0]]
    with pytest.raises(StateError, match="is of version 1, this release reads version 2"):
        copy.restore(arrays, {**meta, "version": 1})


def still() -> dict[str, torch.nn.Module]:
    line = torch.nn.Linear(3, 1)
    torch.nn.init.constant_(line.weight, 0.5)
    torch.nn.init.constant_(line.bias, 0.25)
    return {"line": line}


@pytest.mark.parametrize("stepped", [False, True])
def test_a_narrow_state_is_kept_once_and_comes_back_where_nothing_was(stepped: bool) -> None:
    problem = ModuleGame(
        build=still,
        loss=lambda players, batch, chance: (players["line"](batch[0]) - 1.0).square().mean(),
        data=tuple((np.random.default_rng(m).standard_normal((4, 3)),) for m in range(2)),
    )
    method = METHODS["diloco"](problem, up=TopK(k=2), down=TopK(k=2), local_steps=2, precision="float32")
    core = WorkerCore(method, problem.operator(1), functools.partial(start_of, method, problem), worker=1, seed=7)
    for round_ in range(3):
        core.step()
        core.apply(Message((TopK(k=2).encode(np.arange(1.0 * problem.dimension) - round_, Draws(0, round_)),)))
    if stepped:
        core.step()
    arrays, meta = core.capture()
    assert not any(name.startswith("next.") for name in arrays), "it is the one of the worker"
    kept = {name: array.copy() for name, array in arrays.items()}
    copy = WorkerCore(method, problem.operator(1), functools.partial(start_of, method, problem), worker=1, seed=7)
    copy.forget()
    assert copy.dimension == problem.dimension
    copy.restore({name: array.copy() for name, array in kept.items()}, meta)
    assert {name: array.tobytes() for name, array in copy.capture()[0].items()} == {
        name: array.tobytes() for name, array in kept.items()
    }
    assert b"".join(copy.step()[0]) == b"".join(core.step()[0])
