"""Whatever is raised wherever in a server's process ends the run at once, in one line, and it resumes on the same bits."""

from __future__ import annotations

import asyncio
import errno
import time
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest

from saddlebag.algorithms import Judge, digest
from saddlebag.algorithms.simulate import Stop
from saddlebag.client.account import ClientLedger
from saddlebag.client.calls import Calls
from saddlebag.client.core import WorkerCore
from saddlebag.client.shell import WorkerShell
from saddlebag.errors import ConfigError, PeerLost, SaddlebagError, StateError
from saddlebag.proto.checkpoint import CheckpointStore
from saddlebag.proto.endpoint import SERVICE, ClientSecurity, ServerSecurity
from saddlebag.proto.handshake import PROTOCOL, SESSION_KEY
from saddlebag.proto.seal import sealed
from saddlebag.proto.v1 import parameter_server_pb2 as pb
from saddlebag.server import calls, shell
from saddlebag.server import effects as events
from saddlebag.server.core import ServerCore
from saddlebag.server.ending import Ending
from saddlebag.server.shell import ServerShell

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from saddlebag.algorithms import AnyMethod, Outcome
    from saddlebag.algorithms.problems import BilinearGame

STOP, EVERY = Stop(max_rounds=40, every=2), 5
BOUND_S = 20.0  # a hang would last for ever; with everything else on this machine, an end takes a second

ERRORS = [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("boom")]
errors = pytest.mark.parametrize("error", ERRORS, ids=["full", "defect"])


class Party:
    """A server and four workers on loopback that keep checkpoints in a folder, and go on from them."""

    def __init__(self, game: BilinearGame, method: AnyMethod, folder: Path) -> None:
        self._game, self._method, self._folder = game, method, folder
        self.settings = events.ServerSettings(num_workers=4, seed=7, checkpoint_every=EVERY)
        self.core = ServerCore(method, Judge(game, STOP), game.start(), self.settings, time.monotonic())
        self.store = CheckpointStore(folder, "server")
        if self.store.rounds():
            self.core.restore(*self.store.load(self.store.rounds()[-1]), time.monotonic())
        self.store.forget_after(self.core.round)
        self.server = ServerShell(self.core, store=self.store, observe=self.observe, note=lambda text: None)
        self.seen: list[int] = []

    def observe(self, record: Any) -> None:
        self.seen.append(record.round)

    def worker(self, rank: int) -> WorkerShell:
        core = WorkerCore(self._method, self._game.operator(rank), self._game.start(), worker=rank, seed=7)
        store = CheckpointStore(self._folder, f"worker-{rank}")
        if store.rounds():
            core.restore(*store.load(store.rounds()[-1]))
        return WorkerShell(core, recipe="{}", store=store, give_up_s=0.3)

    async def run(self, visit: Callable[[str], Any] | None = None) -> list[Any]:
        """How the server ended, and its workers: None or what they raised."""
        port = await self.server.start("127.0.0.1:0", ServerSecurity())
        address = f"127.0.0.1:{port}"
        serving = asyncio.create_task(self.server.run())
        if visit is not None:
            await visit(address)
        workers = [self.worker(rank).run(address, ClientSecurity()) for rank in range(4)]
        ends = asyncio.gather(serving, *workers, return_exceptions=True)
        return list(await asyncio.wait_for(ends, BOUND_S))

    def hosted(self) -> list[Any]:
        return asyncio.run(self.run())


@pytest.fixture
def party(game: BilinearGame, game_method: AnyMethod, tmp_path: Path) -> Callable[[], Party]:
    return lambda: Party(game, game_method, tmp_path)


def failing(call: Callable[..., Any], error: Exception, *, after: int = 0, when: Callable[..., bool] = lambda *a: True) -> Any:
    """The same call, which raises instead from some time on."""
    passed = 0

    def wrapped(*arguments: Any, **rest: Any) -> Any:
        nonlocal passed
        if when(*arguments):
            passed += 1
            if passed > after:
                raise error
        return call(*arguments, **rest)

    return wrapped


def assert_ended(ends: list[Any], error: Exception) -> None:
    server, *workers = ends
    assert isinstance(server, SaddlebagError), server
    assert (error.strerror if isinstance(error, OSError) else "RuntimeError: boom") in str(server)
    assert "\n" not in str(server)
    assert all(isinstance(end, ConfigError | PeerLost) for end in workers), workers


