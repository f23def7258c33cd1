"""Where torchrun has put this process: its rank on which node, and the store at which ranks meet."""

from __future__ import annotations

import dataclasses
import datetime
import os
import threading
import time
from typing import TYPE_CHECKING

from saddlebag.errors import ConfigError, PeerLost

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch._C._distributed_c10d import Store

__all__ = ["Place", "end_with_agent", "here"]

_POLL_S = 0.05
_AGENT_POLL_S = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """What torchrun tells its ranks in their environment.

    Attributes:
        rank, ranks: number of this process among those of the whole job.
        local_rank, local_ranks: the same among those of its node.
        node, nodes: number of the node in the job; a torchrun of its own on every node makes each of them node 0 of 1.
        host, port: of the job's store.
        agent_serves: whether torchrun's agent holds that store; else rank 0 does.
    """

    rank: int
    ranks: int
    local_rank: int
    local_ranks: int
    node: int
    nodes: int
    host: str
    port: int
    agent_serves: bool

    def store(self, timeout_s: float) -> Store:
        """The job's store.

        Raises:
            PeerLost: it cannot be reached.
        """
        from torch._C._distributed_c10d import TCPStore

        timeout = datetime.timedelta(seconds=timeout_s)
        serve = self.rank == 0 and not self.agent_serves
        try:
            return TCPStore(self.host, self.port, is_master=serve, timeout=timeout, wait_for_workers=False, multi_tenant=serve)
        except RuntimeError as error:
            raise PeerLost(f"torchrun's store at {self.host}:{self.port} does not answer: {error}") from error

    def node_store(self, timeout_s: float) -> Store:
        """A part of the job's store for the ranks of this node alone, fresh at every start of theirs.

        torchrun does not say which start this is: when it restarts ranks because another node came back, its count stays. So
        the first rank says its process id, and the others believe it only of a living brother.

        Raises:
            PeerLost: the store, or this node's first rank, does not answer.
        """
        from torch._C._distributed_c10d import PrefixStore

        store, key = self.store(timeout_s), f"saddlebag/{self.node}"
        if self.local_rank == 0:
            store.set(key, str(os.getpid()))
            return PrefixStore(f"{key}/{os.getpid()}", store)
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if store.check([key]):
                leader = int(store.get(key))
                if _parent(leader) == os.getppid():
                    return PrefixStore(f"{key}/{leader}", store)
            time.sleep(_POLL_S)
        raise PeerLost(f"the first rank of node {self.node} did not come within {timeout_s:g} s")


def _parent(pid: int) -> int | None:
    """The parent of a living process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            state, parent = file.read().rpartition(")")[2].split()[:2]
    except OSError:
        return None
    return None if state == "Z" else int(parent)


_NUMBERS = {
    "RANK": "rank",
    "WORLD_SIZE": "ranks",
    "LOCAL_RANK": "local_rank",
    "LOCAL_WORLD_SIZE": "local_ranks",
    "GROUP_RANK": "node",
    "GROUP_WORLD_SIZE": "nodes",
    "MASTER_PORT": "port",
}


def here(environment: Mapping[str, str] | None = None) -> Place:
    """This process's place, from its environment.

    Raises:
        ConfigError: torchrun did not start it.
    """
    given = os.environ if environment is None else environment
    numbers = {}
    for name, field in _NUMBERS.items():
        value = given.get(name, "")
        if not value.isdecimal():
            raise ConfigError(f"{name} must be a whole number, got {value!r}; start this with torchrun")
        numbers[field] = int(value)
    host = given.get("MASTER_ADDR", "")
    if not host:
        raise ConfigError("MASTER_ADDR is missing; start this with torchrun")
    return Place(host=host, agent_serves=given.get("TORCHELASTIC_USE_AGENT_STORE") == "True", **numbers)


def end_with_agent() -> None:
    """End this process when its parent is gone: a killed torchrun must not leave ranks behind that a new one would repeat."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_AGENT_POLL_S)
        os._exit(1)

    threading.Thread(target=watch, name="watch-agent", daemon=True).start()
