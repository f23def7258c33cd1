"""What `ServerShell` does around its core, in virtual time: the same calls of the core, in the same order, at the same waits.

Kept line by line beside the shell, method names included: who changes one changes the other. Left out are bytes of protobuf for
heartbeats, tokens and TLS.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

from saddlebag.algorithms import pack
from saddlebag.errors import SaddlebagError, explained
from saddlebag.launch.rehearsal.clock import Ended, Host, Lock, Signal, Task, Work
from saddlebag.launch.rehearsal.network import Answered, Code, Connection
from saddlebag.proto.awake import Awake
from saddlebag.proto.checkpoint import arrays_to_bytes
from saddlebag.proto.endpoint import RUN_OVER
from saddlebag.proto.frames import THANKS
from saddlebag.proto.handshake import PROTOCOL
from saddlebag.proto.pace import Pace
from saddlebag.proto.seal import SEAL_BYTES
from saddlebag.proto.v1 import parameter_server_pb2 as pb
from saddlebag.server import effects as events
from saddlebag.server.calls import status_of
from saddlebag.server.joining import RunOver

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from saddlebag.algorithms.merging import Arrivals
    from saddlebag.launch.rehearsal.disk import Disk
    from saddlebag.launch.rehearsal.network import Reply
    from saddlebag.proto.handshake import JoinAsk
    from saddlebag.server.core import ServerCore
    from saddlebag.server.delivery import Delivery
    from saddlebag.server.effects import Effect

__all__ = ["Server"]

TICK_S = 0.5
DRAIN_S, LONGEST_DRAIN_S = 30.0, 900.0
BACKLOG_BYTES = 4 << 20
GRACE_S = 0.5


class Server:
    """One process of the server, from its start (or resumption) to its end or death."""

    def __init__(
        self,
        host: Host,
        core: ServerCore,
        disk: Disk | None,
        *,
        now: Callable[[], float],
        watch: Callable[[str], None],
        sent: Callable[[int, Delivery], None] = lambda epoch, delivery: None,
        backlog_bytes: int = BACKLOG_BYTES,
        threaded_s: float | None = None,
        arrivals: list[Arrivals],
    ) -> None:
        self.host, self.core, self.disk, self._watch, self._sent = host, core, disk, watch, sent
        self._now = Awake(now, tick_s=TICK_S)
        self._backlog_bytes, self._threaded_s = backlog_bytes, threaded_s
        self._busy, self.boundary = Lock(), core.round
        self._turn, self._progress = Signal(), Signal()
        self._tasks: dict[int, Task] = {}
        self._paces: dict[int, Pace] = {}
        self._verdicts: dict[Task, Answered] = {}
        self.saving: Task | None = None
        self.over, self._over = False, Signal()
        self.failure: SaddlebagError | None = None
        self.closing = False  # no new calls
        self.final_taken: set[int] = set()
        self._sessions = 0
        self.records: list[Any] = []
        self.arrivals: list[Arrivals] = arrivals

    # -- life ------------------------------------------------------------------------------------------------------------

    def run(self) -> Work:
        if self.core.finished:
            self.come()
        self.beside(self._tick())
        while not self.over:
            yield self._over
        yield from self._settle()
        began = heard = self.host.clock.now
        while self.failure is None and (left := set(self.core.members) - self.final_taken):
            now = self.host.clock.now
            heard = now if self.core.hears(left, self._now()) else heard
            if now - heard > DRAIN_S or now - began > LONGEST_DRAIN_S:
                break
            yield 0.02
        yield from self._settle()
        self.closing = True
        yield GRACE_S

    def come(self) -> None:
        self.over = True
        self._over.ring()

    def fail(self, error: Exception) -> None:
        self.failure = self.failure or explained(error)
        self.come()
        self._end_all(status_of(self.failure), str(self.failure))

    def check(self) -> None:
        if self.failure is not None:
            raise self.failure

    def beside(self, work: Work) -> Task:
        def watched() -> Work:
            try:
                yield from work
            except Exception as error:
                self.fail(error)

        return self.host.spawn(watched())

    def _tick(self) -> Work:
        while not self.closing:
            yield TICK_S
            yield from self._busy.acquire()
            try:
                yield from self._apply(self.core.tick(self._now()))
            finally:
                self._busy.release()
            for worker, pace in list(self._paces.items()):
                if why := pace.age(TICK_S):
                    self.core.ledger.stuck_streams += 1
                    self._end(worker, Answered(Code.ABORTED, why))

    def _settle(self) -> Work:
        while self.saving is not None and not self.saving.ended:
            yield self.saving.end
        self.check()

    # -- effects ---------------------------------------------------------------------------------------------------------

    def _apply(self, effects: Sequence[Effect]) -> Work:
        def all_of_them() -> Work:
            yield self.host.clock.turn_s()  # a task of its own: others that are ready come first
            for effect in effects:
                self.check()
                yield from self._carry_out(effect)

        if effects:
            done = self.beside(all_of_them())
            while not done.ended:
                yield done.end
            self.check()

    def _alone(self, work: Callable[[], Work]) -> Work:
        yield from self._busy.acquire()
        result: list[Any] = []
        failure: list[Exception] = []

        def all_of_it() -> Work:
            try:
                result.append((yield from work()))
            except Exception as error:
                failure.append(error)
            finally:
                self._busy.release()

        task = self.host.spawn(all_of_it())
        while not task.ended:
            yield task.end
        if failure:
            raise failure[0]
        return result[0]

    def _carry_out(self, effect: Effect) -> Work:
        match effect:
            case events.RoundReady():
                if self._threaded_s is None:
                    yield from self._finish_round()
                else:
                    self.beside(self._finish_round())
            case events.Save():
                yield from self._settle()
                if self.disk is not None:
                    self.saving = self.beside(self.disk.save(effect.round, effect.arrays, effect.meta))
                    if self.core.finished or effect.begins_epoch or effect.at_once:
                        yield from self._settle()
            case events.Observe(record):
                self.records.append(record)
            case events.Counts(arrivals):
                self.arrivals.append(arrivals)
            case events.Later(seconds):
                self.beside(self._later(seconds))
            case events.Broadcast():
                self._open(self.core.round)
            case events.NewEpoch(reason):
                self._end_all(Code.ABORTED, reason)
                self._turn.ring()
            case events.Close(worker, reason, superseded):
                self._end(worker, Answered(Code.ALREADY_EXISTS if superseded else Code.ABORTED, reason))
            case events.Finished(reason, announced):
                if not announced:
                    self._end_all(RUN_OVER, f"the run is over: {reason}")
                self.come()

    def _later(self, seconds: float) -> Work:
        due = self._now() + seconds
        while (left_s := due - self._now()) > 0:
            yield left_s
        yield from self._carry_out(events.RoundReady())

    def _finish_round(self) -> Work:
        yield from self._busy.acquire()
        try:
            effects = self.core.finish_round(self._now(), functools.partial(self._open, self.core.round + 1))
            self._watch("round")
            if self._threaded_s is not None:
                yield self._threaded_s
            yield from self._apply(effects)
        finally:
            self._busy.release()

    def _open(self, boundary: int) -> None:
        self.boundary = boundary
        self._turn.ring()

    # -- streams ---------------------------------------------------------------------------------------------------------

    def _end(self, worker: int, verdict: Answered) -> None:
        task = self._tasks.pop(worker, None)
        if task is not None and not task.ended:
            self._verdicts[task] = verdict
            if task is not self.host.running:
                task.throw(Ended())

    def _end_all(self, code: Code, reason: str) -> None:
        for worker in list(self._tasks):
            self._end(worker, Answered(code, reason))

    # -- calls -----------------------------------------------------------------------------------------------------------

    def answering(self, connection: Connection, reply: Reply, work: Callable[[], Work]) -> None:
        """Begin to answer a call: what a peer may have caused is told to it, anything else ends the run."""
        if self.closing:
            reply.answer(Answered(Code.UNAVAILABLE, "the server is going away"), 0)
            return

        def answered() -> Work:
            try:
                value, size = yield from work()
            except Answered as told:
                reply.answer(told, 0)
            except Ended:
                pass
            except Exception as error:
                told_error = explained(error)
                if told_error is not error:
                    self.fail(told_error)
                reply.answer(Answered(status_of(told_error), str(told_error)), 0)
            else:
                reply.answer(value, size)

        connection.carries(self.host.spawn(answered()))

    def join(self, ask: JoinAsk, request_bytes: int) -> Work:
        core = self.core
        core.ledger.count_control(up=request_bytes)

        def admitted() -> Work:
            self._sessions += 1
            answer, effects = core.join(ask, f"{self.host.name}/{self._sessions}", self._now())
            self._watch("join")
            yield from self._apply(effects)
            return answer

        try:
            answer = yield from self._alone(admitted)
        except RunOver:
            self.final_taken.add(ask.worker)
            raise
        size = pb.JoinReply(protocol=PROTOCOL, **dataclasses.asdict(answer)).ByteSize() + SEAL_BYTES
        core.ledger.count_control(down=size)
        return answer, size

    def _member(self, session: str) -> int:
        worker = self.core.roster.worker_of(session)
        if worker is None:
            raise Answered(Code.UNAUTHENTICATED, "this session is not, or no longer, valid; join again")
        return worker

    def heartbeat(self, session: str, frames: int) -> Work:
        worker = self._member(session)
        self.core.roster.see(worker, self._now())
        yield from ()
        if (pace := self._paces.get(worker)) is None:
            return (0, False), SEAL_BYTES
        pace.hear(frames)
        return (pace.sent, True), SEAL_BYTES

    def leave(self, session: str, reason: str) -> Work:
        worker = self._member(session)
        yield from self._alone(lambda: self._apply(self.core.leave(worker, reason, self._now())))
        self.final_taken.add(worker)
        return None, 0

    def snapshot(self, session: str) -> Work:
        worker = self._member(session)

        def taken() -> Work:
            epoch, round_, replica, effects = self.core.snapshot(worker, self._now())
            yield from self._apply(effects)
            return epoch, round_, replica

        epoch, round_, replica = yield from self._alone(taken)
        data = arrays_to_bytes(pack(replica), {"epoch": epoch, "round": round_})
        self.core.ledger.count_control(down=len(data))
        return (epoch, round_, data), len(data)

    def exchange(self, session: str, connection: Connection) -> None:
        """Begin to serve one worker's rounds."""
        if self.closing:
            connection.down.end_with(Answered(Code.UNAVAILABLE, "the server is going away"))
        else:
            connection.carries(self.host.spawn(self._exchange(session, connection)))

    def _exchange(self, session: str, connection: Connection) -> Work:
        down = connection.down
        try:
            worker = self._member(session)
        except Answered as told:
            down.end_with(told)
            return
        task = self.host.running
        assert task is not None
        self._tasks[worker] = task
        epoch = self.core.epoch
        self.core.opened(worker, session)
        pace = self._paces[worker] = Pace(self.core.patience[worker])
        verdict: Answered | None = None
        try:
            over = yield from self._serve(worker, session, connection, pace)
        except SaddlebagError as error:
            verdict = Answered(status_of(error), str(error))
        except Answered:  # the stream broke while it was written to or read
            pass
        except Ended:
            pass
        except Exception as error:
            self.fail(error)
            assert self.failure is not None
            verdict = Answered(status_of(self.failure), str(self.failure))
        else:
            if over:
                self.final_taken.add(worker)
                verdict = Answered(RUN_OVER, f"the run is over: {self.core.finished}")
        finally:
            if self.host.alive:
                self.core.lost(worker, session, self._now(), told=task in self._verdicts or self.core.epoch != epoch)
                self._forget(worker, task, pace)
        if told_to := self._verdicts.pop(task, None):
            task.untold()
            if told_to.code is RUN_OVER:
                self.final_taken.add(worker)
            verdict = told_to
        down.end_with(verdict) if verdict else down.finish()

    def _forget(self, worker: int, task: Task, pace: Pace) -> None:
        if self._tasks.get(worker) is task:
            del self._tasks[worker]
        if self._paces.get(worker) is pace:
            del self._paces[worker]

    def _serve(self, worker: int, session: str, connection: Connection, pace: Pace) -> Work:
        core = self.core
        cursor, epoch = core.roster.resume_of(worker), core.roster.epoch_of(worker)
        while core.roster.worker_of(session) == worker and core.epoch == epoch:
            while (delivery := core.delivery(worker, cursor)) is not None and delivery.end <= self.boundary:
                for sequence, frame in enumerate(delivery.frames):
                    pace.sent += 1
                    yield from connection.down.send(frame)
                    core.delivered(worker, delivery, sequence)
                self._sent(epoch, delivery)
                cursor = delivery.end
                if core.is_final(cursor - 1):
                    yield from self._read_thanks(worker, connection)
                    return False
            if core.cut_short or (core.finished is not None and cursor == core.round):
                return not core.cut_short
            if cursor == core.round and core.needs_uplink(worker):
                if not (yield from self._read_frame(worker, connection, pace)):
                    return False
            else:  # others are awaited, or this worker is idle
                yield self._turn
        return False

    def _read_thanks(self, worker: int, connection: Connection) -> Work:
        while (raw := (yield from connection.up.read())) is not None:
            if raw == THANKS:
                self.core.ledger.count_control(up=len(raw))
                self.final_taken.add(worker)
                return
            self.core.frame(worker, raw, self._now())

    def _read_frame(self, worker: int, connection: Connection, pace: Pace) -> Work:
        while self.core.backlog(worker) > self._backlog_bytes:
            yield self._progress
        pace.waits = True
        raw = yield from connection.up.read()
        pace.come()
        if raw is None:
            return False
        task = self.host.running
        effects = self.core.frame(worker, raw, self._now())
        self._progress.ring()
        self._watch("frame")
        yield from self._apply(effects)
        return task not in self._verdicts

    def shape(self) -> tuple[object, ...]:
        """What there is of it, for a count of states: numbers alone, whose hash is the same everywhere."""
        core = self.core
        waits = tuple(core.needs_uplink(worker) for worker in core.members)
        saving = self.saving is not None and not self.saving.ended
        ended = core.finished is not None
        return core.epoch, core.members, ended, waits, saving, core.round - self.boundary, len(self._tasks)