def assert_resumes(party: Callable[[], Party], expected: Outcome) -> None:
    again = party()
    assert again.hosted() == [None] * 5
    assert digest(again.core.replica) == digest(expected.replica)
    assert (again.core.ledger.up.payload, again.core.down_bytes) == (expected.up_bytes, expected.down_bytes)
    assert again.core.ledger.epochs == 1


@errors
@pytest.mark.parametrize("after", [0, 4], ids=["first", "later"])
@pytest.mark.parametrize("kind", [events.RoundReady, events.Observe, events.Save, events.Broadcast])
def test_an_error_at_an_effect_of_a_round(
    party: Callable[[], Party],
    game: BilinearGame,
    game_method: AnyMethod,
    reference: Callable[..., Outcome],
    kind: type[Any],
    after: int,
    error: Exception,
) -> None:
    first = party()
    carry_out = failing(first.server._carry_out, error, after=after, when=lambda effect: isinstance(effect, kind))
    first.server._carry_out = carry_out  # type: ignore[method-assign]
    assert_ended(first.hosted(), error)
    assert_resumes(party, reference(game, game_method, STOP))


@errors
@pytest.mark.parametrize(
    "effect",
    [
        events.Note("a word"),
        events.Close(1, "a reason"),
        events.NewEpoch("a reason"),
        events.Finished("diverged", announced=False),
    ],
    ids=lambda effect: type(effect).__name__,
)
def test_an_error_at_a_rare_effect(
    party: Callable[[], Party],
    game: BilinearGame,
    game_method: AnyMethod,
    reference: Callable[..., Outcome],
    monkeypatch: pytest.MonkeyPatch,
    effect: events.Effect,
    error: Exception,
) -> None:
    monkeypatch.setattr(shell, "_LOOK_S", 0.02)
    first = party()
    first.core.tick = lambda now: [effect] if first.core.round > 8 else []  # type: ignore[method-assign]
    carry_out = failing(first.server._carry_out, error, when=lambda effect: not isinstance(effect, OF_A_ROUND))
    first.server._carry_out = carry_out  # type: ignore[method-assign]
    hold(first)
    assert_ended(first.hosted(), error)
    assert_resumes(party, reference(game, game_method, STOP))


OF_A_ROUND = (events.RoundReady, events.Observe, events.Save, events.Broadcast)


def hold(first: Party) -> None:
    """Let no round end after the eighth: only the clock can then end the run."""
    needs = first.core.needs_uplink
    first.core.needs_uplink = lambda worker: first.core.round <= 8 and needs(worker)  # type: ignore[method-assign]


@errors
@pytest.mark.parametrize("place", ["frame", "finish_round", "delivery", "delivered", "needs_uplink", "backlog", "is_final"])
@pytest.mark.parametrize("large", [False, True], ids=["", "large"])
def test_an_error_in_the_core(
    party: Callable[[], Party],
    game: BilinearGame,
    game_method: AnyMethod,
    reference: Callable[..., Outcome],
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    large: bool,
    error: Exception,
) -> None:
    """Where a round is finished in a thread, too."""
    if large:
        monkeypatch.setattr(shell, "_THREAD_ABOVE", 0)
    first = party()
    setattr(first.core, place, failing(getattr(first.core, place), error, after=20))
    assert_ended(first.hosted(), error)
    assert_resumes(party, reference(game, game_method, STOP))


