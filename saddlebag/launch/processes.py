"""Processes of a run over gRPC: the body of a server, the body of a worker, and a supervisor for both on one machine."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import dataclasses
import functools
import json
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from saddlebag.algorithms import AnyMethod, Judge, Operator, Problem, Record, ReplicaState, Verdict
from saddlebag.client.account import Phases
from saddlebag.client.ahead import Ahead, looking_ahead
from saddlebag.client.core import WorkerCore
from saddlebag.client.shell import WorkerShell
from saddlebag.errors import ConfigError
from saddlebag.launch.build import apply_resolved, build_method, build_problem, resolve, resolved_json
from saddlebag.launch.drivers.supervisor import ADDRESS_FILE, PHASES
from saddlebag.launch.ownership import owned, require_no_run
from saddlebag.launch.results.outputs import Outputs
from saddlebag.launch.results.progress import PROGRESS, throttled, write_progress
from saddlebag.launch.results.results import RESULT
from saddlebag.proto.address import parse_address
from saddlebag.proto.checkpoint import WORKER_KEEPS, CheckpointStore, write_atomically
from saddlebag.proto.endpoint import ClientSecurity, ServerSecurity
from saddlebag.proto.handshake import require_same_recipe
from saddlebag.server.core import ServerCore
from saddlebag.server.effects import ServerSettings
from saddlebag.server.port import require_free
from saddlebag.server.saved import restore
from saddlebag.server.shell import ServerShell

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from types import TracebackType

    import numpy.typing as npt

    from saddlebag.launch.recipe.recipe import Recipe

__all__ = ["run_server", "run_worker", "tune_process", "watch_parent"]

_SWITCH_INTERVAL_S = 2e-4  # threads of gRPC wait this long for the interpreter, not the default 5 ms
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8


def tune_process() -> None:
    """Settings of a process that moves large messages: short hand-overs, and freed memory is kept for the next chunk."""
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    with contextlib.suppress(OSError, AttributeError):  # Linux: many small processes interrupt each other less
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    with contextlib.suppress(OSError, AttributeError):  # glibc only
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in (
            (_M_MMAP_THRESHOLD, 32 << 20),  # the most glibc allows: fresh memory costs as much as a pass over a vector
            (_M_TRIM_THRESHOLD, 256 << 20),
            (_M_TOP_PAD, 16 << 20),
            (_M_ARENA_MAX, 1),
        ):
            mallopt(parameter, value)


class _TidyStore(CheckpointStore):
    """A store that gives freed memory back after each checkpoint: the log of downlinks leaves holes in the heap."""

    def save(self, round_: int, arrays: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any]) -> None:
        super().save(round_, arrays, meta)
        with contextlib.suppress(OSError, AttributeError):  # glibc only
            ctypes.CDLL(None).malloc_trim(0)


def watch_parent(fd: int) -> None:
    """End this process when the other end of a pipe is closed, that is, when the parent is gone, however it went."""

    def wait() -> None:
        with contextlib.suppress(OSError):
            os.read(fd, 1)
        os._exit(1)

    threading.Thread(target=wait, name="watch-parent", daemon=True).start()


def run_server(
    recipe: Recipe,
    out: Path,
    *,
    address: str | None = None,
    token: str = "",
    security: ServerSecurity | None = None,
    resume: bool = False,
    force: bool = False,
    note: Callable[[str], None] = lambda text: None,
    observe: Callable[[Record], None] = lambda record: None,
    listening: Callable[[str], None] = lambda address: None,
) -> dict[str, Any]:
    """Serve the recipe's method until its end; writes metrics, checkpoints and the result under `out`, which it owns meanwhile.

    `listening` is told the address once the port is open. Nothing is written or deleted before that.

    Raises:
        ConfigError: the recipe, address or security do not allow it; another process owns `out`, or it holds a run and neither
            `resume` nor `force` is set.
        StateError: `resume` is set and the checkpoint is damaged or of another run.
    """
    with owned(out, "saddlebag server"):
        require_no_run(out, resume=resume, force=force)
        address, security = address or recipe.server.address, security or ServerSecurity()
        require_free(address, security, has_token=bool(token))
        tune_process()
        problem = build_problem(recipe, out=out)
        judge = _TimedJudge(Judge(problem, recipe.stop, watch=lambda *seen: kept.outputs.watch(*seen)))  # opened below
        core = _server_core(recipe, problem, token, judge)
        kept = _Kept(recipe, problem, core, out, resume=resume)
        begin = time.monotonic()

        def record(line: Record) -> None:
            kept.outputs.record(line, evaluate_s=judge.seconds)
            observe(line)

        shell = ServerShell(core, store=kept.store, observe=record, note=note)
        with kept:
            asyncio.run(_serve(shell, address, security, kept, listening))
        result = _result(recipe, problem, core, begin)
        result |= {
            "start_s": (shell.first_end_s or begin) - begin,
            "server_s": shell.work_s - judge.seconds,
            "evaluate_s": judge.seconds,
        }
        write_atomically(out / RESULT, (json.dumps(result, indent=2) + "\n").encode())
        return result


class _Kept:
    """A server's checkpoints and outputs: read at once, changed from `begin` on, when the port is open.

    Raises:
        StateError: `resume` is set and the checkpoint is damaged or of another run.
    """

    outputs: Outputs

    def __init__(self, recipe: Recipe, problem: Problem, core: ServerCore, out: Path, *, resume: bool) -> None:
        self._given, self._core, self.out, self._resume = (recipe, problem), core, out, resume
        self.store = _TidyStore(out / "checkpoints", "server")
        self._stack = contextlib.ExitStack()
        if resume and self.store.rounds():
            restore(core, *self.store.load(self.store.rounds()[-1]), time.monotonic())

    def __enter__(self) -> _Kept:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def begin(self, address: str) -> None:
        """Drop what came after the round to go on from, or everything, and say where the server is."""
        if not self._resume:
            (self.out / RESULT).unlink(missing_ok=True)
        self.store.forget_after(self._core.round if self._resume else -1)
        tell = throttled(functools.partial(write_progress, self.out / PROGRESS))
        upto = self._core.round if self._resume else 0
        self.outputs = self._stack.enter_context(Outputs(*self._given, self.out, upto_round=upto, progress=tell))
        write_atomically(self.out / ADDRESS_FILE, json.dumps({"address": address, "pid": os.getpid()}).encode())


class _TimedJudge:
    """A judge, and the seconds that it took: while it evaluates merits and draws pictures, the workers wait."""

    def __init__(self, judge: Judge) -> None:
        self._judge, self.seconds = judge, 0.0

    def __call__(self, rounds: int, before: ReplicaState, after: ReplicaState) -> Verdict:
        begin = time.perf_counter()
        try:
            return self._judge(rounds, before, after)
        finally:
            self.seconds += time.perf_counter() - begin

    def passes(self, rounds: int, before: ReplicaState) -> bool:
        return self._judge.passes(rounds, before)


def _server_core(recipe: Recipe, problem: Problem, token: str, judge: _TimedJudge) -> ServerCore:
    resolved = resolve(recipe, problem)
    settings = ServerSettings(
        num_workers=recipe.workers,
        seed=recipe.seed,
        recipe=recipe.canonical(),
        resolved=resolved_json(resolved),
        token=token,
        lease_s=recipe.server.lease_s,
        round_deadline_s=recipe.server.round_deadline_s,
        on_lost=recipe.server.on_lost,
        checkpoint_every=recipe.checkpoint.every,
    )
    return ServerCore(build_method(resolved, problem), judge, problem.start(), settings, time.monotonic())


async def _serve(
    shell: ServerShell, address: str, security: ServerSecurity, kept: _Kept, listening: Callable[[str], None]
) -> None:
    port = await shell.start(address, security)
    bound = str(parse_address(address, listening=True).at(port))
    kept.begin(bound)
    listening(bound)
    await shell.run()


def _result(recipe: Recipe, problem: Problem, core: ServerCore, begin: float) -> dict[str, Any]:
    seconds = time.monotonic() - begin
    return {
        "label": recipe.label,
        "driver": "grpc",
        "reason": core.finished,
        "rounds": core.round,
        "iterations": core.replica.iteration,
        "merits": dict(problem.merits(core.replica.z_D)),
        "up_bytes": core.ledger.up.payload,
        "down_bytes": core.down_bytes,
        "workers": recipe.workers,
        "digest": f"{core.replica_digest:016x}",
        "recipe_digest": recipe.digest(),
        "elapsed_s": seconds,
        "ledger": core.ledger.as_dict(),
    }


def run_worker(
    recipe: Recipe,
    rank: int,
    address: str,
    *,
    out: Path | None = None,
    token: str = "",
    security: ClientSecurity | None = None,
    give_up_s: float = 60.0,
    note: Callable[[str], None] = lambda text: None,
    problem: Problem | None = None,
    operator: Operator | None = None,
) -> None:
    """Take part as one worker until the end of the run; keeps checkpoints under `out` when it is given.

    `problem` is the recipe's, where it has been built; `operator` computes in place of its own, for example on several ranks.

    Raises:
        ConfigError: the server refuses the worker, and why, or another process keeps this worker's checkpoints in `out`.
        PeerLost: there is no server at the address.
    """
    if not 0 <= rank < recipe.workers:
        raise ConfigError(f"rank must lie in [0, {recipe.workers}), got {rank}")
    with contextlib.ExitStack() as stack:
        if out is not None:
            stack.enter_context(owned(out, f"worker {rank}", name=f"worker-{rank}"))
        problem = problem or build_problem(recipe, out=out)
        core, phases, configure = _worker_core(recipe, rank, problem, operator or problem.operator(rank))
        store = CheckpointStore(out / "checkpoints", f"worker-{rank}", keep=WORKER_KEEPS) if out is not None else None
        if store is not None and store.rounds():
            arrays, meta = store.load(store.rounds()[-1])
            require_same_recipe(meta.get("recipe"), recipe.canonical())
            core.restore(arrays, meta)
        ways: dict[str, Any] = {"store": store, "give_up_s": give_up_s, "configure": configure, "note": note, "phases": phases}
        shell = WorkerShell(core, recipe=recipe.canonical(), token=token, **ways)
        asyncio.run(shell.run(address, security or ClientSecurity()))
        note(f"worker {rank}: {phases.rounds:,} rounds, {phases}")
        if out is not None:
            facts = {"worker": rank, **phases.as_dict(), "up_bytes": shell.ledger.up, "down_bytes": shell.ledger.down}
            write_atomically(out / PHASES.format(rank), (json.dumps(facts, indent=2) + "\n").encode())


def _worker_core(
    recipe: Recipe, rank: int, problem: Problem, operator: Operator
) -> tuple[WorkerCore, Phases, Callable[[str], None]]:
    """A worker, where its time goes, and what gives it the numbers that the server has resolved."""
    tune_process()
    phases, method = Phases(), _provisional(recipe, problem)
    asked = looking_ahead(method, operator)
    core = WorkerCore(method, phases.watched(asked), problem.start(), worker=rank, seed=recipe.seed)
    core.ahead = asked.begin if isinstance(asked, Ahead) else None

    def configure(resolved: str) -> None:
        core.method = build_method(apply_resolved(recipe, resolved), problem)
        if (core.epoch, core.round) == (0, 0):  # the first step of an automatic rule is part of the replica
            core.begin_run(0)

    return core, phases, configure


def _provisional(recipe: Recipe, problem: Problem) -> AnyMethod:
    """The method with placeholders for the numbers that the server will send, so that no worker computes constants."""
    section = recipe.method
    if not isinstance(section.step_size, int | float):
        section = dataclasses.replace(section, step_size="auto from 1.0" if section.step_size.startswith("auto") else 1.0)
    return build_method(dataclasses.replace(recipe, method=section), problem)
