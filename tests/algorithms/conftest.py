"""Small problems whose workers differ, and a driver that shows every state of every round."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from saddlebag.algorithms import AnyMethod, Message, Problem, form_means
from saddlebag.algorithms.problems import BilinearGame, Dataset, DenseRows, RobustLogisticRegression
from saddlebag.compression import SERVER, Draws
from saddlebag.proto.codec import LoopbackWire


@dataclasses.dataclass(frozen=True)
class Turn:
    """One round: the states before and after it, and the messages as received."""

    draws: Draws
    replica: Any
    workers: tuple[Any, ...]
    server: Any
    ups: tuple[Message, ...]
    down: Message
    next_replica: Any
    next_workers: tuple[Any, ...]
    next_server: Any


Play = Callable[..., Iterator[Turn]]


def _play(problem: Problem, method: AnyMethod, *, seed: int, num_rounds: int) -> Iterator[Turn]:
    wire = LoopbackWire()
    operators = [problem.operator(worker) for worker in range(problem.num_workers)]
    replica = method.init_replica(problem.start())
    workers = tuple(method.init_worker(replica) for _ in operators)
    server = method.init_server(replica)
    for round_ in range(num_rounds):
        draws = Draws(seed, round_, SERVER)
        sizes = method.uplink_sizes(replica, draws)
        steps = [method.worker_step(replica, workers[m], operators[m], draws.of(m)) for m in range(len(operators))]
        ups = tuple(wire.carry(message, sizes, draws.of(m))[0] for m, (_, message) in enumerate(steps))
        next_workers = tuple(own for own, _ in steps)
        next_server, down = method.server_step(replica, server, form_means(sizes, iter(ups), len(ups)), draws)
        down, _ = wire.carry(down, method.downlink_sizes(replica, draws), draws)
        next_replica = method.replay(replica, down, draws)
        yield Turn(draws, replica, workers, server, ups, down, next_replica, next_workers, next_server)
        replica, workers, server = next_replica, next_workers, next_server


@pytest.fixture
def play() -> Play:
    return _play


@pytest.fixture
def wire() -> LoopbackWire:
    return LoopbackWire()


@pytest.fixture(scope="session")
def game() -> BilinearGame:
    """D = 20, four different workers, kappa = 20."""
    return BilinearGame(n=10, num_workers=4, regularisation=0.05)


def _robust(num_rows: int, num_features: int, num_workers: int) -> RobustLogisticRegression:
    rng = np.random.default_rng(11)
    values_NF = rng.standard_normal((num_rows, num_features))
    labels_N = np.where(values_NF @ rng.standard_normal(num_features) + 0.5 * rng.standard_normal(num_rows) > 0, 1.0, -1.0)
    data = Dataset("random", DenseRows(values_NF), labels_N)
    return RobustLogisticRegression.build(data, num_workers=num_workers, split="label_skew")


@pytest.fixture(scope="session")
def robust() -> RobustLogisticRegression:
    """F = 4, N = 30, three workers by label; the simplex is active at the solution."""
    return _robust(30, 3, 3)


@pytest.fixture(scope="session")
def tiny_robust() -> RobustLogisticRegression:
    """D = 6: small enough to enumerate the supports of two workers."""
    return _robust(4, 1, 2)
