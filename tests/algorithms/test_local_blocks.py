"""Blocks that stay with their workers: descent-ascent on both blocks by hand, states that survive, and what is refused."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from saddlebag.algorithms import METHODS, Stop, check_method, make_method, restarted, simulate
from saddlebag.algorithms.base import Message
from saddlebag.algorithms.local_blocks import KeepsBlocks, with_local_blocks
from saddlebag.algorithms.networks.game import ModuleGame
from saddlebag.algorithms.networks.local import LocalBlock
from saddlebag.algorithms.problems import BilinearGame
from saddlebag.algorithms.state import pack, unpack
from saddlebag.client.core import WorkerCore
from saddlebag.compression import Draws, Identity, RandK, TopK
from saddlebag.errors import ConfigError, StateError
from saddlebag.proto.checkpoint import CheckpointStore
from saddlebag.proto.codec import LoopbackWire

if TYPE_CHECKING:
    from pathlib import Path

EXACT = Identity(dtype="float64")
STEP, ASCENT = 0.1, 0.3


class Point(nn.Module):
    """theta."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor([1.0, -1.0]))


def loss(players: Any, batch: Any, chance: Any) -> torch.Tensor:
    """mean_i (|theta - x_i|^2 / 2 + theta . rho_i - |rho_i|^2 / 2): strongly convex and concave."""
    x_BF, rho_BF = batch
    theta = players["point"].theta
    return (0.5 * (theta - x_BF).square() + theta * rho_BF - 0.5 * rho_BF.square()).sum(1).mean()


