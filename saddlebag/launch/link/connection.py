"""A worker over gRPC whose operator is a program, and what the server tells such programs of a run."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms.optimizers.site_rounds import site_rounds
from saddlebag.client.account import ClientLedger
from saddlebag.client.link.meeting import Meeting
from saddlebag.client.link.memory import MemoryStore, lasting
from saddlebag.client.link.offer import offer
from saddlebag.client.shell import WorkerShell
from saddlebag.errors import ConfigError, RemoteProtocolError
from saddlebag.proto.handshake import require_same_recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from saddlebag.client.core import WorkerCore
    from saddlebag.compression import Vector
    from saddlebag.launch.link.terms import Terms
    from saddlebag.proto.checkpoint import CheckpointStore
    from saddlebag.proto.endpoint import ClientSecurity

__all__ = ["LinkConnection", "facts_text", "start_digest"]

_MOST = 1 << 32  # rounds of a site between exchanges above


def start_digest(start_D: Vector) -> str:
    """What tells whether a program begins where the run does: SHA-256, hexadecimal."""
    return hashlib.sha256(np.ascontiguousarray(start_D, np.float64).data).hexdigest()


def facts_text(*, agreed: str, seed: int, workers: int, checkpoint_every: int, start_D: Vector, period: int = 0) -> str:
    """What the server tells each program that joins, as JSON; `period` is that of a site below another server."""
    facts: dict[str, Any] = {"agreed": agreed, "seed": seed, "workers": workers, "every": checkpoint_every}
    facts["start"] = start_digest(start_D)
    if period:
        facts["period"] = period
    return json.dumps(facts, sort_keys=True)


class LinkConnection:
    """A worker over gRPC whose operator is a program; see `Connection`. Its checkpoints stay in memory, or lie in a store."""

    _core: WorkerCore
    _shell: WorkerShell

    def __init__(
        self,
        terms: Terms,
        address: str,
        worker: int,
        *,
        token: str,
        security: ClientSecurity,
        give_up_s: float,
        note: Callable[[str], None],
        store: CheckpointStore | None = None,
    ) -> None:
        self._store = store
        self._terms, self._address, self.worker = terms, address, worker
        self._token, self._security, self._give_up_s, self._note = token, security, give_up_s, note
        self.meeting, self.ledger = Meeting(self._keep), ClientLedger()
        self._facts = ""  # what the server told
        self._kept: tuple[dict[str, Any], dict[str, Any]] = {}, {}

    def open(self, start_D: Vector) -> None:
        self._start_D = start_D
        job = self._terms.join(self._terms.recipe(workers=self.worker + 1, seed=0), start_D)
        self._core = job.worker_core(self.worker, self.meeting.operator)
        self._core.placed, self._core.measured = False, self.meeting.measured
        self._shell = WorkerShell(
            self._core,
            recipe=self._terms.text(),
            token=self._token,
            store=MemoryStore() if self._store is None else self._store,
            give_up_s=self._give_up_s,
            configure=self._configure,
            note=self._note,
            leaving=lambda: self.meeting.leaving,
            apart=True,
        )
        self._shell.ledger = self.ledger

    def _configure(self, resolved: str) -> None:
        """Take what the server tells; the method and seed of a run are its own."""
        try:
            facts = json.loads(resolved)
            workers, seed, agreed, remembers = (facts[key] for key in ("workers", "seed", "agreed", "every"))
            period = facts.get("period", 0)
            if type(period) is not int or not 0 <= period < _MOST:
                raise ValueError(f"period is {period!r}")
            alike = facts["start"] == start_digest(self._start_D)
            recipe = self._terms.recipe(workers=workers, seed=seed)
        except (LookupError, RecursionError, TypeError, ValueError) as error:
            raise RemoteProtocolError(f"what the server says of the run is malformed: {error}") from error
        if self._store is not None and remembers != 1:
            raise ConfigError(
                f"the server at {self._address} keeps every {remembers}th boundary; a site below it needs each of them"
            )
        self._facts, self._core.starts_alike = resolved, alike
        self.meeting.remembers = remembers + 2
        method: Any = self._terms.join(recipe, self._start_D, agreed).method
        self._core.adopt(site_rounds(method, period) if period else method, seed)

    async def run(self) -> None:
        terms = self._terms.text()
        if not self._facts:
            given: dict[str, Any] = {
                "worker": self.worker,
                "token": self._token,
                "give_up_s": self._give_up_s,
                "ledger": self.ledger,
            }
            await offer(self._address, self._security, terms, self._start_D, **given)
        await self._shell.run(self._address, self._security)

    def share(self) -> float:
        return self._core.share

    def last_point(self) -> Vector:
        z_D: Vector = self._core.replica.z_D
        return z_D

    def _keep(self) -> None:
        """At a boundary, in the worker's thread."""
        arrays, facts = self._core.capture()
        self._kept = lasting(arrays), {**facts, "resolved": self._facts, "terms": self._terms.text()}

    def capture(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return self._kept

    def take_up(self, arrays: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Continue from a checkpoint of the store, whose run's facts are yet to come; errors as `restore`."""
        require_same_recipe(facts.get("recipe"), self._terms.text())
        self._core.restore(dict(arrays), facts)
        self._core.placed = True

    def restore(self, arrays: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        if facts.get("terms") != self._terms.text():
            raise ConfigError("this state of a link is of other terms: another method, period or model")
        self._configure(facts["resolved"])
        self._core.restore(dict(arrays), facts)
        self._core.placed = True
        self._keep()
