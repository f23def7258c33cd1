"""A node of several ranks, as threads of this process with gloo between them: its operator is the mean of the parts."""

from __future__ import annotations

import datetime
import os
import queue
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from saddlebag.algorithms import Stop, masha1, simulate
from saddlebag.algorithms.problems import FiniteBilinearGame
from saddlebag.algorithms.problems.division import divided, part_of, tree_mean
from saddlebag.client.group import NodeGroup
from saddlebag.compression import SERVER, Draws, Natural, RandK
from saddlebag.errors import LocalProtocolError, NotFiniteError, PeerLost
from saddlebag.proto.codec import LoopbackWire

if TYPE_CHECKING:
    from collections.abc import Callable

    from saddlebag.algorithms import Operator

GAME = FiniteBilinearGame(n=5, num_workers=1, num_samples=11)


@pytest.fixture(autouse=True)
def _loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "GLOO_SOCKET_IFNAME", "lo")


class Node:
    """Followers in threads, the leader in this one."""

    def __init__(self, ranks: int, part: Callable[[int], Operator], *, timeout_s: float = 30.0) -> None:
        self._store, self._ranks, self._timeout_s = dist.HashStore(), ranks, timeout_s
        self.ends: queue.Queue[Any] = queue.Queue()
        self._threads = [
            threading.Thread(target=self._follow, args=(rank, part(rank)), daemon=True) for rank in range(1, ranks)
        ]
        for thread in self._threads:
            thread.start()
        self.leader = self._group(0)
        self.operator = self.leader.operator(part(0))

    def _group(self, rank: int) -> NodeGroup:
        timeout = datetime.timedelta(seconds=self._timeout_s)
        gloo = dist.ProcessGroupGloo(dist.PrefixStore("node", self._store), rank, self._ranks, timeout)
        return NodeGroup(gloo, timeout_s=self._timeout_s)

    def _follow(self, rank: int, part: Operator) -> None:
        try:
            self.ends.put(self._group(rank).follow(part, GAME.dimension))
        except Exception as error:
            self.ends.put(error)

    def stop(self, status: int = 0) -> list[Any]:
        """End the run; what the followers end with."""
        self.leader.stop(status)
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive(), "a follower hangs"
        return [self.ends.get_nowait() for _ in self._threads]


def part(rank: int, ranks: int) -> Operator:
    return part_of(GAME, 0, rank, ranks)


@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_a_node_gives_the_bits_of_one_process_that_computes_the_parts(ranks: int) -> None:
    method = masha1(GAME, up=RandK(fraction=0.5), down=Natural(), step_size=0.1)
    node = Node(ranks, lambda rank: part(rank, ranks))

    class OnANode(FiniteBilinearGame):
        def operator(self, worker: int) -> Any:
            return node.operator

    together = OnANode(n=5, num_workers=1, num_samples=11)
    runs = [
        simulate(problem, method, seed=2**63 + 5, stop=Stop(max_rounds=25), wire=LoopbackWire())
        for problem in (together, divided(GAME, ranks))
    ]
    assert node.stop() == [0] * (ranks - 1)
    np.testing.assert_array_equal(runs[0].replica.z_D, runs[1].replica.z_D)
    assert node.leader.evaluations >= 25
    assert node.leader.evaluate_s > 0
    assert node.leader.exchange_s > 0


def test_a_node_of_one_rank_asks_its_part_and_copies_nothing() -> None:
    z_D, value_D = GAME.start(), np.ones(GAME.dimension)
    asked: list[Any] = []
    node = Node(1, lambda rank: lambda point_D, draws: asked.append((point_D, draws)) or value_D)
    assert node.operator(z_D, Draws(1, 2, 0)) is value_D
    assert asked[0][0] is z_D
    assert asked[0][1] == Draws(1, 2, 0)
    assert node.leader.evaluations == 1
    assert node.leader.exchange_s == 0.0
    assert node.stop() == []


def test_every_rank_sees_the_point_and_the_key() -> None:
    seen: dict[int, list[Any]] = {0: [], 1: [], 2: []}

    def spy(rank: int) -> Operator:
        def ask(z_D: Any, draws: Draws) -> Any:
            seen[rank].append((z_D.copy(), draws))
            return np.full(GAME.dimension, float(rank))

        return ask

    node = Node(3, spy)
    keys = [Draws(2**64 - 1, 2**48 + 7, 3), Draws(0, 0, SERVER)]
    for number, key in enumerate(keys):
        assert (node.operator(np.arange(GAME.dimension) * 0.1 + number, key) == 1.0).all()
    node.stop()
    for rank in range(3):
        assert [key for _, key in seen[rank]] == keys
        for number, (z_D, _) in enumerate(seen[rank]):
            np.testing.assert_array_equal(z_D, np.arange(GAME.dimension) * 0.1 + number)


def test_parts_that_compute_on_the_device_are_asked_there() -> None:
    class Part:
        exact_dtype = torch.float64

        def __init__(self, rank: int) -> None:
            self.rank = rank

        def __call__(self, z_D: Any, draws: Draws) -> Any:
            raise AssertionError("over the host")

        def on_device(self, z_D: torch.Tensor, draws: Draws) -> torch.Tensor:
            return z_D * (1 + self.rank)

    node, z_D = Node(2, Part), np.arange(GAME.dimension, dtype=float)
    np.testing.assert_array_equal(node.operator(z_D, Draws(0, 0, 0)), 1.5 * z_D)
    assert node.stop() == [0]


