"""The gRPC side of the parameter server: moves bytes, keeps time, maps errors. Decisions are the core's.

One handler per worker stream: it sends the stored downlinks the worker lacks, reads its uplink, waits for the round, and
again. A handler stops reading while its worker is far ahead of an earlier one, so gRPC's flow control bounds the memory.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import secrets
import time
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import grpc
import grpc.aio

from saddlebag.algorithms import Record, pack
from saddlebag.errors import BrokenStream, RemoteProtocolError, SaddlebagError
from saddlebag.proto.awake import TICK_S, Awake
from saddlebag.proto.checkpoint import CheckpointStore, arrays_to_bytes
from saddlebag.proto.endpoint import RUN_OVER, SERVICE, ServerSecurity
from saddlebag.proto.frames import FRAME_BYTES, THANKS
from saddlebag.proto.handshake import PROTOCOL, SESSION_KEY, JoinAsk, other_version
from saddlebag.proto.pace import Pace
from saddlebag.proto.seal import SEAL_BYTES
from saddlebag.proto.v1 import parameter_server_pb2 as pb
from saddlebag.server import effects as events
from saddlebag.server.calls import handlers, names_of, refuse, status_of
from saddlebag.server.ending import Ending
from saddlebag.server.joining import RunOver
from saddlebag.server.port import open_port, stays_open
from saddlebag.server.secure.core import SecureCore
from saddlebag.server.streams import Doorbell, Gate, Streams
from saddlebag.server.vigil import Vigil

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from saddlebag.algorithms.merging import Arrivals
    from saddlebag.proto.handshake import JoinAnswer
    from saddlebag.server.core import ServerCore

__all__ = ["ServerShell"]

_BACKLOG_BYTES = 4 << 20  # of one worker that wait for earlier ones: enough to keep a link busy, small beside a model
_THREAD_ABOVE = 1 << 18  # dimension from which a round is finished in a thread, so that heartbeats are answered meanwhile
_LOOK_S = 0.5
_DRAIN_S, _LONGEST_DRAIN_S = 30.0, 900.0  # for workers to take the last downlink: silent ones, and those that are heard of

T = TypeVar("T")
Context: TypeAlias = Any
"""A grpc.aio.ServicerContext; gRPC ships no types."""


class ServerShell:
    """Serves one run and ends when it is over."""

    def __init__(
        self,
        core: ServerCore,
        *,
        store: CheckpointStore | None = None,
        observe: Callable[[Record], None] = lambda record: None,
        note: Callable[[str], None] = lambda text: None,
        waiting: Callable[[str], None] = lambda words: None,
        counts: Callable[[Arrivals], None] = lambda arrivals: None,
    ) -> None:
        self._core, self._store, self._counts = core, store, counts
        self._vigil, self._now = Vigil(waiting, note), Awake()
        self._observe, self._note = observe, note
        self._busy = asyncio.Lock()  # held while a round is finished in a thread
        self._turn = Gate(core.round)  # another round or epoch
        self._progress = Doorbell()  # backlogs may have shrunk
        self._streams = Streams()
        self._paces: dict[int, Pace] = {}  # of the open streams
        self._saving: asyncio.Task[None] | None = None
        self._finishing: asyncio.Task[None] | None = None
        self.ending = Ending(lambda error: self._streams.end_all(status_of(error), str(error)))
        self._final_taken: set[int] = set()
        self._server: grpc.aio.Server | None = None
        self.work_s = 0.0  # at the ends of rounds: downlink, replay, merits
        self.first_end_s: float | None = None  # when the first round ended, by the monotonic clock

    # -- life ------------------------------------------------------------------------------------------------------------

    async def start(self, address: str, security: ServerSecurity) -> int:
        """Open the port; returns its number.

        Raises:
            ConfigError: the port is in use, or the address is not loopback and the server not secured.
        """
        token = bool(self._core.settings.token)
        ways: dict[str, Any] = {"has_token": token, "warn": self._note, "lease_s": self._core.settings.lease_s}
        self._server, port = await open_port(SERVICE, handlers(self), address, security, **ways)
        return port

    async def run(self) -> None:
        """Serve until the run is over and every worker has its last downlink.

        Raises:
            SaddlebagError: the run cannot go on, and why, whatever it was; it can be resumed from its last checkpoint.
        """
        assert self._server is not None, "start first"
        if self._core.finished:
            self.ending.come()
        server = self._server
        beside = [self.ending.beside(work) for work in (self._tick, self._stay_awake, lambda: stays_open(server))]
        try:
            await self.ending.wait()
            await self._settle()
            await self._drained()
            await self._settle()
        finally:
            for task in beside:
                task.cancel()
            await server.stop(grace=0.5)

    def stop(self) -> None:
        """End `run` now; the run itself can be resumed from its last checkpoint."""
        self._final_taken.update(self._core.members)
        self.ending.come()

    async def _drained(self) -> None:
        """Until every member has the end; not for ever, and not for long where nobody of them is heard of."""
        began = heard = self._now()
        while self.ending.failure is None and (left := set(self._core.members) - self._final_taken):
            now = self._now()
            heard = now if self._core.hears(left, now) else heard
            if now - heard > _DRAIN_S or now - began > _LONGEST_DRAIN_S:
                return
            await asyncio.sleep(0.02)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            async with self._busy:
                now = self._now()
                await self._apply(self._core.tick(now))
                self._vigil.look(self._core.waiting(now), now)
            for worker, pace in list(self._paces.items()):
                if why := pace.age(_LOOK_S):
                    self._core.ledger.stuck_streams += 1
                    self._note(f"worker {worker}: {why}; it is to join again")
                    self._streams.end(worker, grpc.StatusCode.ABORTED, why)

    async def _stay_awake(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._now()

    async def _settle(self) -> None:
        """Wait for the checkpoint that is being written; raises what has ended the run, if something has."""
        if self._saving is not None:
            await asyncio.wait([self._saving])  # whoever waits may be cancelled, the writing may not
        self.ending.check()

    # -- effects ---------------------------------------------------------------------------------------------------------

    async def _apply(self, effects: list[events.Effect]) -> None:
        """Carry out what the core asks for, all of it even when the worker that led to it goes away meanwhile.

        What fails here fails for every worker, and nothing is carried out afterwards.
        """

        async def all_of_them() -> None:
            for effect in effects:
                self.ending.check()
                await self._carry_out(effect)

        if effects:
            await asyncio.shield(self.ending.beside(all_of_them))
            self.ending.check()

    async def _alone(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do something between two rounds, to its end, with nobody else in between.

        Who asked for it may go away meanwhile. Then the next one still waits: else it would be told of an epoch that is not
        on disk yet, and be left with it by a server that dies.
        """
        await self._busy.acquire()

        async def all_of_it() -> T:
            try:
                return await work()
            finally:
                self._busy.release()

        task = asyncio.create_task(all_of_it())
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be there to be told
        return await asyncio.shield(task)

    async def _carry_out(self, effect: events.Effect) -> None:
        match effect:
            case events.Save():
                await self._settle()
                if self._store is not None:
                    save = functools.partial(self._store.save, effect.round, effect.arrays, effect.meta)
                    self._saving = self.ending.beside(lambda: asyncio.to_thread(save))
                    if self._core.finished or effect.begins_epoch or effect.at_once:
                        await self._settle()
            case events.Observe(record):
                self._observe(record)
            case events.Counts(arrivals):
                self._counts(arrivals)
            case events.Later(seconds):
                self.ending.beside(lambda: self._later(seconds))
            case events.Broadcast():
                self._turn.open(self._core.round)
            case events.Wake():
                self._turn.ring()
            case events.NewEpoch(reason):
                self._streams.end_all(grpc.StatusCode.ABORTED, reason)
                self._turn.ring()
            case events.Close(worker, reason, superseded):
                code = grpc.StatusCode.ALREADY_EXISTS if superseded else grpc.StatusCode.ABORTED
                self._streams.end(worker, code, reason)
            case events.Note(text):
                self._note(text)
            case events.Finished(reason, announced):
                if not announced:
                    self._streams.end_all(RUN_OVER, f"the run is over: {reason}")
                self.ending.come()
            case events.RoundReady() if self._core.aside or len(self._core.replica.z_D) > _THREAD_ABOVE:
                self._finishing = self.ending.beside(lambda: self._finish_round(large=True))  # its worker's stream goes on
            case events.RoundReady():
                await self._finish_round()

    async def _later(self, seconds: float) -> None:
        due = self._now() + seconds
        while (left_s := due - self._now()) > 0:
            await asyncio.sleep(left_s)
        await self._carry_out(events.RoundReady())

    async def _finish_round(self, *, large: bool = False) -> None:
        async with self._busy:
            wake, coming = asyncio.get_running_loop().call_soon_threadsafe, self._core.round + 1
            self._core.pass_idle(self._now.skipped())
            finish = functools.partial(self._core.finish_round, self._now(), lambda: wake(self._turn.open, coming))
            begin = time.monotonic()
            effects = await asyncio.to_thread(finish) if large else finish()
            end = time.monotonic()
            self.work_s += end - begin
            self.first_end_s = self.first_end_s or end
            await self._apply(effects)

    # -- calls -----------------------------------------------------------------------------------------------------------

    async def join(self, request: pb.JoinRequest, context: Context) -> pb.JoinReply:
        """Admit a worker, or say why not."""
        self._core.ledger.count_control(up=request.ByteSize())
        ask = JoinAsk(
            worker=request.worker,
            recipe=request.recipe,
            dimension=request.dimension,
            rounds=tuple(request.rounds),
            epoch=request.epoch,
            token=request.token,
            order=request.order,
            session=_session_of(context),
            names=names_of(context),
        )
        if request.protocol != PROTOCOL:
            raise other_version(request.protocol)

        async def admitted() -> JoinAnswer:
            answer, effects = self._core.join(ask, secrets.token_hex(16), self._now())
            await self._apply(effects)
            return answer

        try:
            answer = await self._alone(admitted)
        except RunOver:
            self._final_taken.add(request.worker)
            raise
        reply = pb.JoinReply(protocol=PROTOCOL, **dataclasses.asdict(answer))
        self._core.ledger.count_control(down=reply.ByteSize() + SEAL_BYTES)
        return reply

    async def _member(self, context: Context) -> int:
        worker = self._core.roster.worker_of(_session_of(context))
        if worker is None:
            await refuse(context, grpc.StatusCode.UNAUTHENTICATED, "this session is not, or no longer, valid; join again")
        assert worker is not None
        return worker

    async def heartbeat(self, request: pb.HeartbeatRequest, context: Context) -> pb.HeartbeatReply:
        """Renew a worker's lease, and compare what was sent on its stream."""
        worker = await self._member(context)
        self._core.roster.see(worker, self._now())
        reply = pb.HeartbeatReply(epoch=self._core.epoch, round=self._core.round)
        if request.cost:
            async with self._busy:  # the worker may have the downlink of a round that has yet to end here
                core = self._core
                reply.epoch, reply.round = core.epoch, core.round
                reply.up_bytes, reply.down_bytes, reply.spent_s = core.ledger.up.payload, core.down_bytes, core.spent_s
        if (pace := self._paces.get(worker)) is not None:
            pace.hear(request.frames)
            reply.frames, reply.stream = pace.sent, True
        self._core.ledger.count_control(up=request.ByteSize(), down=reply.ByteSize() + SEAL_BYTES)
        return reply

    async def secure(self, request: pb.SecureRequest, context: Context) -> pb.SecureReply:
        """Take a worker's step of secure aggregation; answer when the step is over."""
        worker, core = await self._member(context), self._core
        self._core.ledger.count_control(up=request.ByteSize())
        if not isinstance(core, SecureCore):
            raise RemoteProtocolError("this run has no secure aggregation")
        where, told = (request.epoch, request.round), (request.step, request.attempt)
        async with self._busy:  # not around the effects: the last step of a round ends it
            try:
                effects = core.secure(worker, where, *told, request.data, self._now())
            except RemoteProtocolError as error:
                self._note(f"worker {worker} refused: {error}")
                raise
        await self._apply(effects)
        while (answer := core.secure_answer(worker, where, *told)) is None:
            await self._turn.wait()
        reply = pb.SecureReply(**dataclasses.asdict(answer))
        core.ledger.count_control(down=reply.ByteSize() + SEAL_BYTES)
        return reply

    async def leave(self, request: pb.LeaveRequest, context: Context) -> pb.LeaveReply:
        """End a worker's membership."""
        worker = await self._member(context)
        self._core.ledger.count_control(up=request.ByteSize())
        await self._alone(lambda: self._apply(self._core.leave(worker, request.reason, self._now())))
        self._final_taken.add(worker)
        return pb.LeaveReply()

    async def snapshot(self, request: bytes, context: Context) -> AsyncIterator[pb.SnapshotChunk]:
        """Send the replica at the present boundary, in chunks."""
        worker = await self._member(context)
        self._core.ledger.count_control(up=len(request))

        async def taken() -> tuple[int, int, asyncio.Task[bytes]]:
            epoch, round_, replica, effects = self._core.snapshot(worker, self._now())
            await self._apply(effects)
            about = {"epoch": epoch, "round": round_}
            written = asyncio.create_task(asyncio.to_thread(arrays_to_bytes, pack(replica), about))
            if self._core.changes_states:
                await asyncio.wait([written])  # before the next round changes them
            return epoch, round_, written

        epoch, round_, written = await self._alone(taken)
        data = await written
        for at in range(0, len(data), FRAME_BYTES):
            chunk = pb.SnapshotChunk(epoch=epoch, round=round_, total=len(data), data=data[at : at + FRAME_BYTES])
            self._core.ledger.count_control(down=chunk.ByteSize() + SEAL_BYTES)
            yield chunk

    async def exchange(self, requests: Any, context: Context) -> None:
        """Serve one worker's rounds."""
        del requests  # read through the context: one coroutine alternates between reading and writing
        worker = await self._member(context)
        session, task, epoch = _session_of(context), self._streams.open(worker), self._core.epoch
        self._core.opened(worker, session)
        pace = self._paces[worker] = Pace(self._core.patience[worker])
        over = False
        try:
            over = await self._serve(worker, session, context, pace)
        except SaddlebagError as error:
            if self.ending.failure is None:
                again = "; it is to join again" if isinstance(error, BrokenStream) else ""
                self._note(f"worker {worker} dropped: {error}{again}")
            raise
        except asyncio.CancelledError:
            if not self._streams.ended(task):
                raise
        finally:
            told = self._streams.ended(task) or self._core.epoch != epoch
            self._core.lost(worker, session, self._now(), told=told)
            self._streams.close(worker, task)
            if self._paces.get(worker) is pace:
                del self._paces[worker]
        if over:
            self._final_taken.add(worker)
            await refuse(context, RUN_OVER, f"the run is over: {self._core.finished}")
        if verdict := self._streams.verdict(task):
            task.uncancel()
            if verdict[0] is RUN_OVER:
                self._final_taken.add(worker)
            await refuse(context, *verdict)

    async def _serve(self, worker: int, session: str, context: Context, pace: Pace) -> bool:
        """Whether the worker has yet to be told that the run is over: it has begun at the last boundary."""
        core = self._core
        cursor, epoch = core.roster.resume_of(worker), core.roster.epoch_of(worker)
        while core.roster.worker_of(session) == worker and core.epoch == epoch:
            while (delivery := core.delivery(worker, cursor)) is not None and self._turn.lets(delivery.end):
                for sequence, frame in enumerate(delivery.frames):
                    pace.sent += 1
                    await context.write(frame)
                    core.delivered(worker, delivery, sequence)
                cursor = delivery.end
                if core.is_final(cursor - 1):
                    await self._read_thanks(worker, context)
                    return False
            if core.cut_short or (core.finished is not None and cursor == core.round):
                return not core.cut_short
            if cursor == core.round and core.needs_uplink(worker):
                if not await self._read_frame(worker, context, pace):
                    return False
            else:  # others are awaited, or this worker is idle
                await self._turn.wait()
        return False

    async def _read_thanks(self, worker: int, context: Context) -> None:
        """Wait until a worker has said that it has the end, on its disk too; before that it may come back for it."""
        while (raw := await context.read()) is not grpc.aio.EOF:
            if raw == THANKS:
                self._core.ledger.count_control(up=len(raw))
                self._final_taken.add(worker)
                return
            self._core.frame(worker, raw, self._now())  # of an uplink that it had sent twice

    async def _read_frame(self, worker: int, context: Context, pace: Pace) -> bool:
        """Read and handle one frame; False when the worker, or what the frame led to, has ended its stream."""
        while self._core.backlog(worker) > _BACKLOG_BYTES:
            await self._progress.wait()
        pace.waits = True
        raw = await context.read()
        pace.come()
        if raw is grpc.aio.EOF:
            return False
        effects = self._core.frame(worker, raw, self._now())
        self._progress.ring()
        await self._apply(effects)
        task = asyncio.current_task()
        return task is None or not self._streams.ended(task)


def _session_of(context: Context) -> str:
    """The session that a call shows; empty for none."""
    return str(dict(context.invocation_metadata() or ()).get(SESSION_KEY, ""))
