"""The body of a worker's process over gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

from saddlebag.client.account import Phases
from saddlebag.client.ahead import Ahead, looking_ahead
from saddlebag.client.shell import WorkerShell
from saddlebag.launch.drivers.process import tune_process
from saddlebag.launch.drivers.supervisor import PHASES
from saddlebag.launch.job import Job
from saddlebag.launch.ownership import owned
from saddlebag.proto.address import parse_address
from saddlebag.proto.checkpoint import WORKER_KEEPS, CheckpointStore, write_atomically
from saddlebag.proto.endpoint import ClientSecurity
from saddlebag.proto.handshake import require_same_recipe

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from saddlebag.algorithms import Operator, Problem
    from saddlebag.client.core import WorkerCore
    from saddlebag.client.securing import Securing
    from saddlebag.launch.recipe.recipe import Recipe

__all__ = ["run_worker"]


def run_worker(
    recipe: Recipe,
    rank: int,
    address: str,
    *,
    out: Path | None = None,
    token: str = "",
    signing_key: bytes = b"",
    security: ClientSecurity | None = None,
    give_up_s: float = 60.0,
    note: Callable[[str], None] = lambda text: None,
    problem: Problem | None = None,
    operator: Operator | None = None,
) -> None:
    """Take part as one worker until the end of the run; keeps checkpoints under `out` when it is given.

    `signing_key` is needed where the recipe has `server.signers`.
    `problem` is the recipe's, where it has been built; `operator` computes in place of its own, for example on several ranks.

    Raises:
        ConfigError: the server refuses the worker, and why, or another process keeps this worker's checkpoints in `out`.
        PeerLost: there is no server at the address.
    """
    parse_address(address, "the server's address")
    with contextlib.ExitStack() as stack:
        if out is not None:
            stack.enter_context(owned(out, f"worker {rank}", name=f"worker-{rank}"))
        tune_process()
        core, phases, configure, masks = _core(Job.join(recipe, problem=problem, out=out), rank, operator, signing_key)
        store = CheckpointStore(out / "checkpoints", f"worker-{rank}", keep=WORKER_KEEPS) if out is not None else None
        if store is not None:
            _take_up(core, store, recipe, note)
        ways: dict[str, Any] = {
            "store": store,
            "give_up_s": give_up_s,
            "lease_s": recipe.server.lease_s,
            "progress_s": recipe.server.progress_s,
            "configure": configure,
            "note": note,
            "phases": phases,
            "securing": masks,
        }
        shell = WorkerShell(core, recipe=recipe.canonical(), token=token, **ways)
        asyncio.run(shell.run(address, security or ClientSecurity()))
        note(f"worker {rank}: {phases.rounds:,} rounds, {phases}")
        if out is not None:
            facts = {"worker": rank, **phases.as_dict(), "up_bytes": shell.ledger.up, "down_bytes": shell.ledger.down}
            write_atomically(out / PHASES.format(rank), (json.dumps(facts, indent=2) + "\n").encode())


def _take_up(core: WorkerCore, store: CheckpointStore, recipe: Recipe, note: Callable[[str], None]) -> None:
    """Go on from the newest checkpoint, if there is one; errors as `run_worker`."""
    if store.rounds():
        core.forget()  # else both states were in memory at once
    if (saved := store.newest(note)) is not None:
        arrays, meta = saved
        require_same_recipe(meta.get("recipe"), recipe.canonical())
        core.restore(arrays, meta)


def _core(
    job: Job, rank: int, operator: Operator | None, signing_key: bytes
) -> tuple[WorkerCore, Phases, Callable[[str], None], Securing | None]:
    """A worker, where its time goes, what gives it the numbers that the server has worked out, and how it masks its uplinks."""
    phases = Phases()
    asked = looking_ahead(job.method, operator or job.operator(rank))
    core = job.worker_core(rank, phases.watched(asked))
    core.ahead = asked.begin if isinstance(asked, Ahead) else None

    def configure(agreed: str) -> None:
        core.method = job.agreeing(agreed).method
        if (core.epoch, core.round) == (0, 0):  # the first step of an automatic rule is part of the replica
            core.begin_run(0)

    return core, phases, configure, job.securing(signing_key)
