"""Torchrun's environment: what it says, what is refused, and ranks that meet only those of their own start."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from torch._C._distributed_c10d import TCPStore

from saddlebag.errors import ConfigError, PeerLost
from saddlebag.launch.place import Place, here

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


def rank(agent: TCPStore, number: int) -> Place:
    numbers = {"rank": number, "ranks": 2, "local_rank": number, "local_ranks": 2, "node": 0, "nodes": 1}
    return Place(**numbers, host="127.0.0.1", port=agent.port, agent_serves=True)


def test_a_follower_waits_for_the_leader_of_its_own_start(agent: TCPStore) -> None:
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True)
    agent.set("saddlebag/0", dead.stdout.strip())  # what the leader of an earlier start has left
    agent.set(f"saddlebag/0/{dead.stdout.strip()}/message", "stale")
    found: list[bytes] = []

    def follow() -> None:
        found.append(rank(agent, 1).node_store(30).get("message"))

    follower = threading.Thread(target=follow)
    follower.start()
    follower.join(0.2)
    assert not found
    agent.set("saddlebag/0", str(os.getpid()))  # this process stands for a leader: a living child of the same parent
    agent.set(f"saddlebag/0/{os.getpid()}/message", "fresh")
    follower.join(30)
    assert found == [b"fresh"]


def test_a_follower_gives_up(agent: TCPStore) -> None:
    with pytest.raises(PeerLost, match="the first rank of node 0 did not come"):
        rank(agent, 1).node_store(0.2)
