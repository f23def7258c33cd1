"""The body of a server's process over gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import dataclasses
import functools
import json
import os
import time
from typing import TYPE_CHECKING, Any

from saddlebag.errors import ConfigError
from saddlebag.launch.drivers.process import tune_process
from saddlebag.launch.drivers.supervisor import ADDRESS_FILE
from saddlebag.launch.job import Job
from saddlebag.launch.ownership import owned, require_no_run
from saddlebag.launch.results.arrivals import ARRIVALS, ArrivalLog
from saddlebag.launch.results.outputs import Outputs
from saddlebag.launch.results.progress import PROGRESS, WAITING, throttled, write_progress, write_waiting
from saddlebag.launch.results.results import RESULT
from saddlebag.launch.sharding import shard_of
from saddlebag.proto.address import parse_address
from saddlebag.proto.checkpoint import CheckpointStore, write_atomically
from saddlebag.proto.endpoint import ServerSecurity
from saddlebag.server.port import require_free
from saddlebag.server.quorum.merging import MergingCore
from saddlebag.server.shell import ServerShell

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from types import TracebackType

    import numpy.typing as npt

    from saddlebag.algorithms import Judge, Record, ReplicaState, Spent, Verdict
    from saddlebag.launch.recipe.recipe import Recipe
    from saddlebag.server.core import ServerCore

__all__ = ["run_server", "serve_job"]


class _TidyStore(CheckpointStore):
    """A store that gives freed memory back after each checkpoint: the log of downlinks leaves holes in the heap."""

    def save(self, round_: int, arrays: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any]) -> None:
        super().save(round_, arrays, meta)
        with contextlib.suppress(OSError, AttributeError):  # glibc only
            ctypes.CDLL(None).malloc_trim(0)


def run_server(
    recipe: Recipe,
    out: Path,
    *,
    address: str | None = None,
    shard: int | None = None,
    token: str = "",
    security: ServerSecurity | None = None,
    resume: bool = False,
    force: bool = False,
    note: Callable[[str], None] = lambda text: None,
    observe: Callable[[Record], None] = lambda record: None,
    listening: Callable[[str], None] = lambda address: None,
) -> dict[str, Any]:
    """Serve the recipe's method until its end; writes metrics, checkpoints and the result under `out`, which it owns meanwhile.

    `listening` is told the address once the port is open. Nothing is written or deleted before that. `shard` says which of
    several servers this is (`server.shards`); each needs a folder of its own.

    Raises:
        ConfigError: the recipe, address or security do not allow it; another process owns `out`, or it holds a run and neither
            `resume` nor `force` is set.
        StateError: `resume` is set and every checkpoint is damaged, or the newest that is not is of another run.
    """
    if (shard is None) != (recipe.server.shards == 1):
        given = "nothing" if shard is None else shard
        raise ConfigError(
            f"--shard says which of several servers this is: server.shards is {recipe.server.shards}, got {given}"
        )
    with owned(out, "saddlebag server"):
        require_no_run(out, resume=resume, force=force)
        address, security = address or recipe.server.address, security or ServerSecurity()
        require_free(address, security, has_token=bool(token))
        tune_process()
        ways: dict[str, Any] = {"token": token, "resume": resume, "note": note, "observe": observe, "listening": listening}
        job = Job.lead(recipe, "grpc", out=out)
        return serve_job(job if shard is None else shard_of(job, shard), out, address, security, **ways)


def serve_job(
    job: Job,
    out: Path,
    address: str,
    security: ServerSecurity,
    *,
    token: str,
    resume: bool,
    note: Callable[[str], None],
    observe: Callable[[Record], None],
    listening: Callable[[str], None],
    **settings: Any,
) -> dict[str, Any]:
    """Serve a job until its end, in a folder that this process owns; `settings` as `Job.server_core` takes them.

    Raises:
        ConfigError, StateError: as `run_server`.
    """
    judge = _TimedJudge(job.judge(watch=lambda *seen: kept.outputs.watch(*seen)))  # opened below
    core = job.server_core(time.monotonic(), judge=judge, token=token, **settings)
    kept = _Kept(job, core, out, resume=resume, note=note)
    begin = time.monotonic()

    def record(line: Record) -> None:
        if job.privacy is not None:
            line = dataclasses.replace(line, merits={**line.merits, "epsilon": job.privacy.epsilon(line.round)})
        kept.outputs.record(line, evaluate_s=judge.seconds)
        observe(line)

    ways: dict[str, Any] = {
        "waiting": functools.partial(write_waiting, out / WAITING),
        "counts": lambda seen: kept.arrivals.add(seen),
    }
    shell = ServerShell(core, store=kept.store, observe=record, note=note, **ways)
    with kept:
        asyncio.run(_serve(shell, address, security, kept, listening))
    times = {
        "elapsed_s": time.monotonic() - begin,
        "start_s": max(0.0, (shell.first_end_s or kept.begun) - kept.begun),
        "server_s": shell.work_s - judge.seconds,
        "evaluate_s": judge.seconds,
    }
    result = _result(job, core, times)
    write_atomically(out / RESULT, (json.dumps(result, indent=2) + "\n").encode())
    return result


def _result(job: Job, core: ServerCore, times: Mapping[str, float]) -> dict[str, Any]:
    """What is kept of the run."""
    return job.result(
        driver="grpc",
        reason=core.finished,
        rounds=core.round,
        replica=core.replica,
        up_bytes=core.ledger.up.payload,
        down_bytes=core.down_bytes,
        ledger=core.ledger.as_dict(),
        **({} if job.privacy is None else {"privacy": job.privacy.told(core.round)}),
        **({"contributions": core.contribution_W.tolist()} if core.settings.contributions else {}),
        **times,
    )


class _Kept:
    """A server's checkpoints and outputs: read at once, changed from `begin` on, when the port is open.

    Raises:
        StateError: `resume` is set and every checkpoint is damaged, or the newest that is not is of another run.
    """

    outputs: Outputs
    arrivals: ArrivalLog
    begun: float
    """When the port was open, by the monotonic clock: from then on the history's seconds count."""

    def __init__(self, job: Job, core: ServerCore, out: Path, *, resume: bool, note: Callable[[str], None]) -> None:
        self._job, self._core, self.out, self._resume = job, core, out, resume
        self.store = _TidyStore(out / "checkpoints", "server")
        self._stack = contextlib.ExitStack()
        if resume and self.store.rounds():
            core.forget()  # else both states were in memory at once
        if resume and (saved := self.store.newest(note)) is not None:
            core.restore(*saved, time.monotonic())

    def __enter__(self) -> _Kept:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def begin(self, address: str) -> None:
        """Drop what came after the round to go on from, or everything, and say where the server is."""
        if not self._resume:
            (self.out / RESULT).unlink(missing_ok=True)
        self.store.forget_after(self._core.round if self._resume else -1)
        self.arrivals = ArrivalLog(self.out / ARRIVALS, upto_round=self._core.round if self._resume else -1)
        self._stack.enter_context(self.arrivals)
        if isinstance(self._core, MergingCore):
            self._core.recall(self.arrivals.joined)
        tell = throttled(functools.partial(write_progress, self.out / PROGRESS))
        upto = self._core.round if self._resume else 0
        self.outputs = self._stack.enter_context(
            Outputs(self._job.recipe, self._job.problem, self.out, upto_round=upto, progress=tell)
        )
        self.begun = time.monotonic()
        write_atomically(self.out / ADDRESS_FILE, json.dumps({"address": address, "pid": os.getpid()}).encode())


class _TimedJudge:
    """A judge, and the seconds that it took: while it evaluates merits and draws pictures, the workers wait."""

    def __init__(self, judge: Judge) -> None:
        self._judge, self.seconds = judge, 0.0

    def __call__(self, rounds: int, before: ReplicaState, after: ReplicaState, spent: Spent) -> Verdict:
        begin = time.perf_counter()
        try:
            return self._judge(rounds, before, after, spent)
        finally:
            self.seconds += time.perf_counter() - begin

    def passes(self, rounds: int, before: ReplicaState, spent: Spent) -> bool:
        return self._judge.passes(rounds, before, spent)


async def _serve(
    shell: ServerShell, address: str, security: ServerSecurity, kept: _Kept, listening: Callable[[str], None]
) -> None:
    port = await shell.start(address, security)
    bound = str(parse_address(address, listening=True).at(port))
    kept.begin(bound)
    listening(bound)
    await shell.run()
