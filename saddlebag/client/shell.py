"""The gRPC side of a worker: joins, keeps one stream, comes back after a fault."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from saddlebag.algorithms import DIVERGED
from saddlebag.client.account import ClientLedger, Phases
from saddlebag.client.calls import Calls, Refusals
from saddlebag.client.ending import Leaving
from saddlebag.client.inbox import Inbox
from saddlebag.client.keeping import Keeper
from saddlebag.client.waiting import RankTaken, Waiting
from saddlebag.compression import SERVER, Draws
from saddlebag.errors import BrokenStream, ConfigError, NotFiniteError
from saddlebag.proto.address import parse_address
from saddlebag.proto.channel import open_aio_channel
from saddlebag.proto.checkpoint import CheckpointStore, bytes_to_arrays
from saddlebag.proto.codec import decode
from saddlebag.proto.endpoint import LEASE_S, RUN_OVER, SERVICE, ClientSecurity
from saddlebag.proto.frames import THANKS, Frame, frames_of, read_frame
from saddlebag.proto.handshake import DONE, PROTOCOL, SESSION_KEY, first_order
from saddlebag.proto.pace import Pace, Patience
from saddlebag.proto.probe import probe
from saddlebag.proto.streaming import Assembly, StreamDecoder
from saddlebag.proto.v1 import parameter_server_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from saddlebag.algorithms import Message
    from saddlebag.client.core import WorkerCore
    from saddlebag.client.securing import Securing
    from saddlebag.proto.address import Address
    from saddlebag.proto.reader import Buffer

__all__ = ["WorkerShell"]

_THREAD_ABOVE_S = 0.02
"""A step that took longer runs in a thread the next time, so that heartbeats go out meanwhile."""
_LEAVE_S = 30.0
_BEAT_AGAIN_S = 0.2
_ASK_AGAIN_S = 30.0
_UNANSWERED = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
_TICK_S = 0.5
_SNAPSHOT_OVERHEAD = 1 << 16  # names and metadata of a snapshot
_SNAPSHOT_VECTORS = 16  # most vectors in a replica


class WorkerShell:
    """Runs one worker until the run is over."""

    def __init__(
        self,
        core: WorkerCore,
        *,
        recipe: str,
        token: str = "",
        store: CheckpointStore | None = None,
        give_up_s: float = 60.0,
        lease_s: float = LEASE_S,
        progress_s: float = 10.0,
        configure: Callable[[str], None] = lambda resolved: None,
        note: Callable[[str], None] = lambda text: None,
        phases: Phases | None = None,
        leaving: Callable[[], bool] = lambda: False,
        apart: bool = False,
        securing: Securing | None = None,
        recalled: Callable[[], str] = lambda: "",
    ) -> None:
        self._core, self._recipe, self._token, self._store = core, recipe, token, store
        self._keeper = Keeper(core, store)
        self._give_up_s, self._lease_s, self._configure, self._note = give_up_s, lease_s, configure, note
        self._refusals, self._patience, self._calls = Refusals(), Patience(progress_s), Patience(progress_s)
        self._pace = Pace(self._patience)  # of the stream that is open
        self._leaving, self._apart, self._recalled, self._securing = leaving, apart, recalled, securing
        core.keeps_uplinks = securing is None
        self._known: Any = None  # the session of the last join
        self._step_s = float("inf")  # of the first step nothing is known: a network may need long for it
        self._attempts: tuple[int, int, int] = (0, 0, 0)  # epoch, round, times its uplink was sent
        self._checkpoint_every = 0
        self._session_id = ""  # of the last join
        self._asking: Calls | None = None  # of the connection that is open
        self._where: tuple[Address, ClientSecurity] | None = None
        self._order = first_order(time.time())  # of the last join that was sent
        self.ledger = ClientLedger()
        self.phases = phases or Phases()

    async def run(self, address: str, security: ClientSecurity) -> None:
        """Take part in the run at `address` until its end.

        Raises:
            ConfigError: the address is none, TLS does not fit (and how), or the server refuses this worker.
            PeerLost: the server could not be reached for `give_up_s`.
        """
        place = parse_address(address, "the server's address")
        security.credentials()
        self._where = place, security
        waiting = Waiting(f"worker {self._core.worker}", str(place), self._give_up_s, self._note)
        async with waiting.spoken():
            while True:
                before = (self._core.epoch, self._core.round)
                try:
                    async with open_aio_channel(place, security, waiting.slack * self._lease_s) as channel:
                        if await self._session(channel, waiting.met):
                            return
                    reason = "the server ended the stream"
                    waiting.superseded()
                except RankTaken as error:
                    reason = waiting.taken(str(error), self._lease_s)
                except grpc.aio.AioRpcError as error:
                    reason = error.details() or error.code().name
                    believed = self._refusals.believes(error)
                    if believed and error.code() == RUN_OVER:
                        self._note(reason)
                        return
                    if believed:
                        raise ConfigError(f"the server at {place} refused worker {self._core.worker}: {reason}") from error
                    if error.code() == grpc.StatusCode.UNAVAILABLE:
                        reason = await _explained(place, security, reason, met=waiting.ever_met)
                except BrokenStream as error:
                    reason = str(error)
                    self._note(f"worker {self._core.worker} joins again: {reason}")
                if (self._core.epoch, self._core.round) != before:
                    waiting.progressed()
                await asyncio.sleep(waiting.failed(reason))

    # -- one connection --------------------------------------------------------------------------------------------------

    async def _session(self, channel: grpc.aio.Channel, met: Callable[[], None]) -> bool:
        """Join and exchange rounds until the run ends (True) or the stream does (False)."""
        if self._known is not None and self._leaving():  # whoever ended the last stream still knows the session
            with contextlib.suppress(grpc.aio.AioRpcError):
                await _leave(Calls(channel, self.ledger, self._known), DONE)
                return True
        reply = await self._join(channel)
        met()
        session = self._known = ((SESSION_KEY, reply.session),)
        calls = self._asking = Calls(channel, self.ledger, session)
        if self._keeper.go_to(reply) and not await self._take_snapshot(calls, reply):
            return False
        call = channel.stream_stream(f"/{SERVICE}/Exchange")(metadata=session)
        async with self._kept(call, calls, reply) as over:
            try:
                await self._rounds(call, calls, reply, over)
            except EOFError:
                if (code := await call.code()) != grpc.StatusCode.OK:
                    metadata = (await call.initial_metadata(), await call.trailing_metadata())
                    raise grpc.aio.AioRpcError(code, *metadata, await call.details()) from None
                return False
        return True

    @contextlib.asynccontextmanager
    async def _kept(self, call: Any, calls: Calls, reply: pb.JoinReply) -> AsyncIterator[asyncio.Event]:
        """A stream with its lease renewed beside it; what is yielded is set when it is over, at the end it is cancelled."""
        pace, over = Pace(self._patience), asyncio.Event()
        self._pace, self._inbox = pace, Inbox(call, ahead=reply.merging)
        call.add_done_callback(lambda _: over.set())
        works = (self._beat(calls, pace, reply.lease_s / 3, over), self._watch(pace))
        beside = [asyncio.create_task(work) for work in works]
        for task in beside:  # it failed: nobody would renew the lease, or the stream is stuck
            task.add_done_callback(lambda ended: ended.cancelled() or call.cancel())
        try:
            yield over
        except asyncio.CancelledError as error:
            ended = (task.exception() for task in beside if task.done() and not task.cancelled())
            raise next((why for why in ended if why is not None), error) from None
        finally:
            for task in beside:
                task.cancel()
            self._inbox.close()
            call.cancel()

    async def _rounds(self, call: Any, calls: Calls, reply: pb.JoinReply, over: asyncio.Event) -> None:
        """Exchange rounds until the run ends; EOFError where the stream does."""
        first, sent = True, reply.counted - 1  # the round in which what was sent last was made
        final = False
        while not final:
            began_s = self.phases.begin()
            try:
                step = await self._step()
            except Leaving:
                await _leave(calls, DONE)
                return
            except NotFiniteError as error:
                await self._diverge(call, calls, error)
                return
            stepped_s = time.perf_counter()
            if step is not None and self._core.round >= reply.round and self._core.made > sent:
                if self._securing is None:
                    await self._send(call, *step)
                else:
                    await self._send_masked(call, calls, over, self._securing, step)
                sent = self._core.made
                self._core.look_ahead()
            final, received_s = await self._receive()
            if not first:
                self.phases.end(began_s, stepped_s, received_s)
            first = False
        await self._thank(call)

    async def _diverge(self, call: Any, calls: Calls, error: NotFiniteError) -> None:
        """Say that this worker's numbers are no numbers any more; EOFError where another worker was first."""
        self._note(f"worker {self._core.worker} at round {self._core.round}: {error}")
        try:
            await _leave(calls, DIVERGED)
        except grpc.aio.AioRpcError:
            if call.done():
                raise EOFError from None
            raise

    async def _thank(self, call: Any) -> None:
        """Let the server go, and end the call: it counts what it has sent."""
        with contextlib.suppress(asyncio.InvalidStateError):  # the stream is gone, the worker has everything
            await call.write(THANKS)
            self.ledger.up += len(THANKS)
            await call.done_writing()
        while await self._inbox.read() is not grpc.aio.EOF:
            pass

    async def _join(self, channel: grpc.aio.Channel) -> pb.JoinReply:
        core, self._order = self._core, self._order + 1
        request = pb.JoinRequest(
            protocol=PROTOCOL,
            worker=core.worker,
            recipe=self._recipe,
            dimension=core.dimension,
            rounds=self._keeper.rounds(),
            epoch=core.epoch,
            token=self._token,
            order=self._order,
        )
        shown = ((SESSION_KEY, self._session_id),) if self._session_id else ()
        self._calls.stuck += 1
        try:
            ask = Calls(channel, self.ledger, shown).ask
            reply: pb.JoinReply = await ask("Join", request, pb.JoinReply, self._calls.allowed_s / 2)
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.DEADLINE_EXCEEDED:  # a refusal is an answer, and says nothing of the link
                self._calls.stuck -= 1
            if error.code() != grpc.StatusCode.ALREADY_EXISTS:
                raise
            raise RankTaken(error.details()) from error
        self._calls.stuck = 0
        self._session_id = reply.session
        if reply.protocol != PROTOCOL:
            raise ConfigError(f"the server speaks protocol version {reply.protocol}, this worker {PROTOCOL}; take one release")
        self._configure(reply.resolved)
        core.members, core.placed, core.merging = tuple(reply.members), True, reply.merging
        self._checkpoint_every = reply.checkpoint_every
        return reply

    async def _take_snapshot(self, calls: Calls, reply: pb.JoinReply) -> bool:
        """Go on from the server's replica; False when the server has gone on since it announced one: join again."""
        core, announced = self._core, (reply.epoch, reply.resume)
        limit = _SNAPSHOT_OVERHEAD + _SNAPSHOT_VECTORS * 8 * core.dimension
        data, allowed_s = bytearray(), self._patience.allowed_s
        self._patience.stuck += 1  # unless a piece comes
        async for chunk in calls.pieces("Snapshot", pb.SnapshotRequest(), pb.SnapshotChunk, allowed_s):
            self._patience.stuck = 0
            if reply.merging and not data and chunk.epoch == reply.epoch and chunk.round > reply.resume:
                reply.resume = reply.epoch_start = chunk.round  # rounds have not waited
                reply.round, announced = max(reply.round, chunk.round), (chunk.epoch, chunk.round)
            if (chunk.epoch, chunk.round) > announced:
                return False
            if (chunk.epoch, chunk.round) != announced or len(data) + len(chunk.data) > min(limit, chunk.total or limit):
                raise BrokenStream(f"the snapshot of round {chunk.round} is not the announced one of round {reply.resume}")
            data += chunk.data
        replica = core.unpack_replica(bytes_to_arrays(data, "the server's snapshot"))
        if self._keeper.take_snapshot(reply, replica, every=self._checkpoint_every):
            self._save()
        return True

    async def _beat(self, calls: Calls, pace: Pace, every_s: float, over: asyncio.Event) -> None:
        """Renew the lease; ends, with an error, when the server has no stream to answer on.

        Often once the stream is `over` while a long step goes on: the server takes it for dead soon. What is not answered
        goes by another connection at once, and from then on: on a slow link heartbeats wait behind a frame for longer than a
        lease; and a flipped bit can make one end take all that follows for one long frame of HTTP/2, pings and heartbeats
        included, and nobody would ever hear that frames are missing.
        """
        async with contextlib.AsyncExitStack() as beside:
            for at_once in itertools.chain((False, True), itertools.repeat(False)):
                await self._beat_here(calls, pace, every_s, over, at_once=at_once)
                assert self._where is not None
                await beside.aclose()  # the one before
                channel = await beside.enter_async_context(open_aio_channel(*self._where, self._lease_s))
                calls = calls.by(channel)

    async def _beat_here(self, calls: Calls, pace: Pace, every_s: float, over: asyncio.Event, *, at_once: bool) -> None:
        """Heartbeats on one connection, until one is not answered."""
        alone = refused = 0
        silent = False
        while not silent:
            if not over.is_set() and not at_once:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(every_s):  # wait_for loses a cancellation that meets the event (until 3.12)
                        await over.wait()
            if over.is_set():
                await asyncio.sleep(min(every_s, _BEAT_AGAIN_S))
            at_once = False
            try:
                beat = pb.HeartbeatRequest(frames=pace.sent)
                reply = await calls.ask("Heartbeat", beat, pb.HeartbeatReply, every_s)
                pace.hear(reply.frames)
                alone, refused = alone + 1 if (pace.waits or pace.sends) and not reply.stream else 0, 0
            except BrokenStream:  # one answer of many
                pass
            except grpc.aio.AioRpcError as error:  # where nobody is there, the stream notices what matters
                refused = refused + 1 if error.code() not in _UNANSWERED and not over.is_set() else 0
                silent = error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            if refused == 2:  # a flipped bit can stay in what the ends of a connection remember of names and metadata
                raise BrokenStream("the server refuses this worker's heartbeats")
            if alone == 2:  # the first may have crossed the stream's beginning or end
                raise BrokenStream("the server has no stream of this worker")

    async def _watch(self, pace: Pace) -> None:
        """Ends, with an error, when the stream is stuck, or its worker is to go on from another boundary."""
        while True:
            await asyncio.sleep(_TICK_S)
            if why := self._recalled() or pace.age(_TICK_S):
                raise BrokenStream(why)

    async def cost(self) -> pb.HeartbeatReply:
        """What the server says that the run has cost it.

        Raises:
            BrokenStream: it does not say.
        """
        if self._asking is None:
            raise BrokenStream("there is no connection on which to ask what the run has cost")
        beat = pb.HeartbeatRequest(frames=self._pace.sent, cost=True)
        try:
            reply: pb.HeartbeatReply = await self._asking.ask("Heartbeat", beat, pb.HeartbeatReply, self._patience.allowed_s)
        except (grpc.aio.AioRpcError, grpc.aio.UsageError) as error:
            raise BrokenStream(f"the server has not said what the run has cost: {error}") from error
        return reply

    # -- one round -------------------------------------------------------------------------------------------------------

    async def _step(self) -> tuple[list[Buffer], int | None] | None:
        if self._core.idle:
            self._core.ensure_stepped()
            return None
        begin = time.perf_counter()
        result: tuple[list[Buffer], int | None]
        if self._apart:
            result = await _in_daemon(self._core.step)
        else:
            result = await asyncio.to_thread(self._core.step) if self._step_s > _THREAD_ABOVE_S else self._core.step()
        self._step_s = time.perf_counter() - begin
        return result

    async def _send(self, call: Any, buffers: list[Buffer], digest: int | None) -> None:
        here = (self._core.epoch, self._core.made)
        attempt = self._attempts[2] + 1 if self._attempts[:2] == here else 0
        self._attempts = (*here, attempt)
        await self._write(call, buffers, digest, attempt)

    async def _write(self, call: Any, buffers: list[Buffer], digest: int | None, attempt: int) -> None:
        core, (samples, steps) = self._core, self._core.measures
        about: dict[str, Any] = {"sender": core.worker + 1, "attempt": attempt, "samples": samples, "steps": steps}
        for frame in frames_of(buffers, epoch=core.epoch, round_=core.made, digest=digest, **about):
            self._pace.sent += 1
            self._pace.sends = True
            try:
                await call.write(frame)
            except asyncio.InvalidStateError:  # the server has ended the stream
                raise EOFError from None
            self._pace.sends = False
            self.ledger.up += len(frame)

    async def _send_masked(
        self, call: Any, calls: Calls, over: asyncio.Event, securing: Securing, step: tuple[list[Buffer], int | None]
    ) -> None:
        """Take the steps of secure aggregation with the uplink of a step; ends with the stream.

        Others are waited for, perhaps for long; a call that a flipped bit has hidden from the server is made again, and what is
        said twice is taken once.
        """

        async def ask(request: pb.SecureRequest) -> pb.SecureReply:
            while True:
                try:
                    return await asked_once(request)
                except grpc.aio.AioRpcError as error:
                    if error.code() != grpc.StatusCode.DEADLINE_EXCEEDED:
                        raise

        async def asked_once(request: pb.SecureRequest) -> pb.SecureReply:
            asking = calls.ask("Secure", request, pb.SecureReply, _ASK_AGAIN_S)
            asked: asyncio.Future[pb.SecureReply] = asyncio.ensure_future(asking)
            ended = asyncio.ensure_future(over.wait())
            try:
                await asyncio.wait((asked, ended), return_when=asyncio.FIRST_COMPLETED)
                if not asked.done():
                    raise EOFError
                return asked.result()
            finally:
                asked.cancel()
                ended.cancel()

        async def send(data: bytes, attempt: int) -> None:
            await self._write(call, [data], step[1], attempt)

        await securing.exchange(self._core, ask, send)

    async def _receive(self) -> tuple[bool, float]:
        """Take the downlink of the round, or a catch-up to a later one; whether it ends the run, and when it was there."""
        core, before = self._core, self._core.round
        frame = await self._frame()
        round_, sizes = core.awaits(frame.round)
        message = await self._message(frame, round_, sizes)
        received_s = time.perf_counter()
        core.take(round_, message, frame.counted)
        if self._keeper.saves(before, every=self._checkpoint_every, final=frame.final):
            self._save()
        return frame.final, received_s

    def _save(self) -> None:
        """Keep the state at this boundary."""
        if self._store is not None:
            arrays, meta = self._core.capture()
            self._store.save(self._core.round, arrays, {**meta, "recipe": self._recipe})

    async def _message(self, frame: Frame, round_: int, sizes: tuple[int, ...]) -> Message:
        """The message that begins with this frame."""
        draws = Draws(self._core.draws.seed, round_, SERVER)
        self._expect(frame, round_, 0)
        if len(frame.data) == frame.total:
            return decode(frame.data, sizes, draws)
        decoder, assembly = StreamDecoder(sizes, draws, frame.total), Assembly(sizes)
        for sequence in itertools.count(1):
            assembly.add(decoder.feed(frame.data))
            if decoder.complete:
                break
            self._pace.expect()
            frame = await self._frame()
            self._expect(frame, round_, sequence)
        return assembly.message()

    def _expect(self, frame: Frame, round_: int, sequence: int) -> None:
        if (frame.epoch, frame.round, frame.sender, frame.sequence) != (self._core.epoch, round_, 0, sequence):
            raise BrokenStream(f"expected frame {sequence} of round {round_}, got {frame.sequence} of {frame.round}")

    async def _frame(self) -> Frame:
        self._pace.waits = True
        raw = await self._inbox.read()
        if raw is grpc.aio.EOF:
            raise EOFError
        self._pace.come()
        self.ledger.down += len(raw)
        return read_frame(raw)


