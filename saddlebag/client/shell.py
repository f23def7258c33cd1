"""The gRPC side of a worker: joins, keeps one stream, comes back after a fault."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from saddlebag.algorithms import DIVERGED
from saddlebag.client.account import ClientLedger, Phases
from saddlebag.client.keeping import Keeper
from saddlebag.client.waiting import RankTaken, Waiting
from saddlebag.compression import SERVER, Draws
from saddlebag.errors import ConfigError, NotFiniteError, RemoteProtocolError
from saddlebag.proto.address import parse_address
from saddlebag.proto.channel import open_aio_channel
from saddlebag.proto.checkpoint import CheckpointStore, bytes_to_arrays
from saddlebag.proto.codec import decode
from saddlebag.proto.endpoint import FATAL, LEASE_S, RUN_OVER, SERVICE, ClientSecurity
from saddlebag.proto.frames import Frame, frames_of, read_frame
from saddlebag.proto.handshake import PROTOCOL, SESSION_KEY
from saddlebag.proto.probe import probe
from saddlebag.proto.streaming import Assembly, StreamDecoder
from saddlebag.proto.v1 import parameter_server_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable

    from saddlebag.algorithms import Message
    from saddlebag.client.core import WorkerCore
    from saddlebag.proto.address import Address
    from saddlebag.proto.reader import Buffer

__all__ = ["WorkerShell"]

_THREAD_ABOVE_S = 0.02
"""A step that took longer runs in a thread the next time, so that heartbeats go out meanwhile."""
_CALL_TIMEOUT_S = 30.0
_BEAT_AGAIN_S = 0.2
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
        configure: Callable[[str], None] = lambda resolved: None,
        note: Callable[[str], None] = lambda text: None,
        phases: Phases | None = None,
    ) -> None:
        self._core, self._recipe, self._token, self._store = core, recipe, token, store
        self._keeper = Keeper(core, store)
        self._give_up_s, self._lease_s, self._configure, self._note = give_up_s, lease_s, configure, note
        self._step_s = float("inf")  # of the first step nothing is known: a network may need long for it
        self._attempts: tuple[int, int, int] = (0, 0, 0)  # epoch, round, times its uplink was sent
        self._checkpoint_every = 0
        self._session_id = ""  # of the last join
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
        waiting = Waiting(f"worker {self._core.worker}", str(place), self._give_up_s, self._note)
        async with waiting.spoken():
            while True:
                before = (self._core.epoch, self._core.round)
                try:
                    async with open_aio_channel(place, security, self._lease_s) as channel:
                        if await self._session(channel, waiting.met):
                            return
                    reason = "the server ended the stream"
                except RankTaken as error:
                    reason = waiting.taken(str(error), self._lease_s)
                except grpc.aio.AioRpcError as error:
                    reason = error.details() or error.code().name
                    if error.code() == RUN_OVER:
                        self._note(reason)
                        return
                    if error.code() in FATAL:
                        raise ConfigError(f"the server at {place} refused worker {self._core.worker}: {reason}") from error
                    if error.code() == grpc.StatusCode.UNAVAILABLE:
                        reason = await _explained(place, security, reason, met=waiting.ever_met)
                if (self._core.epoch, self._core.round) != before:
                    waiting.progressed()
                await asyncio.sleep(waiting.failed(reason))

    # -- one connection --------------------------------------------------------------------------------------------------

    async def _session(self, channel: grpc.aio.Channel, met: Callable[[], None]) -> bool:
        """Join and exchange rounds until the run ends (True) or the stream does (False)."""
        reply = await self._join(channel)
        met()
        session = ((SESSION_KEY, reply.session),)
        if self._keeper.go_to(reply) and not await self._take_snapshot(channel, session, reply):
            return False
        call = channel.stream_stream(f"/{SERVICE}/Exchange")(metadata=session)
        ended = asyncio.Event()
        call.add_done_callback(lambda _: ended.set())
        beats = asyncio.create_task(self._beat(channel, session, reply.lease_s / 3, ended))
        beats.add_done_callback(lambda ended: ended.cancelled() or call.cancel())  # it failed: nobody would renew the lease
        first = True
        try:
            while True:
                began_s = self.phases.begin()
                try:
                    step = await self._step()
                except NotFiniteError as error:
                    self._note(f"worker {self._core.worker} at round {self._core.round}: {error}")
                    try:
                        await self._leave(channel, session, DIVERGED)
                    except grpc.aio.AioRpcError:
                        if call.done():  # another worker was first
                            raise EOFError from None
                        raise
                    return True
                stepped_s = time.perf_counter()
                if step is not None and self._core.round >= reply.round:
                    await self._send(call, *step)
                    self._core.look_ahead()
                final, received_s = await self._receive(call)
                if not first:
                    self.phases.end(began_s, stepped_s, received_s)
                first = False
                if final:
                    await call.done_writing()
                    while await call.read() is not grpc.aio.EOF:  # let the server end the call: it counts what it has sent
                        pass
                    return True
        except EOFError:
            if (code := await call.code()) != grpc.StatusCode.OK:
                metadata = (await call.initial_metadata(), await call.trailing_metadata())
                raise grpc.aio.AioRpcError(code, *metadata, await call.details()) from None
            return False
        except asyncio.CancelledError as error:
            raise (beats.exception() if beats.done() else None) or error from None
        finally:
            beats.cancel()
            call.cancel()

    async def _join(self, channel: grpc.aio.Channel) -> pb.JoinReply:
        core = self._core
        request = pb.JoinRequest(
            protocol=PROTOCOL,
            worker=core.worker,
            recipe=self._recipe,
            dimension=core.dimension,
            rounds=self._keeper.rounds(),
            epoch=core.epoch,
            token=self._token,
        )
        self.ledger.up += request.ByteSize()
        join = channel.unary_unary(f"/{SERVICE}/Join", pb.JoinRequest.SerializeToString, pb.JoinReply.FromString)
        shown = ((SESSION_KEY, self._session_id),) if self._session_id else ()
        try:
            reply: pb.JoinReply = await join(request, timeout=_CALL_TIMEOUT_S, metadata=shown)
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.ALREADY_EXISTS:
                raise
            raise RankTaken(error.details()) from error
        self._session_id = reply.session
        self.ledger.down += reply.ByteSize()
        if reply.protocol != PROTOCOL:
            raise ConfigError(f"the server speaks protocol version {reply.protocol}, this worker {PROTOCOL}; take one release")
        self._configure(reply.resolved)
        core.members = tuple(reply.members)
        self._checkpoint_every = reply.checkpoint_every
        return reply

    async def _take_snapshot(self, channel: grpc.aio.Channel, metadata: Any, reply: pb.JoinReply) -> bool:
        """Go on from the server's replica; False when the server has gone on since it announced one: join again."""
        core, announced = self._core, (reply.epoch, reply.resume)
        snapshot = channel.unary_stream(
            f"/{SERVICE}/Snapshot", pb.SnapshotRequest.SerializeToString, pb.SnapshotChunk.FromString
        )
        limit = _SNAPSHOT_OVERHEAD + _SNAPSHOT_VECTORS * 8 * core.dimension
        data = bytearray()
        async for chunk in snapshot(pb.SnapshotRequest(), metadata=metadata):
            self.ledger.down += chunk.ByteSize()
            if (chunk.epoch, chunk.round) > announced:
                return False
            if (chunk.epoch, chunk.round) != announced or len(data) + len(chunk.data) > min(limit, chunk.total or limit):
                raise RemoteProtocolError(
                    f"the snapshot of round {chunk.round} is not the announced one of round {reply.resume}"
                )
            data += chunk.data
        replica = core.unpack_replica(bytes_to_arrays(bytes(data), "the server's snapshot"))
        if self._keeper.take_snapshot(reply, replica, every=self._checkpoint_every):
            self._save()
        return True

    async def _beat(self, channel: grpc.aio.Channel, metadata: Any, every_s: float, ended: asyncio.Event) -> None:
        """Renew the lease; often once the stream has `ended` while a long step goes on: the server takes it for dead soon."""
        beat = channel.unary_unary(f"/{SERVICE}/Heartbeat", pb.HeartbeatRequest.SerializeToString, pb.HeartbeatReply.FromString)
        while True:
            if not ended.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(ended.wait(), every_s)
            if ended.is_set():
                await asyncio.sleep(min(every_s, _BEAT_AGAIN_S))
            with contextlib.suppress(grpc.aio.AioRpcError):  # the stream notices what matters
                reply = await beat(pb.HeartbeatRequest(), metadata=metadata, timeout=every_s)
                self.ledger.down += reply.ByteSize()

    async def _leave(self, channel: grpc.aio.Channel, metadata: Any, reason: str) -> None:
        leave = channel.unary_unary(f"/{SERVICE}/Leave", pb.LeaveRequest.SerializeToString, pb.LeaveReply.FromString)
        request = pb.LeaveRequest(reason=reason)
        self.ledger.up += request.ByteSize()
        await leave(request, metadata=metadata, timeout=_CALL_TIMEOUT_S)

    # -- one round -------------------------------------------------------------------------------------------------------

    async def _step(self) -> tuple[list[Buffer], int | None] | None:
        if self._core.idle:
            self._core.ensure_stepped()
            return None
        begin = time.perf_counter()
        result = await asyncio.to_thread(self._core.step) if self._step_s > _THREAD_ABOVE_S else self._core.step()
        self._step_s = time.perf_counter() - begin
        return result

    async def _send(self, call: Any, buffers: list[Buffer], digest: int | None) -> None:
        core = self._core
        here = (core.epoch, core.round)
        attempt = self._attempts[2] + 1 if self._attempts[:2] == here else 0
        self._attempts = (*here, attempt)
        for frame in frames_of(
            buffers, epoch=core.epoch, round_=core.round, sender=core.worker + 1, attempt=attempt, digest=digest
        ):
            try:
                await call.write(frame)
            except asyncio.InvalidStateError:  # the server has ended the stream
                raise EOFError from None
            self.ledger.up += len(frame)

    async def _receive(self, call: Any) -> tuple[bool, float]:
        """Take the downlink of the round, or a catch-up to a later one; whether it ends the run, and when it was there."""
        core, before = self._core, self._core.round
        frame = await self._frame(call)
        round_, sizes = core.awaits(frame.round)
        message = await self._message(call, frame, round_, sizes)
        received_s = time.perf_counter()
        core.take(round_, message)
        if self._keeper.saves(before, every=self._checkpoint_every, final=frame.final):
            self._save()
        return frame.final, received_s

    def _save(self) -> None:
        """Keep the state at this boundary."""
        if self._store is not None:
            arrays, meta = self._core.capture()
            self._store.save(self._core.round, arrays, {**meta, "recipe": self._recipe})

    async def _message(self, call: Any, frame: Frame, round_: int, sizes: tuple[int, ...]) -> Message:
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
            frame = await self._frame(call)
            self._expect(frame, round_, sequence)
        return assembly.message()

    def _expect(self, frame: Frame, round_: int, sequence: int) -> None:
        if (frame.epoch, frame.round, frame.sender, frame.sequence) != (self._core.epoch, round_, 0, sequence):
            raise RemoteProtocolError(f"expected frame {sequence} of round {round_}, got {frame.sequence} of {frame.round}")

    async def _frame(self, call: Any) -> Frame:
        raw = await call.read()
        if raw is grpc.aio.EOF:
            raise EOFError
        self.ledger.down += len(raw)
        return read_frame(raw)


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
