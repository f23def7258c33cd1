"""`saddlebag.join`: a program with a training loop of its own takes part in a run."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from saddlebag.client.account import ClientLedger
from saddlebag.client.link.link import Link
from saddlebag.client.link.meeting import Meeting
from saddlebag.client.link.memory import MemoryStore, lasting
from saddlebag.client.link.offer import offer
from saddlebag.client.link.vector import ModelVector
from saddlebag.client.shell import WorkerShell
from saddlebag.errors import ConfigError, RemoteProtocolError, check_choice
from saddlebag.launch.link.terms import Terms
from saddlebag.proto.endpoint import ClientSecurity

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from saddlebag.client.core import WorkerCore
    from saddlebag.compression import Vector

__all__ = ["RANK", "facts_text", "join", "start_digest"]

RANK = "SADDLEBAG_RANK"
"""The environment's name for a program's number, where `join` is not told."""
_NODE = "GROUP_RANK"  # torchrun's number of a node
_LOG = logging.getLogger("saddlebag.link")


def join(
    address: str,
    model: torch.nn.Module,
    optimizer: Any | None = None,
    *,
    method: str | Mapping[str, Any] = "sparse_loco",
    every: int = 30,
    rank: int | None = None,
    buffers: Literal["keep", "average"] = "keep",
    hook: bool = False,
    token: str = "",
    security: ClientSecurity | None = None,
    give_up_s: float = 600.0,
    note: Callable[[str], None] = _LOG.info,
) -> Link:
    """Link a training loop with those of other programs, through a server that `saddlebag host` runs.

    Call `step` after each step of the optimizer and `finish` at the end, or use the link as a context. Nothing is connected
    before the model's first forward pass.

    Args:
        address: HOST:PORT of the server.
        model: a module, compiled or not, in a `DistributedDataParallel` or not; its parameters are set to the run's.
        optimizer: whose parameters travel; without one all that require a gradient.
        method: "sparse_loco", "diloco", "local_average" or "muloco", or a table such as a recipe's [method], with compressors.
        every: steps between exchanges; 1 exchanges after every step.
        rank: number of this program, from 0; without it $SADDLEBAG_RANK, or torchrun's number of this node.
        buffers: floating buffers (batch normalisation) stay each program's own, or are averaged.
        hook: whether the optimizer's own steps are counted, in place of calls of `step`: one line for loops that others wrote,
            such as those of Accelerate, whose optimizers are seen through.
        token: the server's secret.
        security: TLS files.
        give_up_s: how long a server that is gone is waited for.
        note: told what a person may want to know, such as a lost connection.

    Raises:
        ConfigError: an argument is out of range, or the model is one that cannot be linked.

    Example:
        >>> link = join("server:7070", model, optimizer, method="sparse_loco", every=30)  # doctest: +SKIP
        >>> for batch in loader:  # doctest: +SKIP
        ...     loss(model, batch).backward()
        ...     optimizer.step()
        ...     link.step()
        >>> link.finish()  # doctest: +SKIP
    """
    check_choice("buffers", buffers, ("keep", "average"))
    number = _rank() if rank is None else rank
    if type(number) is not int or not 0 <= number < 1 << 16:
        raise ConfigError(f"rank must lie in [0, 65536), got {number!r}")
    vector = ModelVector(model, optimizer, buffers=buffers == "average")
    terms = Terms.of(method, every, vector.parameters, vector.buffers)
    given: dict[str, Any] = {"token": token, "security": security or ClientSecurity(), "give_up_s": give_up_s, "note": note}
    link = Link(model, vector, _Connection(terms, address, number, **given), every=every)
    if hook:
        _count_steps(link, optimizer)
    return link


def _count_steps(link: Link, optimizer: Any) -> None:
    """Every step of the optimizer is one of the link's.

    Raises:
        ConfigError: it has no hooks.
    """
    inner = getattr(optimizer, "optimizer", optimizer)  # of Accelerate's, which skip steps while gradients are accumulated
    if not isinstance(inner, torch.optim.Optimizer):
        raise ConfigError(f"hook needs an optimizer of torch, got {type(optimizer).__name__}; call link.step after each step")

    def stepped(optimizer: Any, args: Any, kwargs: Any) -> None:
        if not link.over:
            link.step()

    inner.register_step_post_hook(stepped)


def _rank() -> int:
    for name in (RANK, _NODE):
        if (text := os.environ.get(name, "")) != "":
            if not text.isdecimal():
                raise ConfigError(f"{name} must be a whole number, got {text!r}")
            return int(text)
    raise ConfigError(f"rank is missing: give join a rank from 0, or set {RANK}")


def start_digest(start_D: Vector) -> str:
    """What tells whether a program begins where the run does: SHA-256, hexadecimal."""
    return hashlib.sha256(np.ascontiguousarray(start_D, np.float64).data).hexdigest()


def facts_text(*, agreed: str, seed: int, workers: int, checkpoint_every: int, start_D: Vector) -> str:
    """What the server tells each program that joins, as JSON."""
    facts = {"agreed": agreed, "seed": seed, "workers": workers, "every": checkpoint_every, "start": start_digest(start_D)}
    return json.dumps(facts, sort_keys=True)


class _Connection:
    """A worker over gRPC whose operator is a program; see `Connection`."""

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
    ) -> None:
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
            store=MemoryStore(),
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
            alike = facts["start"] == start_digest(self._start_D)
            recipe = self._terms.recipe(workers=workers, seed=seed)
        except (LookupError, RecursionError, TypeError, ValueError) as error:
            raise RemoteProtocolError(f"what the server says of the run is malformed: {error}") from error
        self._facts, self._core.starts_alike = resolved, alike
        self.meeting.remembers = remembers + 2
        self._core.adopt(self._terms.join(recipe, self._start_D, agreed).method, seed)

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

    def restore(self, arrays: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        if facts.get("terms") != self._terms.text():
            raise ConfigError("this state of a link is of other terms: another method, period or model")
        self._configure(facts["resolved"])
        self._core.restore(dict(arrays), facts)
        self._core.placed = True
        self._keep()
