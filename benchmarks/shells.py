"""Drives any method through the real server and worker shells, one process for each; shared by the benchmarks."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from harness import LOOPBACK, Meter, say

from saddlebag.algorithms import AnyMethod, Judge, Problem, Stop
from saddlebag.client.core import WorkerCore
from saddlebag.client.shell import WorkerShell
from saddlebag.launch.drivers.process import tune_process
from saddlebag.proto.endpoint import ClientSecurity, ServerSecurity
from saddlebag.server.core import ServerCore
from saddlebag.server.effects import Effect, ServerSettings
from saddlebag.server.shell import ServerShell

if TYPE_CHECKING:
    from collections.abc import Callable

SEED = 0


class _MeteredCore(ServerCore):
    """Tells a meter when a round has ended."""

    meter: Meter

    def finish_round(self, now: float, announce: Callable[[], object] = lambda: None) -> list[Effect]:
        effects = super().finish_round(now, announce)
        self.meter.tick()
        return effects


def serve(problem: Problem, method: AnyMethod, workers: int, meter: Meter, host: str = LOOPBACK) -> ServerCore:
    """Serve all rounds of the meter; returns the core at the end. Beyond loopback the network is one of the benchmark's own."""
    tune_process()
    judge = Judge(problem, Stop(max_rounds=meter.total, every=meter.total))
    core = _MeteredCore(method, judge, problem.start(), ServerSettings(num_workers=workers, seed=SEED), time.monotonic())
    core.meter = meter

    async def run() -> None:
        shell = ServerShell(core)
        say(await shell.start(f"{host}:0", ServerSecurity(insecure=host != LOOPBACK)))
        await shell.run()

    asyncio.run(run())
    return core


def work(problem: Problem, method: AnyMethod, rank: int, port: int, host: str = LOOPBACK) -> None:
    """Take part as one worker."""
    tune_process()
    core = WorkerCore(method, problem.operator(rank), problem.start(), worker=rank, seed=SEED)
    security: Any = ClientSecurity()
    asyncio.run(WorkerShell(core, recipe="{}").run(f"{host}:{port}", security))
