"""The parameter server as a state machine: events and the time go in, effects come out; no socket, clock or file here.

    event                      effects
    join                       an answer: where to continue, or a refusal (an exception); perhaps NewEpoch
    frame                      RoundReady when it was the last one missing
    finish_round               Save at a checkpoint boundary, Observe when merits were due, Broadcast, Finished at the end
    lost, leave, tick          Note, or NewEpoch where the policy is to go on without a lost worker

An *epoch* is a stretch of rounds with one membership. It starts from `restarted`, with new memories:
at the start of a run, when a worker is dropped or comes back, and when a worker returns without its state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms import DIVERGED, AnyMethod, Judge, Record, Spent, Verdict, digest, participants
from saddlebag.algorithms.averages.robust import rule_of_round
from saddlebag.algorithms.simulate import ForeseesVerdicts
from saddlebag.algorithms.wrapped import sum_dtype
from saddlebag.compression import SERVER, Draws, Vector
from saddlebag.errors import BrokenStream, NotFiniteError, RemoteProtocolError
from saddlebag.proto.checkpoint import restoring
from saddlebag.proto.codec import encode
from saddlebag.proto.counted import counted_bytes
from saddlebag.proto.frames import read_frame
from saddlebag.proto.handshake import DONE, LEAD
from saddlebag.proto.pace import Patience
from saddlebag.server import effects as ef
from saddlebag.server.gather import Gather, Said, Uplinks
from saddlebag.server.joining import RunOver, answer, can_start_fresh, common_round, require_one_epoch
from saddlebag.server.noising import noised
from saddlebag.server.roster import BROKEN, Roster, admit
from saddlebag.server.saved import capture, restore
from saddlebag.server.state import RunState
from saddlebag.server.vigil import waiting_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from saddlebag.algorithms import Message
    from saddlebag.compression import Mean
    from saddlebag.proto.handshake import JoinAnswer, JoinAsk
    from saddlebag.server.delivery import Delivery
    from saddlebag.server.effects import Effect, ServerSettings

__all__ = ["ServerCore"]

_SOON_S = 3.0  # a round may take its time before people are told for whom it waits


class ServerCore(RunState):
    """The state of a run on the server, and what events make of it; see the module docstring for them.

    Attributes:
        aside: whether the end of a round may take long, so that it is left to a thread.
    """

    aside = False

    def __init__(
        self,
        method: AnyMethod,
        judge: Callable[[int, Any, Any, Spent], Verdict],
        start_D: Vector,
        settings: ServerSettings,
        now: float,
    ) -> None:
        super().__init__(method, start_D, settings)
        self._judge, self._dtype = judge, sum_dtype(method)
        asked: object = judge
        self._foreseeing = asked if isinstance(asked, ForeseesVerdicts) else None
        self._overflow = judge.overflow if isinstance(judge, Judge) else lambda rounds, replica: Verdict(None, DIVERGED)
        self._sums: dict[int, Vector] = {}
        self._done: set[int] = set()  # workers that have had enough of a sharded run
        self._counted_s: float | None = None  # until when seconds are counted; None before the first frame of this process
        self.roster = Roster(settings.num_workers, now)
        self.patience = [Patience(settings.progress_s) for _ in range(settings.num_workers)]  # with each worker's frames
        self.open_round(now)

    # -- joining ---------------------------------------------------------------------------------------------------------

    def join(self, ask: JoinAsk, session: str, now: float) -> tuple[JoinAnswer, list[Effect]]:
        """Admit a worker and say from where it continues.

        Raises:
            ConfigError: it cannot take part: another recipe, rank or dimension, a wrong token, or another process has its rank.
            RunOver: the run has ended, and the worker holds no state from which its end can be reached.
        """
        self._admit(ask)
        self.roster.require_free(ask, now, self.settings.lease_s)
        resume = common_round(self, ask)
        if self.finished and resume is None and not can_start_fresh(self, ask.worker):
            raise RunOver(f"the run is over: {self.finished}")  # an epoch that began now would take its end from everybody
        effects = self._seat(ask, session, now)
        heal = self.roster.take_diverged(ask.worker) and resume == self.round
        fresh = resume is None
        if resume is None:
            if not can_start_fresh(self, ask.worker):
                require_one_epoch(self, ask)
                members = tuple(sorted({*self.members, ask.worker}))
                effects.extend(self._new_epoch(members, f"worker {ask.worker} joined without the state of this epoch", now))
            resume = self.epoch_start
        self.deliveries.credit(ask.worker, resume, self.ledger.down)
        self.roster.set_resume(ask.worker, self.epoch, resume)
        counted = self.round + 1 if self._holds(ask.worker) else 0
        return answer(self, session, resume, fresh=fresh, heal=heal, counted=counted), effects

    def _admit(self, ask: JoinAsk) -> None:
        """Refuse who does not fit the run, and whoever comes to one that was cut short."""
        admit(ask, self.settings, len(self.replica.z_D))
        if self.cut_short:
            raise RunOver(f"the run is over: {self.finished}")

    def _holds(self, worker: int) -> bool:
        """Whether a worker's uplink of the round under way is here, whole.

        It is not to be sent again: nobody would read it, and where a downlink comes meanwhile, both ends would write for ever.
        """
        return self._gather.expects(worker) and self._gather.has(worker)

    def _seat(self, ask: JoinAsk, session: str, now: float) -> list[Effect]:
        """Give a worker its rank; whoever held it has lost it."""
        effects: list[Effect] = []
        self._done.discard(ask.worker)
        if self.roster.welcome(ask.worker):
            effects.append(ef.Note(f"worker {ask.worker} is back"))
        if self.roster.sit(ask.worker, session, now, ask.order):
            self.ledger.rejoins += 1
            effects.append(ef.Close(ask.worker, "another process joined with this rank", superseded=True))
            self._disconnect(ask.worker)
        return effects

    def snapshot(self, worker: int, now: float) -> tuple[int, int, Any, list[Effect]]:
        """Epoch, boundary and replica from which a worker is to go on."""
        del worker, now
        return self.epoch, self.round, self.replica, []

    def restore(self, arrays: ef.Arrays, meta: Mapping[str, Any], now: float) -> None:
        """Continue from a checkpoint that `Save` asked for; errors as `saddlebag.server.saved.restore`."""
        restore(self, arrays, meta)
        with restoring(f"the server's checkpoint of round {self.round}"):
            self.open_round(now)

    # -- rounds ----------------------------------------------------------------------------------------------------------

    def open_round(self, now: float) -> None:
        """Collect uplinks for the round at the present boundary."""
        self._draws = Draws(self.settings.seed, self.round, SERVER)
        active = participants(self.method, self.replica, self._draws, self.members)
        cost = self.reach(self.members if self.finished else active)
        if not self.finished:  # else it is counted already
            self.down_bytes += cost
        sizes = self.method.uplink_sizes(self.replica, self._draws)
        memory = [self._memory(part, size) for part, size in enumerate(sizes)]
        rule = rule_of_round(self.settings.mean, self.contribution_W[list(active)])
        ways: dict[str, Any] = {"rule": rule, "scored": self.settings.contributions}
        self._gather: Uplinks = Gather(active, sizes, self._draws, memory, self._dtype, **ways)
        self.active = active
        self._opened = now
        self._advanced: dict[int, float] = {}  # when the last frame of each worker's message came
        self._digest: int | None = None

    def _memory(self, part: int, size: int) -> Vector:
        """Memory for the sum of a part, used in every round: means are on loan, so it is free again after `server_step`."""
        if len(self._sums.get(part, ())) != size:
            self._sums[part] = np.empty(size, self._dtype)
        return self._sums[part]

    def _passes(self, before: Any, spent: Spent) -> bool:
        """Whether the judge will say nothing of the round that begins at `before`, wherever it leads."""
        return self._foreseeing is not None and self._foreseeing.passes(self.round + 1, before, spent)

    def _spend(self, down_bytes: int, now: float) -> Spent:
        """What the run has cost with a downlink of so many bytes at the end of the round."""
        self.spent_s += max(0.0, now - (now if self._counted_s is None else self._counted_s))
        self._counted_s = now
        return Spent(self.ledger.up.payload + self.down_bytes + down_bytes * len(self.active), self.spent_s)

    def pass_idle(self, seconds: float) -> None:
        """So many seconds in which this process did not run are nobody's lease, and missing from `now`; they are the run's."""
        if self._counted_s is not None:
            self.spent_s += seconds

    def needs_uplink(self, worker: int) -> bool:
        """Whether the round still waits for (the rest of) this worker's uplink."""
        return self.finished is None and self._gather.expects(worker) and not self._gather.has(worker)

    def backlog(self, worker: int) -> int:
        """Bytes held for a worker until earlier workers catch up."""
        return self._gather.backlog(worker) if self._gather.expects(worker) else 0

    def frame(self, worker: int, raw: bytes, now: float) -> list[Effect]:
        """Take one frame of a worker's uplink.

        Raises:
            BrokenStream: the bytes are not those that were sent; the worker is to join again, and nothing of them was added.
            RemoteProtocolError: they break the protocol; the worker is to be dropped.
        """
        try:
            return self._take(worker, raw, now)
        except BrokenStream:
            self.ledger.broken_streams += 1
            raise

    def _take(self, worker: int, raw: bytes, now: float) -> list[Effect]:
        up = self.ledger.up
        up.transport += len(raw)
        up.repeated += len(raw)  # until it turns out to be of use
        frame = read_frame(raw)
        if frame.sender != worker + 1:
            raise RemoteProtocolError(f"worker {worker} sent a frame of sender {frame.sender}")
        self.roster.see(worker, now)
        self._counted_s = now if self._counted_s is None else self._counted_s
        if (frame.epoch, frame.round) != (self.epoch, self.round) or not self.needs_uplink(worker):
            self.ledger.stale_frames += 1
            if (frame.epoch, frame.round) > (self.epoch, self.round):
                raise RemoteProtocolError(f"worker {worker} is at round {frame.round}, ahead of the server's {self.round}")
            return []
        if frame.digest is not None and frame.digest != self.replica_digest:
            return self._heal(worker)
        up.repeated -= len(raw)
        self._gather.take(worker, frame, len(raw), now)
        self._advanced[worker] = now
        return [ef.RoundReady()] if self._gather.due(now) else []

    def _heal(self, worker: int) -> list[Effect]:
        self.ledger.digest_mismatches += 1
        self.roster.mark_diverged(worker)
        reason = f"worker {worker}'s replica differs at round {self.round}; it continues from a snapshot"
        return [ef.Note(reason), ef.Close(worker, reason)]

    @property
    def replica_digest(self) -> int:
        """The digest of the replica at the current boundary."""
        if self._digest is None:
            self._digest = digest(self.replica)
        return self._digest

    def finish_round(self, now: float, announce: Callable[[], object] = lambda: None) -> list[Effect]:
        """Form the downlink, replay it, and open the next round.

        Where only the next round can follow, `delivery` gives the downlink before it is replayed here, from `announce` on.
        """
        if self.finished or (said := self._collected(now)) is None:  # a membership that has changed meanwhile
            return []
        before = self.replica
        try:
            self.own, down = self.formed(said.means)
            buffers = encode(down)
            self.log.trim(sum(map(len, buffers)))
        except NotFiniteError:
            return self._diverge()
        self._count(said)
        needed, counted = self._needed(), counted_bytes(said.counted)
        spent = self._spend(sum(map(len, buffers)), now)
        saves = self.deliveries.saves(self.round + 1)  # who comes there must know the checkpoint before on disk
        if ahead := not saves and self._passes(before, spent):
            self.deliveries.publish(buffers, needed, final=False, ahead=self.active, counted=counted)
            announce()
        self.replica = self.method.replay(before, down, self._draws)
        verdict = self._judge(self.round + 1, before, self.replica, spent)
        assert not (ahead and verdict.reason), "the judge said that the run goes on"
        if not ahead:
            self.deliveries.publish(buffers, needed, final=verdict.reason is not None, counted=counted)
        return self._close_round(sum(map(len, buffers)), verdict, now)

    def formed(self, means: tuple[Mean, ...]) -> tuple[Any, Message]:
        """The server's half after this round, and the downlink."""
        own, down = self.method.server_step(self.replica, self.own, means, self._draws)
        return own, down

    def _collected(self, now: float) -> Said | None:
        """What the workers have said in this round, or None where it cannot end yet."""
        if not self._gather.due(now):
            return None
        said = self._gather.close(self.round, now)
        if said.alignments is not None:
            self.contribution_W[list(self.active)] += said.alignments / len(self.active)
        if self.settings.noise and not self.settings.secure:
            sigma, count = self.settings.noise, len(self.active)
            said = said._replace(means=noised(said.means, self.method, self.replica, sigma, count))
        return said

    def _count(self, said: Said) -> None:
        """The round ends with this: its bytes are of use."""
        self.ledger.up.payload += said.data_bytes
        self.ledger.up.framing += said.frame_bytes - said.data_bytes

    def _needed(self) -> int:
        """The first round whose downlink somebody may yet ask for, beside those since the last checkpoints."""
        return self.deliveries.needed(self.members)

    def _close_round(self, num_bytes: int, verdict: Verdict, now: float) -> list[Effect]:
        """Move to the next boundary after a downlink of `num_bytes`."""
        self.down_bytes += num_bytes * len(self.active)
        self.round += 1
        self.deliveries.arrears.receive(self.active, self.round, num_bytes)
        self.finished = verdict.reason
        if self.finished:
            self.down_bytes += self.reach(self.members)
        effects = self._observe(verdict)
        if self.deliveries.saves(self.round) or (self.finished and self.settings.checkpoint_every):
            effects.append(capture(self))
        self.open_round(now)
        effects.append(ef.Broadcast())
        if self.finished:
            effects.append(ef.Finished(self.finished, announced=True))
        return effects

    # -- the log of downlinks --------------------------------------------------------------------------------------------

    def delivery(self, worker: int, cursor: int) -> Delivery | None:
        """What to send next to a worker that stands at boundary `cursor`; errors as `Deliveries.next`."""
        return self.deliveries.next(worker, cursor)

    def delivered(self, worker: int, delivery: Delivery, sequence: int) -> None:
        """A frame of a delivery has been handed to gRPC."""
        self.deliveries.sent(worker, delivery, sequence, self.ledger.down)

    # -- membership ------------------------------------------------------------------------------------------------------

    def opened(self, worker: int, session: str) -> None:
        """A worker's stream is open: nobody else can have its rank now."""
        if self.roster.holds(worker, session):
            self.roster.opened(worker)

    def hears(self, workers: Iterable[int], now: float) -> bool:
        """Whether one of these is there, as far as its lease tells."""
        known = self.roster.missed(workers, self.settings.lease_s)
        return any(now - each.since <= each.patience_s for each in known)

    def lost(self, worker: int, session: str, now: float, *, told: bool = False) -> None:
        """A worker's stream ended: it has a moment to come back, or its lease where it was `told` to end."""
        if self.roster.holds(worker, session):
            self.roster.closed(worker, now, broken=not told)
            self._disconnect(worker)

    def _disconnect(self, worker: int) -> None:
        self._advanced.pop(worker, None)
        if wasted := self._gather.abandon(worker):
            self.ledger.up.repeated += wasted

    def leave(self, worker: int, reason: str, now: float) -> list[Effect]:
        """A worker will not come back; when its operator has diverged, or it was the last one to be done, the run is over."""
        self.roster.leave(worker)
        if reason == DIVERGED:
            return self._diverge()
        if reason == DONE and self.settings.shards > 1:
            return self._end_with_lead(worker)
        if reason == DONE and not self.finished:
            left = tuple(member for member in self.members if member != worker)
            if left and worker in self.members:
                return self._new_epoch(left, f"worker {worker} is done; going on with {len(left)}", now)
            return [] if left else self._end_here(DONE)
        return self._give_up([worker], f"worker {worker} left", now)

    def _end_with_lead(self, worker: int) -> list[Effect]:
        """A sharded run is over where its lead, which judges it, says so, or where every worker does."""
        self._done.add(worker)
        over = LEAD in self._done or self._done.issuperset(self.members)
        return self._end_here(DONE) if over and not self.finished else []

    def tick(self, now: float) -> list[Effect]:
        """Check streams, leases, and the round's deadline; call it about twice a second."""
        if self.finished:
            return []
        missing = self._gather.missing()
        if now - self._opened > self.settings.round_deadline_s:
            names = ", ".join(map(str, missing))
            late = f"no uplink from worker {names} within the round's deadline of {self.settings.round_deadline_s:g} s"
            return self._give_up(missing, f"round {self.round}: {late}", now) if missing else []
        lost = [each for each in self.roster.missed(missing, self.settings.lease_s) if now - each.since > each.patience_s]
        if not lost:
            return self._end_stalled(missing, now)
        told = "; ".join(f"worker {each.worker}: {each.why} {now - each.since:.1f} s ago" for each in lost)
        told = told.replace("has not come", "has not come since the server's start")
        return self._give_up([each.worker for each in lost], f"round {self.round}: {told}", now)

    def _end_stalled(self, missing: list[int], now: float) -> list[Effect]:
        """A message that has begun and stands still is a lost stream: its worker, which lives, sends it again on another."""
        effects: list[Effect] = []
        for worker in missing:
            since = self._advanced.get(worker, now)
            if now - since > self.patience[worker].allowed_s and not self.backlog(
                worker
            ):  # else it is an earlier worker's turn
                reason = (
                    f"worker {worker}'s message of round {self.round} has not advanced for {now - since:.0f} s; its stream ends"
                )
                self.patience[worker].stuck += 1
                self.ledger.stuck_streams += 1
                effects += [ef.Note(reason), ef.Close(worker, reason)]
                del self._advanced[worker]
        return effects

    def waiting(self, now: float) -> str:
        """Whom the round waits for, in words, where there is reason to say so: somebody is missed, or it has taken a while."""
        if self.finished:
            return ""
        missed = self.roster.missed(self._gather.missing(), self.settings.lease_s)
        gone = [each for each in missed if each.why == BROKEN or now - each.since > each.patience_s]
        shown = gone or (missed if now - self._opened > _SOON_S else [])
        return waiting_words(self.round, self._opened, shown, self.settings, now)

    def _give_up(self, workers: list[int], reason: str, now: float) -> list[Effect]:
        if self.finished:
            return []
        left = tuple(worker for worker in self.members if worker not in workers)
        if self.settings.on_lost == "drop" and left:
            return self._new_epoch(left, f"{reason}; going on with {len(left)} of {self.settings.num_workers} workers", now)
        return [ef.Note(f"{reason}; waiting for it to come back")] if self.roster.first_note(workers) else []

    def _diverge(self) -> list[Effect]:
        """End the run at the present boundary: the round under way cannot be completed."""
        return [] if self.finished else self._end_here(DIVERGED)

    def _end_here(self, reason: str) -> list[Effect]:
        """End the run at the present boundary, whatever is under way."""
        self._waste_round()
        self.finished, self.cut_short = reason, True
        effects: list[Effect] = [*self._observe(self._overflow(self.round, self.replica))]
        if reason != DIVERGED and self.settings.checkpoint_every:
            effects.append(capture(self))
        return [*effects, ef.Finished(reason, announced=False)]

    def _observe(self, verdict: Verdict) -> list[Effect]:
        """The record of the present boundary, where merits were due."""
        if verdict.merits is None:
            return []
        merits = dict(verdict.merits)
        return [ef.Observe(Record(self.round, self.replica.iteration, merits, self.ledger.up.payload, self.down_bytes))]

    def _waste_round(self) -> None:
        if wasted := self._gather.clear():
            self.ledger.up.repeated += wasted

    def _new_epoch(self, members: tuple[int, ...], reason: str, now: float) -> list[Effect]:
        """Start again from the present z with these members."""
        self._waste_round()
        self.begin_epoch(members)
        self.open_round(now)
        effects: list[Effect] = [ef.NewEpoch(reason), ef.Note(reason)]
        if self.settings.checkpoint_every:
            effects.append(capture(self))
        return effects