async def _leave(calls: Calls, reason: str) -> None:
    """Tell the server that this worker goes, and why."""
    await calls.ask("Leave", pb.LeaveRequest(reason=reason), pb.LeaveReply, _LEAVE_S)


async def _in_daemon(function: Callable[[], Any]) -> Any:
    """What a function returns, from a thread that ends with the process: a program's step may never come.

    Those of `asyncio.to_thread` are waited for when the interpreter ends.
    """
    loop = asyncio.get_running_loop()
    future = loop.create_future()

    def settle(set_: Callable[[Any], None], value: Any) -> None:
        if not future.done():  # else nobody waits any more
            set_(value)

    def work() -> None:
        done: tuple[Callable[[Any], None], Any]
        try:
            done = future.set_result, function()
        except Exception as error:
            done = future.set_exception, error
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, *done)

    threading.Thread(target=work, name="saddlebag-step", daemon=True).start()
    return await future


async def _explained(place: Address, security: ClientSecurity, reason: str, *, met: bool) -> str:
    """Why there is no connection, in better words than gRPC's where there are some.

    Raises:
        ConfigError: another attempt would find the same; a server that was `met` before may come back as it was.
    """
    found = await asyncio.to_thread(probe, place, security)
    if found is None:
        return reason
    if found.lasting and not met:
        raise ConfigError(f"cannot connect to {place}: {found.text}")
    return found.text
