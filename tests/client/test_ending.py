"""Whatever is raised in a worker's process ends it at once; the run goes on from its checkpoints, on the same bits."""

from __future__ import annotations

import asyncio
import errno
import time
from typing import TYPE_CHECKING, Any
from unittest.mock import AsyncMock, Mock

import grpc
import pytest

from saddlebag.algorithms import Judge, digest
from saddlebag.algorithms.simulate import Stop
from saddlebag.client.core import WorkerCore
from saddlebag.client.shell import WorkerShell
from saddlebag.client.waiting import RankTaken
from saddlebag.errors import SaddlebagError, StateError
from saddlebag.proto.checkpoint import CheckpointStore
from saddlebag.proto.endpoint import ClientSecurity, ServerSecurity
from saddlebag.proto.pace import Patience
from saddlebag.server.core import ServerCore
from saddlebag.server.effects import ServerSettings
from saddlebag.server.shell import ServerShell

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from saddlebag.algorithms import AnyMethod, Outcome
    from saddlebag.algorithms.problems import BilinearGame

STOP, EVERY, BOUND_S = Stop(max_rounds=40, every=2), 5, 20.0


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("boom")], ids=["full", "defect"]
)
@pytest.mark.parametrize(
    "place", ["step", "apply", "capture", "downlink_sizes", "look_ahead", "store.save", "store.rounds", "configure", "beat"]
)
def test_an_error_in_a_worker(
    game: BilinearGame,
    game_method: AnyMethod,
    reference: Callable[..., Outcome],
    tmp_path: Path,
    place: str,
    error: Exception,
) -> None:
    """The server waits for the worker to come back, as it does after a kill."""

    def worker(rank: int) -> WorkerShell:
        core = WorkerCore(game_method, game.operator(rank), game.start(), worker=rank, seed=7)
        store = CheckpointStore(tmp_path, f"worker-{rank}")
        if store.rounds():
            core.restore(*store.load(store.rounds()[-1]))
        return WorkerShell(core, recipe="{}", store=store, give_up_s=10.0)

    def fail(*arguments: Any, **rest: Any) -> Any:
        raise error

    async def main() -> ServerCore:
        settings = ServerSettings(num_workers=4, seed=7, checkpoint_every=EVERY, lease_s=0.2 if place == "beat" else 30.0)
        core = ServerCore(game_method, Judge(game, STOP), game.start(), settings, time.monotonic())
        server = ServerShell(core, store=CheckpointStore(tmp_path, "server"))
        address = f"127.0.0.1:{await server.start('127.0.0.1:0', ServerSecurity())}"
        serving = asyncio.create_task(server.run())
        others = [asyncio.create_task(worker(rank).run(address, ClientSecurity())) for rank in (1, 2, 3)]
        broken = worker(0)
        owner: Any = {"store": broken._store, "configure": broken, "beat": broken.ledger}.get(place.split(".")[0], broken._core)
        name = {"configure": "_configure", "store.save": "save", "store.rounds": "rounds"}.get(place, place)
        if place == "beat":  # no round ends, so that only the heart beats
            core.needs_uplink = lambda worker: False  # type: ignore[method-assign]
            asyncio.get_running_loop().call_later(0.05, setattr, broken, "ledger", None)
        else:
            setattr(owner, name, fail)
        with pytest.raises((OSError, RuntimeError, SaddlebagError, AttributeError)) as raised:
            await asyncio.wait_for(broken.run(address, ClientSecurity()), BOUND_S)
        assert place == "beat" or raised.value is error or raised.value.__cause__ is error
        if place == "beat":
            del core.needs_uplink  # type: ignore[misc]
            server._turn.ring()
        await asyncio.wait_for(asyncio.gather(serving, worker(0).run(address, ClientSecurity()), *others), BOUND_S)
        return core

    core = asyncio.run(main())
    assert digest(core.replica) == digest(reference(game, game_method, STOP).replica)


@pytest.mark.parametrize("name", ["epoch", "round"])
@pytest.mark.parametrize("value", [None, "x", -1, 1.0, True, [], 10**30])
def test_edited_facts_are_a_damaged_checkpoint(game: BilinearGame, game_method: AnyMethod, name: str, value: Any) -> None:
    core = WorkerCore(game_method, game.operator(0), game.start(), worker=0, seed=7)
    arrays, meta = core.capture()
    with pytest.raises(StateError, match=f"{name} must be a whole number"):
        core.restore(arrays, {**meta, name: value})
    del meta[name]
    with pytest.raises(StateError, match=f"{name} must be a whole number"):
        core.restore(arrays, meta)


@pytest.mark.parametrize("turns", range(4))
def test_heartbeats_end_when_they_are_cancelled_as_the_stream_ends(turns: int) -> None:
    async def run() -> bool:
        over = asyncio.Event()
        shell, calls, pace = Mock(), AsyncMock(), Mock(sent=0, waits=False)
        beats = asyncio.create_task(WorkerShell._beat_here(shell, calls, pace, 60.0, over, at_once=False))
        await asyncio.sleep(0.01)
        over.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        beats.cancel()
        await asyncio.wait({beats}, timeout=2)
        ended = beats.cancelled()
        beats.cancel()
        return ended

    assert asyncio.run(run())


@pytest.mark.parametrize(
    ("code", "error", "stuck"),
    [
        (grpc.StatusCode.ALREADY_EXISTS, RankTaken, 0),
        (grpc.StatusCode.UNAVAILABLE, grpc.aio.AioRpcError, 0),
        (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.aio.AioRpcError, 3),
    ],
)
def test_a_refused_join_is_an_answer(
    code: grpc.StatusCode, error: type[Exception], stuck: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker whose rank was still held for some seconds waited for minutes on the next connection that did not answer."""
    none = grpc.aio.Metadata()
    ask = AsyncMock(side_effect=grpc.aio.AioRpcError(code, none, none, "no"))
    monkeypatch.setattr("saddlebag.client.shell.Calls", lambda *given: Mock(ask=ask))
    core, keeper = Mock(worker=0, dimension=1, epoch=0, round=0), Mock(rounds=lambda: [])
    shell: Any = Mock(_core=core, _keeper=keeper, _order=0, _recipe="", _token="", _session_id="", _calls=Patience(20.0))
    for _ in range(3):
        with pytest.raises(error):
            asyncio.run(WorkerShell._join(shell, Mock()))
    assert shell._calls.stuck == stuck
