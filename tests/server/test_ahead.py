"""Rounds of long vectors end in a thread: workers have the downlink before the server has replayed it."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from saddlebag.algorithms import AnyMethod, Judge, Outcome, Stop, digest
from saddlebag.client.core import WorkerCore
from saddlebag.client.shell import WorkerShell
from saddlebag.errors import StateError
from saddlebag.proto.endpoint import ClientSecurity, ServerSecurity
from saddlebag.server import shell
from saddlebag.server.core import ServerCore
from saddlebag.server.effects import ServerSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from saddlebag.algorithms.problems import BilinearGame

STOP = Stop(max_rounds=12, every=4)
_LONG_S = 20.0


@pytest.fixture(autouse=True)
def _every_vector_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "_THREAD_ABOVE", 0)


async def serve(problem: Any, core: ServerCore, workers: list[WorkerCore]) -> None:
    """A server and workers on loopback until the run ends."""
    server = shell.ServerShell(core)
    port = await server.start("127.0.0.1:0", ServerSecurity())
    serving = asyncio.create_task(server.run())
    shells = [WorkerShell(worker, recipe="{}", give_up_s=1.0) for worker in workers]
    ends = [asyncio.create_task(s.run(f"127.0.0.1:{port}", ClientSecurity())) for s in shells]
    try:
        await asyncio.wait_for(serving, _LONG_S)
    finally:
        await asyncio.gather(*ends, return_exceptions=True)


def halves(problem: Any, method: AnyMethod) -> tuple[ServerCore, list[WorkerCore]]:
    settings = ServerSettings(num_workers=problem.num_workers, seed=7)
    core = ServerCore(method, Judge(problem, STOP), problem.start(), settings, time.monotonic())
    ranks = range(problem.num_workers)
    return core, [WorkerCore(method, problem.operator(rank), problem.start(), worker=rank, seed=7) for rank in ranks]


def test_the_server_replays_while_all_workers_have_the_downlink(
    game: BilinearGame, game_method: AnyMethod, reference: Callable[..., Outcome]
) -> None:
    """Between evaluations the server's replay here ends when every worker's has: were they to wait for it, none would end."""
    core, workers = halves(game, game_method)
    applied, condition, finish, early = [0], threading.Condition(), core.finish_round, []

    for worker in workers:

        def apply(down: Any, _apply: Any = worker.apply) -> None:
            _apply(down)
            with condition:
                applied[0] += 1
                condition.notify()

        worker.apply = apply  # type: ignore[method-assign]

    def finish_round(now: float, announce: Any) -> Any:
        round_ = core.round

        def until_applied() -> None:
            announce()
            with condition:
                early.append(condition.wait_for(lambda: applied[0] == len(workers) * (round_ + 1), _LONG_S))

        return finish(now, until_applied)

    core.finish_round = finish_round  # type: ignore[method-assign]
    asyncio.run(serve(game, core, workers))
    expected = reference(game, game_method, STOP)
    assert early == [True] * sum(1 for record in range(STOP.max_rounds or 0) if (record + 1) % STOP.every), "not at evaluations"
    assert {digest(half.replica) for half in (core, *workers)} == {digest(expected.replica)}
    assert core.ledger.down.payload == core.down_bytes == expected.down_bytes


def test_a_round_that_fails_in_its_thread_ends_the_run_with_the_reason(game: BilinearGame, game_method: AnyMethod) -> None:
    core, workers = halves(game, game_method)
    finish = core.finish_round

    def finish_round(now: float, announce: Any) -> Any:
        if core.round == 3:
            raise StateError("no space left")
        return finish(now, announce)

    core.finish_round = finish_round  # type: ignore[method-assign]
    with pytest.raises(StateError, match="no space left"):
        asyncio.run(serve(game, core, workers))
