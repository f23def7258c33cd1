"""Torchrun's environment: what it says, what is refused, and ranks that meet only those of their own start."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from torch._C._distributed_c10d import TCPStore

from saddlebag.errors import ConfigError, PeerLost
from saddlebag.launch.drivers.place import Place, here, meeting

if TYPE_CHECKING:
    from collections.abc import Iterator

ENVIRONMENT = {
    "RANK": "5",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "4",
    "GROUP_RANK": "1",
    "GROUP_WORLD_SIZE": "2",
    "MASTER_ADDR": "10.0.0.1",
    "MASTER_PORT": "29500",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
}


def test_what_torchrun_says() -> None:
    place = here(ENVIRONMENT)
    assert (place.rank, place.ranks, place.local_rank, place.local_ranks) == (5, 8, 1, 4)
    assert (place.node, place.nodes, place.host, place.port, place.agent_serves) == (1, 2, "10.0.0.1", 29500, True)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"LOCAL_RANK": ""}, "LOCAL_RANK must be a whole number, got ''; start this with torchrun"),
        ({"WORLD_SIZE": "-1"}, "WORLD_SIZE must be a whole number, got '-1'"),
        ({"MASTER_ADDR": ""}, "MASTER_ADDR is missing"),
    ],
)
def test_other_environments_are_refused(changed: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        here({**ENVIRONMENT, **changed})


@pytest.fixture
def agent() -> Iterator[TCPStore]:
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    yield store
    del store


def meet(agent: TCPStore, rank: int, ranks: int, found: dict[int, Any]) -> threading.Thread:
    """A rank of its own connection, in a thread."""

    def run() -> None:
        numbers = {"rank": rank, "ranks": ranks, "local_rank": rank, "local_ranks": ranks, "node": 0, "nodes": 1}
        place = Place(**numbers, host="127.0.0.1", port=agent.port, agent_serves=True)
        try:
            found[rank] = place.job_store(30)
        except PeerLost as error:
            found[rank] = error

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_every_start_meets_at_a_place_of_its_own(agent: TCPStore) -> None:
    for start in range(2):
        found: dict[int, Any] = {}
        threads = [meet(agent, rank, 3, found) for rank in (2, 1)]  # they find what an earlier start has left
        if start:
            threads[0].join(0.7)
            assert not found, "a rank believed a dead one"
        threads.append(meet(agent, 0, 3, found))
        for thread in threads:
            thread.join(30)
        assert not found[0].check(["message"]), "a store of an earlier start"
        found[0].set("message", str(start))
        assert [found[rank].get("message") for rank in range(3)] == [str(start).encode()] * 3


@pytest.mark.parametrize("rank", [0, 1])
def test_ranks_that_are_alone_give_up(agent: TCPStore, rank: int) -> None:
    with pytest.raises(PeerLost, match="the ranks did not meet"):
        meeting(agent, "saddlebag", rank, 2, 0.2)