@pytest.mark.parametrize("ranks", [2, 5])
def test_parts_that_are_float32_numbers_travel_as_such_and_are_added_as_float64(ranks: int) -> None:
    class Part:
        exact_dtype = torch.float32

        def __init__(self, rank: int) -> None:
            self.rank = rank
            self.sent: list[torch.Tensor] = []

        def __call__(self, z_D: Any, draws: Draws) -> Any:
            return self.on_device(torch.from_numpy(z_D), draws).double().numpy()

        def on_device(self, z_D: torch.Tensor, draws: Draws) -> torch.Tensor:
            point_D = z_D.to(torch.float32)
            self.sent.append(z_D)
            return point_D * (3.0**self.rank) + torch.rand(len(z_D), generator=torch.Generator().manual_seed(self.rank))

    parts = [Part(rank) for rank in range(ranks)]
    node, points = Node(ranks, lambda rank: parts[rank]), [np.sqrt(np.arange(GAME.dimension) + k) for k in range(2)]
    found = [node.operator(z_D, Draws(0, 0, 0)) for z_D in points]
    assert node.stop() == [0] * (ranks - 1)
    for mean_D, z_D in zip(found, points, strict=True):
        assert mean_D.dtype == np.float64
        np.testing.assert_array_equal(mean_D, tree_mean([Part(rank)(z_D, Draws(0, 0, 0)) for rank in range(ranks)]))
    assert {point.dtype for part in parts for point in part.sent} == {torch.float32}


def test_a_part_may_keep_the_point_that_it_is_given() -> None:
    kept: dict[int, list[Any]] = {0: [], 1: []}
    node = Node(2, lambda rank: lambda z_D, draws: kept[rank].append(z_D) or z_D)
    points = [GAME.start() + number for number in range(3)]
    for z_D in points:
        np.testing.assert_array_equal(node.operator(z_D, Draws(0, 0, 0)), z_D)
    node.stop()
    for rank in (0, 1):
        np.testing.assert_array_equal(kept[rank], points)


def test_an_infinite_part_is_told_to_the_leader_and_the_node_goes_on() -> None:
    def sometimes(rank: int) -> Operator:
        def ask(z_D: Any, draws: Draws) -> Any:
            if draws.round == 1 and rank == 1:
                raise NotFiniteError("overflow")
            return np.full(len(z_D), np.inf if draws.round == 2 and rank == 2 else 1.0)

        return ask

    node, z_D = Node(3, sometimes), GAME.start()
    for round_ in (1, 2):
        with pytest.raises(NotFiniteError, match=f"not finite at round {round_}"):
            node.operator(z_D, Draws(0, round_, 0))
    assert (node.operator(z_D, Draws(0, 3, 0)) == 1.0).all()
    assert node.stop(2) == [2, 2]


def test_followers_wait_longer_than_the_timeout_for_a_leader_that_waits_for_the_server() -> None:
    node = Node(2, lambda rank: part(rank, 2), timeout_s=1.0)
    time.sleep(2.5)  # the passing of the timeout is what is tested
    node.operator(GAME.start(), Draws(0, 0, 0))
    assert node.stop() == [0]


def test_a_rank_that_died_is_noticed_and_ends_the_others() -> None:
    def mortal(rank: int) -> Operator:
        def ask(z_D: Any, draws: Draws) -> Any:
            if rank == 1:
                raise ZeroDivisionError
            return z_D

        return ask

    node = Node(3, mortal, timeout_s=2.0)
    with pytest.raises(PeerLost, match="rank 0 of 3 on this node lost the others"):
        node.operator(GAME.start(), Draws(0, 0, 0))
    assert sorted(type(end).__name__ for end in node.stop() if end != 0) in (
        ["ZeroDivisionError"],
        ["PeerLost", "ZeroDivisionError"],
    )


def test_an_error_in_the_leaders_part_is_not_followed_by_a_wait() -> None:
    """The followers are in the midst of a sum: a word to end would be heard by nobody, until the group's timeout."""

    def mortal(rank: int) -> Operator:
        def ask(z_D: Any, draws: Draws) -> Any:
            if rank == 0:
                raise RuntimeError("boom")
            return z_D

        return ask

    node = Node(3, mortal, timeout_s=8.0)
    with pytest.raises(RuntimeError, match="boom"):
        node.operator(GAME.start(), Draws(0, 0, 0))
    begin = time.monotonic()
    node.leader.stop(2)
    assert time.monotonic() - begin < 4
    assert [type(end).__name__ for end in node.stop(2)] == ["PeerLost"] * 2


def test_a_heart_that_stops_is_told_by_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread does not die in silence."""
    node = Node(2, lambda rank: part(rank, 2), timeout_s=0.4)

    def fail(*arguments: Any) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(node.leader, "_command", fail)
    assert node.leader._heart is not None
    node.leader._heart.join(20)
    with pytest.raises(RuntimeError, match="boom"):
        node.operator(GAME.start(), Draws(0, 0, 0))
    assert [type(end).__name__ for end in node.stop()] == ["PeerLost"]


def test_only_the_first_rank_leads() -> None:
    node = Node(2, lambda rank: part(rank, 2))
    node.leader.rank = 1
    with pytest.raises(LocalProtocolError, match="only rank 0 leads"):
        node.leader.operator(part(0, 2))
    node.leader.rank = 0
    node.stop()