@errors
def test_an_error_of_the_clock(party: Callable[[], Party], monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """The task that checks leases does not die in silence."""
    monkeypatch.setattr(shell, "_LOOK_S", 0.02)
    first = party()
    first.core.tick = failing(first.core.tick, error, after=2)  # type: ignore[method-assign]
    hold(first)
    assert_ended(first.hosted(), error)


@errors
@pytest.mark.parametrize("call", ["Join", "Heartbeat", "Leave", "Snapshot"])
def test_an_error_in_a_call(party: Callable[[], Party], call: str, error: Exception) -> None:
    first = party()
    place = {"Join": (first.core, "join"), "Heartbeat": (first.core.roster, "see"), "Leave": (first.core, "leave")}
    owner, name = place.get(call, (first.core.ledger, "count_control"))

    async def visit(address: str) -> None:
        async with grpc.aio.insecure_channel(address) as channel:
            join, ask = Calls(channel, ClientLedger()), pb.JoinRequest(protocol=PROTOCOL, worker=0, recipe="{}", dimension=12)
            metadata: Any = ()
            if call != "Join":
                metadata = ((SESSION_KEY, (await join.ask("Join", ask, pb.JoinReply, 5)).session),)
            setattr(owner, name, failing(getattr(owner, name), error))
            make = channel.unary_stream if call == "Snapshot" else channel.unary_unary
            raw = sealed(ask.SerializeToString() if call == "Join" else b"")
            answer = make(f"/{SERVICE}/{call}")(raw, metadata=metadata, timeout=5)
            assert await answer.code() == calls.status_of(StateError())

    assert_ended(asyncio.run(first.run(visit)), error)


@errors
def test_the_last_checkpoint_fails(
    party: Callable[[], Party],
    game: BilinearGame,
    game_method: AnyMethod,
    reference: Callable[..., Outcome],
    error: Exception,
) -> None:
    """The end is not announced before it is on disk."""
    first = party()
    first.store.save = failing(first.store.save, error, when=lambda round_, *rest: round_ == 40)  # type: ignore[method-assign]
    assert_ended(first.hosted(), error)
    assert first.store.rounds()[-1] == 35
    assert_resumes(party, reference(game, game_method, STOP))


@errors
def test_a_checkpoint_fails_while_nothing_else_happens(party: Callable[[], Party], error: Exception) -> None:
    """No round may come after it that would notice."""
    first = party()
    first.store.save = failing(first.store.save, error)  # type: ignore[method-assign]
    hold(first)
    assert_ended(first.hosted(), error)


def test_a_worker_that_goes_away_takes_no_effect_with_it(
    party: Callable[[], Party], game: BilinearGame, game_method: AnyMethod, reference: Callable[..., Outcome]
) -> None:
    """The stream whose frame completed a round ends while the server is busy: the round ends all the same."""
    first = party()

    async def main() -> None:
        address = f"127.0.0.1:{await first.server.start('127.0.0.1:0', ServerSecurity())}"
        serving = asyncio.create_task(first.server.run())
        ready = asyncio.Event()
        frame = first.core.frame

        def watched(*arguments: Any) -> Any:
            effects = frame(*arguments)
            if effects:
                ready.set()
            return effects

        first.core.frame = watched  # type: ignore[method-assign]
        workers = [asyncio.create_task(first.worker(rank).run(address, ClientSecurity())) for rank in range(4)]
        while len(first.server._streams._tasks) < 4:
            await asyncio.sleep(0)
        async with first.server._busy:
            ready.clear()
            await asyncio.wait_for(ready.wait(), BOUND_S)
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            while first.server._streams._tasks:
                await asyncio.sleep(0.001)
        again = [first.worker(rank).run(address, ClientSecurity()) for rank in range(4)]
        await asyncio.wait_for(asyncio.gather(serving, *again), BOUND_S)

    asyncio.run(main())
    assert digest(first.core.replica) == digest(reference(game, game_method, STOP).replica)


def test_the_first_reason_stays_and_nothing_is_carried_out_after_it(party: Callable[[], Party]) -> None:
    async def main() -> None:
        server = party().server
        server.ending.fail(RuntimeError("first"))
        server.ending.fail(RuntimeError("second"))
        record = events.Observe(None)  # type: ignore[arg-type]
        with pytest.raises(SaddlebagError, match="first"):
            await server._apply([record])

    asyncio.run(main())


def test_work_beside_raises_nothing_where_nobody_would_hear_it() -> None:
    told: list[str] = []

    async def main() -> None:
        async def work() -> None:
            raise OSError(errno.EROFS, "Read-only file system", "runs/x")

        ending = Ending(lambda error: told.append(str(error)))
        await ending.beside(work)
        await ending.wait()
        with pytest.raises(StateError, match="runs/x: Read-only file system"):
            ending.check()

    asyncio.run(main())
    assert told == ["runs/x: Read-only file system"]
