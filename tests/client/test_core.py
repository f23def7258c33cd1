"""The worker's state machine: steps can be repeated, states saved, replicas healed."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from saddlebag.algorithms import AnyMethod, Message, Stop, digest
from saddlebag.client.core import WorkerCore
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