def game(**keys: Any) -> ModuleGame:
    def raised(rho_BF: torch.Tensor, slope_BF: torch.Tensor, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return rho_BF + ASCENT * len(rho_BF) * slope_BF  # of the sample's own loss, not of the mean

    rng = np.random.default_rng(0)
    return ModuleGame(
        build=lambda: {"point": Point()},
        loss=loss,
        data=tuple((rng.standard_normal((6, 2)),) for _ in range(3)),
        local=LocalBlock(shape=lambda arrays: (arrays[0].shape[1],), move=raised),
        precision="float64",
        **keys,
    )


def made(problem: Any, **keys: Any) -> KeepsBlocks:
    method = make_method("compressed_sgd", problem, up=EXACT, down=EXACT, step_size=STEP, momentum=0.0, **keys)
    assert isinstance(method, KeepsBlocks)
    return method


def test_a_run_is_simultaneous_descent_and_ascent_on_both_blocks() -> None:
    problem = game()
    run = simulate(problem, made(problem), seed=0, stop=Stop(max_rounds=40), wire=LoopbackWire())
    theta, x, rho = np.array([1.0, -1.0]), np.stack([arrays[0] for arrays in problem.data]), np.zeros((3, 6, 2))
    for _ in range(40):
        theta, rho = theta - STEP * (theta - x + rho).mean((0, 1)), rho + ASCENT * (theta - rho)
    assert np.allclose(run.replica.z_D, theta, rtol=1e-12)
    assert np.allclose(theta, x.mean((0, 1)) / 2, atol=0.01), "near the saddle point, where rho = theta"
    assert run.up_bytes < 40 * 3 * (2 * 8 + 16), "two coordinates of 18 travel"


def test_accumulated_parts_move_the_same_rows() -> None:
    whole, parts = game(batch_size=4), game(batch_size=4, accumulate=2)
    z_D, draws = whole.start(), Draws(0, 7, 1)
    block_E = np.random.default_rng(1).standard_normal(12)
    (value_D, after_E), (value2_D, after2_E) = (problem.step(1, z_D, block_E.copy(), draws) for problem in (whole, parts))
    assert np.allclose(value_D, value2_D, rtol=1e-12)
    assert np.allclose(after_E, after2_E, rtol=1e-12)
    assert (after_E != block_E).reshape(6, 2).any(1).sum() == 4, "the rows of the batch, and no other"


def test_batches_are_kept_for_some_rounds() -> None:
    problem, z_D = game(batch_size=3, replays=4), np.zeros(2)

    def rows(round_: int) -> tuple[int, ...]:
        _, after_E = problem.step(0, z_D, np.ones(12), Draws(5, round_, 0))
        return tuple(np.flatnonzero((after_E != 1.0).reshape(6, 2).any(1)))

    found = [rows(round_) for round_ in range(12)]
    assert [len(set(found[at : at + 4])) for at in (0, 4, 8)] == [1, 1, 1]
    assert len(set(found)) > 1


def test_the_step_is_a_function_and_the_state_survives_a_checkpoint() -> None:
    problem = game(batch_size=4)
    method = made(problem)
    replica, draws = method.init_replica(problem.start()), Draws(0, 0, 2)
    own, _ = method.worker_step(replica, method.init_worker(replica), problem.operator(2), draws)
    before = own.block_E.copy()
    steps = [method.worker_step(replica, state, problem.operator(2), Draws(0, 1, 2)) for state in (own, own)]
    restored = unpack(method.init_worker(replica), pack(own, "worker."), "worker.")
    steps.append(method.worker_step(replica, restored, problem.operator(2), Draws(0, 1, 2)))
    assert np.array_equal(own.block_E, before)
    for state, message in steps[1:]:
        assert np.array_equal(state.block_E, steps[0][0].block_E)
        assert np.array_equal(message.parts[0].dense(), steps[0][1].parts[0].dense())


def test_a_worker_that_dies_at_any_round_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    problem = game(batch_size=4)
    store = CheckpointStore(tmp_path, "worker-1")

    def core() -> WorkerCore:
        return WorkerCore(made(problem), problem.operator(1), problem.start(), worker=1, seed=0)

    steady, mortal = core(), core()
    for round_ in range(4):
        store.save(round_, *mortal.capture())
        mortal = core()
        mortal.restore(*store.load(round_))
        steady_up, mortal_up = (b"".join(each.step()[0]) for each in (steady, mortal))
        assert steady_up == mortal_up
        for each in (steady, mortal):
            each.apply(Message((EXACT.encode(np.array([0.1, -0.2]) * round_, Draws(0, round_)),)))
    assert np.array_equal(steady.capture()[0]["worker.block_E"], mortal.capture()[0]["worker.block_E"])


def test_on_a_problem_without_blocks_nothing_changes() -> None:
    problem = BilinearGame(n=4, num_workers=3)
    method = METHODS["compressed_sgd"](problem, up=TopK(k=3), down=TopK(k=3), step_size=0.05)
    check_method(with_local_blocks(method), problem, wire=LoopbackWire())


def test_a_new_epoch_keeps_what_the_method_keeps() -> None:
    """A rule's moving means and the place in its schedule, as without blocks."""
    problem = game()
    method = made(problem, memory="innovations")
    replica = simulate(problem, method, seed=0, stop=Stop(max_rounds=5), wire=LoopbackWire()).replica
    after = restarted(method, replica)
    assert (after.iteration, after.known_D.any()) == (5, False)
    assert np.array_equal(after.rule.first_D, replica.rule.first_D)


def test_what_does_not_fit_is_refused() -> None:
    problem = game()
    with pytest.raises(ConfigError, match="keeps local blocks: make its method with make_method"):
        METHODS["ogda"](problem, step_size=0.1).worker_step(
            made(problem).init_replica(problem.start()), None, problem.operator(0), Draws(0, 0, 0)
        )
    with pytest.raises(ConfigError, match="local blocks cannot be divided among ranks"):
        problem.part(0, 0, 2)
    with pytest.raises(ConfigError, match="local blocks need all workers in every round"):
        make_method("masha1", problem, up=RandK(k=1), down=Identity(), step_size=0.1, probability=0.5, participants=1)
    with pytest.raises(ConfigError, match="local blocks need a number for step_size"):
        make_method("ogda", problem, step_size="auto")
    method = made(problem)
    replica = method.init_replica(problem.start())
    wrong = dataclasses.replace(method.init_worker(replica), block_E=np.zeros(5))
    with pytest.raises(StateError, match="the worker's block must have 12 coordinates, got 5"):
        method.worker_step(replica, wrong, problem.operator(0), Draws(0, 0, 0))
