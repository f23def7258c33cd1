"""The gRPC side of the parameter server: moves bytes, keeps time, maps errors. Decisions are the core's.

One handler per worker stream: it sends the stored downlinks the worker lacks, reads its uplink, waits for the round, and
again. A handler stops reading while its worker is far ahead of an earlier one, so gRPC's flow control bounds the memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import secrets
import time
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import grpc.aio

from saddlebag.algorithms import Record, pack
from saddlebag.errors import ConfigError, SaddlebagError
from saddlebag.proto.checkpoint import CheckpointStore, arrays_to_bytes
from saddlebag.proto.endpoint import RUN_OVER, SERVICE, ServerSecurity
from saddlebag.proto.frames import FRAME_BYTES
from saddlebag.proto.handshake import PROTOCOL, SESSION_KEY, JoinAsk
from saddlebag.proto.v1 import parameter_server_pb2 as pb
from saddlebag.server import effects as events
from saddlebag.server.calls import handlers, status_of
from saddlebag.server.port import open_port
from saddlebag.server.streams import Doorbell, Gate, Streams

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from saddlebag.server.core import ServerCore

__all__ = ["ServerShell"]

_BACKLOG_BYTES = 4 << 20  # of one worker that wait for earlier ones: enough to keep a link busy, small beside a model
_THREAD_ABOVE = 1 << 18  # dimension from which a round is finished in a thread, so that heartbeats are answered meanwhile
_TICK_S = 0.5

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
    ) -> None:
        self._core, self._store = core, store
        self._observe, self._note = observe, note
        self._busy = asyncio.Lock()  # held while a round is finished in a thread
        self._turn = Gate(core.round)  # another round or epoch
        self._progress = Doorbell()  # backlogs may have shrunk
        self._streams = Streams()
        self._saving: asyncio.Task[None] | None = None
        self._finishing: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None
        self._final_sent: set[int] = set()
        self._over = asyncio.Event()
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
        self._server, port = await open_port(SERVICE, handlers(self), address, security, has_token=token, warn=self._note)
        return port

    async def run(self) -> None:
        """Serve until the run is over and every worker has its last downlink, or until a failure."""
        assert self._server is not None, "start first"
        if self._core.finished:
            self._over.set()
        ticker = asyncio.create_task(self._tick())
        try:
            await self._over.wait()
            await self._settle()
            if self._failure is not None:
                raise self._failure
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._drained(), self._core.settings.lease_s)
        finally:
            ticker.cancel()
            await self._server.stop(grace=0.5)

    def stop(self) -> None:
        """End `run` now; the run itself can be resumed from its last checkpoint."""
        self._final_sent.update(self._core.members)
        self._over.set()

    async def _drained(self) -> None:
        while not self._final_sent.issuperset(self._core.members):
            await asyncio.sleep(0.02)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            async with self._busy:
                await self._apply(self._core.tick(time.monotonic()))

    async def _settle(self) -> None:
        if self._saving is not None:
            await self._saving
            self._saving = None

    # -- effects ---------------------------------------------------------------------------------------------------------

    async def _apply(self, effects: list[events.Effect]) -> None:
        for effect in effects:
            match effect:
                case events.Save():
                    await self._settle()
                    if self._store is not None:
                        save = asyncio.to_thread(self._store.save, effect.round, effect.arrays, effect.meta)
                        self._saving = asyncio.create_task(save)
                        if self._core.finished:
                            await self._settle()
                case events.Observe(record):
                    self._observe(record)
                case events.Broadcast():
                    self._turn.open(self._core.round)
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
                    self._over.set()
                case events.RoundReady() if len(self._core.replica.z_D) > _THREAD_ABOVE:
                    self._finishing = asyncio.create_task(self._finish_large())  # its worker's stream goes on
                case events.RoundReady():
                    await self._finish_round()

    async def _finish_large(self) -> None:
        try:
            await self._finish_round(large=True)
        except Exception as error:  # whatever it is, no worker can go on, and `run` raises it
            self._failure = error
            self._over.set()
            code = status_of(error) if isinstance(error, SaddlebagError) else grpc.StatusCode.INTERNAL
            self._streams.end_all(code, str(error))

    async def _finish_round(self, *, large: bool = False) -> None:
        async with self._busy:
            wake, coming = asyncio.get_running_loop().call_soon_threadsafe, self._core.round + 1
            finish = functools.partial(self._core.finish_round, time.monotonic(), lambda: wake(self._turn.open, coming))
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
        )
        if self._core.cut_short:
            self._final_sent.add(request.worker)
            await context.abort(RUN_OVER, f"the run is over: {self._core.finished}")
        async with self._busy:
            try:
                if request.protocol != PROTOCOL:
                    raise ConfigError(
                        f"protocol version {request.protocol} is not the server's {PROTOCOL}; use the same release"
                    )
                answer, effects = self._core.join(ask, secrets.token_hex(16), time.monotonic())
            except SaddlebagError as error:
                await context.abort(status_of(error), str(error))
            await self._apply(effects)
        reply = pb.JoinReply(protocol=PROTOCOL, **dataclasses.asdict(answer))
        self._core.ledger.count_control(down=reply.ByteSize())
        return reply

    async def _member(self, context: Context) -> int:
        metadata = dict(context.invocation_metadata() or ())
        worker = self._core.roster.worker_of(str(metadata.get(SESSION_KEY, "")))
        if worker is None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "this session is not, or no longer, valid; join again")
        assert worker is not None
        return worker

    async def heartbeat(self, request: pb.HeartbeatRequest, context: Context) -> pb.HeartbeatReply:
        """Renew a worker's lease."""
        self._core.roster.see(await self._member(context), time.monotonic())
        reply = pb.HeartbeatReply(epoch=self._core.epoch, round=self._core.round)
        self._core.ledger.count_control(up=request.ByteSize(), down=reply.ByteSize())
        return reply

    async def leave(self, request: pb.LeaveRequest, context: Context) -> pb.LeaveReply:
        """End a worker's membership."""
        worker = await self._member(context)
        self._core.ledger.count_control(up=request.ByteSize())
        async with self._busy:
            await self._apply(self._core.leave(worker, request.reason, time.monotonic()))
        self._final_sent.add(worker)
        return pb.LeaveReply()

    async def snapshot(self, request: bytes, context: Context) -> AsyncIterator[pb.SnapshotChunk]:
        """Send the replica at the present boundary, in chunks."""
        await self._member(context)
        self._core.ledger.count_control(up=len(request))
        async with self._busy:
            epoch, round_, replica = self._core.epoch, self._core.round, self._core.replica
        data = await asyncio.to_thread(arrays_to_bytes, pack(replica), {"epoch": epoch, "round": round_})
        for at in range(0, len(data), FRAME_BYTES):
            chunk = pb.SnapshotChunk(epoch=epoch, round=round_, total=len(data), data=data[at : at + FRAME_BYTES])
            self._core.ledger.count_control(down=chunk.ByteSize())
            yield chunk

    async def exchange(self, requests: Any, context: Context) -> None:
        """Serve one worker's rounds."""
        del requests  # read through the context: one coroutine alternates between reading and writing
        worker = await self._member(context)
        metadata = dict(context.invocation_metadata() or ())
        session, task = str(metadata[SESSION_KEY]), self._streams.open(worker)
        try:
            await self._serve(worker, session, context)
        except SaddlebagError as error:
            self._note(f"worker {worker} dropped: {error}")
            await context.abort(status_of(error), str(error))
        except asyncio.CancelledError:
            if not self._streams.ended(task):
                raise
        finally:
            self._core.lost(worker, session, time.monotonic())
            self._streams.close(worker, task)
        if verdict := self._streams.verdict(task):
            task.uncancel()
            if verdict[0] is RUN_OVER:
                self._final_sent.add(worker)
            await context.abort(*verdict)

    async def _serve(self, worker: int, session: str, context: Context) -> None:
        core = self._core
        cursor, epoch = core.roster.resume_of(worker), core.epoch
        while core.roster.worker_of(session) == worker and core.epoch == epoch:
            while (delivery := core.delivery(worker, cursor)) is not None and self._turn.lets(delivery.end):
                for sequence, frame in enumerate(delivery.frames):
                    await context.write(frame)
                    core.delivered(worker, delivery, sequence)
                cursor = delivery.end
                if core.is_final(cursor - 1):
                    self._final_sent.add(worker)
                    return
            if core.cut_short or (core.finished is not None and cursor == core.round):
                return
            if cursor == core.round and core.needs_uplink(worker):
                if not await self._read_frame(worker, context):
                    return
            else:  # others are awaited, or this worker is idle
                await self._turn.wait()

    async def _read_frame(self, worker: int, context: Context) -> bool:
        """Read and handle one frame; False when the worker, or what the frame led to, has ended its stream."""
        while self._core.backlog(worker) > _BACKLOG_BYTES:
            await self._progress.wait()
        raw = await context.read()
        if raw is grpc.aio.EOF:
            return False
        effects = self._core.frame(worker, raw, time.monotonic())
        self._progress.ring()
        try:
            await self._apply(effects)
        except SaddlebagError as error:  # the round itself failed: no worker can go on
            self._failure = error
            self._over.set()
            raise
        task = asyncio.current_task()
        return task is None or not self._streams.ended(task)
