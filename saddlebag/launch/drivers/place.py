"""Where torchrun has put this process: its rank on which node, and the store at which ranks meet."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import secrets
import socket
import threading
import time
from typing import TYPE_CHECKING

from saddlebag.errors import ConfigError, PeerLost

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch._C._distributed_c10d import Store

__all__ = ["Place", "end_with_agent", "here", "meeting"]

_POLL_S = 0.02
_ANSWER_S = 0.5  # then a rank asks again whether there is a new name
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
        job: what stays the same when torchrun starts the ranks again, and is another in its next job.
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
    job: str = ""

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
        """A part of the job's store for this start of this node's ranks; errors as `store` and `meeting`."""
        return meeting(self.store(timeout_s), f"saddlebag/{self.node}", self.local_rank, self.local_ranks, timeout_s)

    def job_store(self, timeout_s: float) -> Store:
        """A part of the job's store for this start of all its ranks; errors as `store` and `meeting`."""
        return meeting(self.store(timeout_s), "saddlebag", self.rank, self.ranks, timeout_s)


def meeting(store: Store, key: str, rank: int, ranks: int, timeout_s: float) -> Store:
    """A part of a store that holds nothing yet, the same for all ranks that are alive now.

    A store outlives its ranks, and torchrun does not say which start of theirs this is: where it restarts them because a node
    came back, its count stays. So rank 0 says a new name, the others answer there with a number of their own, and believe
    the name when rank 0 has repeated that number.

    Raises:
        PeerLost: the others did not come.
    """
    from torch._C._distributed_c10d import PrefixStore

    deadline, own = time.monotonic() + timeout_s, secrets.token_hex(8)
    if rank == 0:
        store.set(key, own)
        for other in range(1, ranks):
            store.set(f"{key}/{own}/known/{other}", _wait(store, f"{key}/{own}/here/{other}", deadline))
        return PrefixStore(f"{key}/{own}", store)
    while True:
        name = _wait(store, key, deadline)
        store.set(f"{key}/{name}/here/{rank}", own)
        known = f"{key}/{name}/known/{rank}"
        with contextlib.suppress(PeerLost):  # of an earlier start: rank 0 has not yet said a new name
            if _wait(store, known, min(deadline, time.monotonic() + _ANSWER_S)) == own:
                return PrefixStore(f"{key}/{name}", store)
        time.sleep(_POLL_S)


def _wait(store: Store, key: str, deadline: float) -> str:
    while not store.check([key]):
        if time.monotonic() > deadline:
            raise PeerLost(f"the ranks did not meet: nobody wrote {key!r} to torchrun's store")
        time.sleep(_POLL_S)
    return store.get(key).decode()


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
    name = given.get("TORCHELASTIC_RUN_ID", "none")  # "none" where nobody has given it a name: then it is the agent
    job = name if name not in ("", "none") else f"{socket.gethostname()}/{os.getppid()}"
    return Place(host=host, agent_serves=given.get("TORCHELASTIC_USE_AGENT_STORE") == "True", job=job, **numbers)


def end_with_agent() -> None:
    """End this process when its parent is gone: a killed torchrun must not leave ranks behind that a new one would repeat."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_AGENT_POLL_S)
        os._exit(1)

    threading.Thread(target=watch, name="watch-agent", daemon=True).start()
