"""What `WorkerShell` does around its core, in virtual time; kept line by line beside it, see `serving`."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from typing import TYPE_CHECKING, Any

from saddlebag.algorithms import DIVERGED
from saddlebag.client.keeping import Keeper
from saddlebag.client.waiting import RankTaken, Waiting
from saddlebag.compression import SERVER, Draws
from saddlebag.errors import BrokenStream, ConfigError, NotFiniteError
from saddlebag.launch.rehearsal.network import Answered, Code, Connection, Reply
from saddlebag.proto.checkpoint import bytes_to_arrays
from saddlebag.proto.codec import decode
from saddlebag.proto.endpoint import FATAL, RUN_OVER
from saddlebag.proto.frames import FRAME_BYTES, THANKS, frames_of, read_frame
from saddlebag.proto.handshake import PROTOCOL, JoinAsk, first_order
from saddlebag.proto.pace import Pace, Patience
from saddlebag.proto.seal import SEAL_BYTES
from saddlebag.proto.v1 import parameter_server_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from saddlebag.client.core import WorkerCore
    from saddlebag.launch.rehearsal.clock import Host, Signal, Work
    from saddlebag.launch.rehearsal.disk import Disk
    from saddlebag.launch.rehearsal.serving import Server
    from saddlebag.proto.frames import Frame
    from saddlebag.proto.handshake import JoinAnswer
    from saddlebag.proto.reader import Buffer

__all__ = ["Worker"]

LEAVE_S = 30.0
BEAT_AGAIN_S = 0.2
TICK_S = 0.5
_UNANSWERED = (Code.DEADLINE_EXCEEDED, Code.UNAVAILABLE, Code.CANCELLED)
_PLACES = ("start", "pause", "join", "snapshot", "step", "send", "receive", "end")


class Worker:
    """One process of a worker, from its start (or resumption) to its end or death.

    Args:
        host: of its tasks.
        core: restored from its newest checkpoint, if there is one.
        disk: its checkpoints, or None.
        dial: gives the server that listens and a connection to it; raises `Answered` when there is none.
        step_s: how long the next step takes, asked each time.
        watch: told of what has happened.
        recipe: canonical.
        lease_s, progress_s: of the recipe.
        give_up_s, frame_bytes: as the shell has them.
    """

    def __init__(
        self,
        host: Host,
        core: WorkerCore,
        disk: Disk | None,
        *,
        dial: Callable[[], tuple[Server, Connection]],
        step_s: Callable[[], float],
        watch: Callable[[str], None],
        recipe: str,
        lease_s: float,
        progress_s: float,
        give_up_s: float = 60.0,
        frame_bytes: int = FRAME_BYTES,
    ) -> None:
        self.host, self.core, self._disk = host, core, disk
        self._keeper = Keeper(core, disk)
        self._dial, self._step_s, self._watch = dial, step_s, watch
        self._recipe, self._give_up_s, self._frame_bytes = recipe, give_up_s, frame_bytes
        self._lease_s, self._session_id, self._order = lease_s, "", first_order(host.clock.now)
        self._patience, self._calls = Patience(progress_s), Patience(progress_s)
        self._pace = Pace(self._patience)
        self._attempts = (0, 0, 0)
        self._every = 0
        self.connection: Connection | None = None
        self.asked: Callable[[], None] | None = None  # sends its last join again, late
        self.read_delay_s = 0.0  # a slow reader waits so long before each message
        self.where = "start"

    def run(self) -> Work:
        clock = self.host.clock
        who = f"worker {self.core.worker}"
        waiting = Waiting(who, "the server", self._give_up_s, lambda text: None, clock=lambda: clock.now)
        while True:
            before = (self.core.epoch, self.core.round)
            try:
                if (yield from self._session(waiting)):
                    return
                reason = "the server ended the stream"
                waiting.superseded()
            except BrokenStream as error:
                reason = str(error)
            except RankTaken as error:
                reason = waiting.taken(str(error), self._lease_s)
            except Answered as error:
                reason = error.details
                if error.code == RUN_OVER:
                    return
                if error.code in FATAL:
                    raise ConfigError(f"the server refused worker {self.core.worker}: {reason}") from error
            if (self.core.epoch, self.core.round) != before:
                waiting.progressed()
            self.where = "pause"
            yield waiting.failed(reason)

    def _session(self, waiting: Waiting) -> Work:
        self.where = "join"
        server, connection = self._dial()
        self.connection = connection
        try:
            return (yield from self._connected(server, connection, waiting))
        finally:
            if self.host.alive:
                connection.break_(server_s=connection.link.latency_s)

    def _connected(self, server: Server, connection: Connection, waiting: Waiting) -> Work:
        core = self.core
        answer = yield from self._join(server, connection)
        waiting.met()
        if self._keeper.go_to(answer) and not (yield from self._take_snapshot(server, connection, answer)):
            return False
        self._watch("joined")
        link = connection.link
        link.clock.after(link.arrival(0, up=True) - link.clock.now, lambda: self._open(server, connection, answer.session))
        pace = self._pace = Pace(self._patience)
        self.host.spawn(self._beat(server, connection, answer.session, answer.lease_s / 3, pace))  # ends with the connection
        self.host.spawn(self._watch_pace(connection, pace))
        sent = answer.counted - 1
        while True:
            try:
                step = yield from self._step()
            except NotFiniteError:
                size = pb.LeaveRequest(reason=DIVERGED).ByteSize()
                yield from connection.call(
                    lambda reply: server.answering(connection, reply, lambda: server.leave(answer.session, DIVERGED)),
                    size,
                    LEAVE_S,
                )
                return True
            if step is not None and core.round >= answer.round and core.made > sent:
                self.where = "send"
                yield from self._send(connection, *step)
                sent = core.made
            self.where = "receive"
            if (final := (yield from self._receive(connection))) is None:
                return False
            if final:
                self.where = "end"
                with contextlib.suppress(Answered):  # the stream is gone, the worker has everything
                    yield from connection.up.send(THANKS)
                    connection.up.finish()
                    while (yield from connection.down.read()) is not None:
                        pass
                return True

    def _open(self, server: Server, connection: Connection, session: str) -> None:
        if connection.open and server.host.alive:
            server.exchange(session, connection)

    def _join(self, server: Server, connection: Connection) -> Generator[Signal | float, None, JoinAnswer]:
        core, self._order = self.core, self._order + 1
        ask = JoinAsk(
            worker=core.worker,
            recipe=self._recipe,
            dimension=core.dimension,
            rounds=tuple(self._keeper.rounds()),
            epoch=core.epoch,
            order=self._order,
            session=self._session_id,
        )
        asked = {key: value for key, value in dataclasses.asdict(ask).items() if key not in ("session", "names")}  # metadata
        size = pb.JoinRequest(protocol=PROTOCOL, **asked).ByteSize() + SEAL_BYTES
        self.asked = lambda: server.answering(connection, Reply(connection), lambda: server.join(ask, size))
        self._calls.stuck += 1
        timeout_s = self._calls.allowed_s / 2
        try:
            answer: JoinAnswer = yield from connection.call(
                lambda reply: server.answering(connection, reply, lambda: server.join(ask, size)), size, timeout_s
            )
        except Answered as error:
            if error.code != Code.DEADLINE_EXCEEDED:
                self._calls.stuck -= 1
            if error.code == Code.ALREADY_EXISTS:
                raise RankTaken(error.details) from error
            raise
        self._calls.stuck = 0
        self._session_id = answer.session
        core.members, core.merging = answer.members, answer.merging
        self._every = answer.checkpoint_every
        return answer

    def _take_snapshot(self, server: Server, connection: Connection, answer: JoinAnswer) -> Work:
        self.where = "snapshot"
        epoch, round_, data = yield from connection.call(
            lambda reply: server.answering(connection, reply, lambda: server.snapshot(answer.session)),
            SEAL_BYTES,
            self._patience.allowed_s,
        )
        if answer.merging and epoch == answer.epoch and round_ > answer.resume:
            answer = dataclasses.replace(answer, resume=round_, epoch_start=round_, round=max(answer.round, round_))
        if (epoch, round_) > (answer.epoch, answer.resume):
            return False
        if (epoch, round_) != (answer.epoch, answer.resume):
            raise BrokenStream(f"the snapshot of round {round_} is not the announced one of round {answer.resume}")
        replica = self.core.unpack_replica(bytes_to_arrays(data, "the server's snapshot"))
        if self._keeper.take_snapshot(answer, replica, every=self._every):
            yield from self._save()
        return True

    def _beat(self, server: Server, connection: Connection, session: str, every_s: float, pace: Pace) -> Work:
        beside, at_once = connection, False
        while connection.open:
            if told := (yield from self._beat_here(server, connection, beside, (session, every_s, pace), at_once=at_once)):
                connection.give_up(told)
            if beside is not connection:  # the one before
                beside.break_()
            if told or not connection.open:
                return
            at_once = beside is connection  # the first of them
            try:
                server, beside = self._dial()
            except Answered:  # nobody is there
                beside = connection
                yield every_s

    def _beat_here(
        self, server: Server, stream: Connection, beside: Connection, about: tuple[str, float, Pace], *, at_once: bool
    ) -> Generator[Signal | float, None, str]:
        """Why the stream is not believed in any more; empty where a heartbeat is not answered, or the connection has ended."""
        alone = refused = 0
        session, every_s, pace = about
        while stream.open:
            if stream.up.failure is None and not at_once:
                stream.link.clock.after(every_s, stream.ended.ring)
                yield stream.ended
            if over := stream.up.failure is not None:
                yield min(every_s, BEAT_AGAIN_S)
            at_once = False
            try:
                ask = functools.partial(self._ask_heartbeat, server, beside, session, pace.sent)
                frames, there = yield from beside.call(ask, SEAL_BYTES, every_s)
                pace.hear(frames)
                alone, refused = alone + 1 if (pace.waits or pace.sends) and not there else 0, 0
            except Answered as error:  # where nobody is there, the stream notices what matters
                refused = refused + 1 if error.code not in _UNANSWERED and not over else 0
                if error.code is Code.DEADLINE_EXCEEDED:
                    return ""
            if refused == 2:
                return "the server refuses this worker's heartbeats"
            if alone == 2:  # the first may have crossed the stream's beginning or end
                return "the server has no stream of this worker"
        return ""

    @staticmethod
    def _ask_heartbeat(server: Server, connection: Connection, session: str, sent: int, reply: Reply) -> None:
        if connection.refuses:
            reply.answer(Answered(Code.INVALID_ARGUMENT, "refused"), 0)
        else:
            server.answering(connection, reply, lambda: server.heartbeat(session, sent))

    def _watch_pace(self, connection: Connection, pace: Pace) -> Work:
        while connection.open:
            yield TICK_S
            if why := pace.age(TICK_S):
                connection.give_up(why)
                return

    # -- one round -------------------------------------------------------------------------------------------------------

    def _step(self) -> Generator[Signal | float, None, tuple[list[Buffer], int | None] | None]:
        self.where = "step"
        if self.core.idle:
            self.core.ensure_stepped()
            return None
        if self.core.made == self.core.round:
            yield self._step_s()
        return self.core.step()

    def _send(self, connection: Connection, buffers: list[Buffer], digest: int | None) -> Work:
        core = self.core
        here, (samples, steps) = (core.epoch, core.made), core.measures
        attempt = self._attempts[2] + 1 if self._attempts[:2] == here else 0
        self._attempts = (*here, attempt)
        about: dict[str, Any] = {"epoch": core.epoch, "round_": core.made, "sender": core.worker + 1}
        about |= {"samples": samples, "steps": steps}
        about |= {"attempt": attempt, "digest": digest, "frame_bytes": self._frame_bytes}
        for frame in frames_of(buffers, **about):
            self._pace.sent += 1
            self._pace.sends = True
            yield from connection.up.send(frame)
            self._pace.sends = False

    def _receive(self, connection: Connection) -> Generator[Signal | float, None, bool | None]:
        """Whether the downlink, or catch-up, that was taken ends the run; None at the end of the stream."""
        core, before = self.core, self.core.round
        if (frame := (yield from self._frame(connection))) is None:
            return None
        round_, sizes = core.awaits(frame.round)
        draws = Draws(core.draws.seed, round_, SERVER)
        self._expect(frame, round_)
        core.take(round_, decode(frame.data, sizes, draws), frame.counted)
        self._watch("took")
        if self._keeper.saves(before, every=self._every, final=frame.final):
            yield from self._save()
        return frame.final

    def _expect(self, frame: Frame, round_: int) -> None:
        found, expected = (frame.epoch, frame.round, frame.sender, frame.sequence), (self.core.epoch, round_, 0, 0)
        if found != expected or len(frame.data) != frame.total:
            raise BrokenStream(f"expected a whole frame of round {round_}, got {frame.sequence} of {frame.round}")

    def _save(self) -> Work:
        if self._disk is not None:
            arrays, meta = self.core.capture()
            yield from self._disk.save(self.core.round, arrays, {**meta, "recipe": self._recipe})

    def _frame(self, connection: Connection) -> Generator[Signal | float, None, Frame | None]:
        if self.read_delay_s:
            yield self.read_delay_s
        self._pace.waits = True
        raw = yield from connection.down.read()
        if raw is None:
            return None
        self._pace.come()
        return read_frame(raw)

    def shape(self, boundary: int) -> tuple[object, ...]:
        """What there is of it, for a count of states; rounds relative to the server's."""
        core, connection = self.core, self.connection
        held = tuple(max(-9, round_ - boundary) for round_ in self._disk.rounds()) if self._disk else ()
        pipes = (connection.open, connection.up.shape(), connection.down.shape()) if connection else ()
        return _PLACES.index(self.where), core.epoch, max(-9, core.round - boundary), held, pipes
