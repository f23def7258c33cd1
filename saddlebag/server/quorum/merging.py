"""The server of a run whose rounds close at a quorum: who comes late counts later, who goes or comes disturbs nobody.

    a worker dies        the others' rounds go on; with `on_lost` "drop" it is no member any more; all members are quorum enough
    it comes back        with its state: as if it had been slow; without: from the present boundary, with a new memory
    it is done           it is no member any more; the last one ends the run

There is one epoch. What the server needs to know of workers lies in its `Pool`; see `saddlebag.algorithms.merging`.
"""

from __future__ import annotations

import dataclasses
import math
import threading
from typing import TYPE_CHECKING, Any

from saddlebag.algorithms import DIVERGED
from saddlebag.algorithms.merging import Arrivals, require_mergeable
from saddlebag.compression import SERVER, Draws
from saddlebag.errors import ConfigError, RemoteProtocolError
from saddlebag.proto.frames import read_frame
from saddlebag.proto.handshake import DONE
from saddlebag.server import effects as ef
from saddlebag.server.core import ServerCore
from saddlebag.server.joining import answer, common_round
from saddlebag.server.quorum.pool import Pace, Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from saddlebag.algorithms import AnyMethod, Spent, Verdict
    from saddlebag.compression import Vector
    from saddlebag.proto.handshake import JoinAnswer, JoinAsk
    from saddlebag.server.effects import Effect, ServerSettings
    from saddlebag.server.gather import Said

__all__ = ["MergingCore"]


class MergingCore(ServerCore):
    """See the module, and `ServerCore` for the events.

    Raises:
        ConfigError: rounds of the method cannot be merged, and why.
    """

    def __init__(
        self,
        method: AnyMethod,
        judge: Callable[[int, Any, Any, Spent], Verdict],
        start_D: Vector,
        settings: ServerSettings,
        now: float,
    ) -> None:
        self.pool = self._new_pool(method, start_D, settings)
        self._closed: list[Arrivals] = []  # of the round that is being finished
        self._advanced: dict[int, float] = {}
        self._shared: list[float] = [0] * settings.num_workers  # by worker: its boundaries up to here are of this history
        self._begun = [
            0
        ] * settings.num_workers  # by worker: where it last began anew; the log has no place for what it held before
        self._repeated = threading.Lock()  # the end of a round, in a thread, and frames, which still come, both count
        super().__init__(method, judge, start_D, settings, now)

    def _new_pool(self, method: AnyMethod, start_D: Vector, settings: ServerSettings) -> Pool:
        """Where uplinks wait."""
        asked = next(name for name in ("quorum", "weights", "balance") if getattr(settings, name) not in (0, "equal", False))
        mergeable = require_mergeable(method, f"server.{asked} = {getattr(settings, asked)!r}")
        draws = Draws(settings.seed, 0, SERVER)
        sizes = method.uplink_sizes(method.init_replica(start_D), draws)  # alike in all rounds, as the law of `Mergeable` says
        pace = Pace(
            quorum=settings.quorum or settings.num_workers,
            grace_s=settings.grace_s,
            weights=settings.weights,
            balance=settings.balance,
        )
        return Pool(mergeable, sizes, draws, pace, settings.num_workers, lambda worker: self.roster.gone(worker))

    # -- joining ---------------------------------------------------------------------------------------------------------

    def join(self, ask: JoinAsk, session: str, now: float) -> tuple[JoinAnswer, list[Effect]]:
        self._admit(ask)
        if not ask.order:
            raise ConfigError(f"worker {ask.worker} is of a release that does not know rounds with a quorum; take this one")
        self.roster.require_free(ask, now, self.settings.lease_s)
        same = bool(ask.session) and self.roster.holds(ask.worker, ask.session)
        effects = self._seat(ask, session, now)
        if ask.worker not in self.members:
            self.deliveries.arrears.receive([ask.worker], self.round, 0)
            effects += self._change(tuple(sorted({*self.members, ask.worker})), now)
        held = tuple(each for each in ask.rounds if self._begun[ask.worker] <= each <= self._shared[ask.worker])
        resume = common_round(self, dataclasses.replace(ask, rounds=held))
        if self.roster.take_diverged(ask.worker):
            resume = None
        elif resume is not None and not (self.settings.repeatable or same) and self.pool.last[ask.worker] > resume:
            resume = None  # a program that has gone back cannot say again what was counted
        fresh = resume is None
        if resume is None:
            resume = self.round
            effects += self._begin_anew(ask.worker, now)
        self.deliveries.credit(ask.worker, resume, self.ledger.down)
        self.roster.set_resume(ask.worker, self.epoch, resume)
        more: dict[str, Any] = {"merging": True, "counted": self.pool.last[ask.worker]}
        more |= {"epoch_start": self.round, "share": self.pool.first_share(ask.worker, now)} if fresh else {}
        return answer(self, session, resume, fresh=fresh, **more), effects

    def _begin_anew(self, worker: int, now: float) -> list[Effect]:
        self.pool.begins(worker, self.round, now)
        self._begun[worker] = self.round
        return [ef.Counts(Arrivals(round=self.round, counted=(), joined=(worker,)))]

    def snapshot(self, worker: int, now: float) -> tuple[int, int, Any, list[Effect]]:
        """As in `ServerCore`: rounds do not wait, so a worker without a state begins where its snapshot is taken."""
        effects = self._begin_anew(worker, now)
        self.roster.set_resume(worker, self.epoch, self.round)
        return self.epoch, self.round, self.replica, effects

    def facts(self) -> dict[str, Any]:
        shared = [min(self.round, each) for each in self._shared]
        return {"counted": self.pool.last, "shared": shared, "begun": self._begun}

    def take_facts(self, meta: Mapping[str, Any]) -> None:
        """Who has not been seen since may hold boundaries that this server has lost; others of their numbers will follow."""
        for name, mine in (("counted", self.pool.last), ("shared", self._shared), ("begun", self._begun)):
            rounds = meta.get(name, mine) if name == "begun" else meta[name]  # an earlier release wrote none
            if len(rounds) != self.settings.num_workers or not all(type(round_) is int and round_ >= 0 for round_ in rounds):
                raise ValueError(f"{name} must hold a round for each worker, got {rounds!r}")
            mine[:] = rounds

    def recall(self, joined: Sequence[int]) -> None:
        """These workers began anew at the present boundary after its checkpoint was taken: the log has it, and stays."""
        for worker in joined:
            self._begun[worker] = self.round

    def opened(self, worker: int, session: str) -> None:
        super().opened(worker, session)
        if self.roster.holds(worker, session):  # it has gone to where its join's answer said, and forgotten the rest
            self._shared[worker] = math.inf

    # -- rounds ----------------------------------------------------------------------------------------------------------

    def open_round(self, now: float) -> None:
        self._draws = Draws(self.settings.seed, self.round, SERVER)
        self.active, self._gather = self.members, self.pool
        self.reach(self.members)
        self.pool.open(self.members, now)
        self._opened, self._digest = now, None

    def _take(self, worker: int, raw: bytes, now: float) -> list[Effect]:
        with self._repeated:
            self.ledger.up.transport += len(raw)
            self.ledger.up.repeated += len(raw)  # until a round counts it
        frame = read_frame(raw)
        if frame.sender != worker + 1:
            raise RemoteProtocolError(f"worker {worker} sent a frame of sender {frame.sender}")
        self.roster.see(worker, now)
        self._counted_s = now if self._counted_s is None else self._counted_s
        if (frame.epoch, frame.round) > (self.epoch, self.round):
            raise RemoteProtocolError(f"worker {worker} is at round {frame.round}, ahead of the server's {self.round}")
        if frame.epoch != self.epoch or not self.needs_uplink(worker) or frame.round < self.pool.last[worker]:
            self.ledger.stale_frames += 1
            return []
        if frame.digest is not None and frame.round == self.round and frame.digest != self.replica_digest:
            return self._heal(worker)
        was_short = self.pool.short
        self.pool.take(worker, frame, len(raw), now)
        self._advanced[worker] = now
        if self.pool.has(worker):
            del self._advanced[worker]
        if self.pool.due(now):
            return [ef.RoundReady()]
        return self._when_due(now) if was_short else []

    def _when_due(self, now: float) -> list[Effect]:
        """The round is to end when its grace is over."""
        left_s = self.pool.left_s(now)
        if left_s is None:
            return []
        return [ef.Later(0.0 if self.pool.due(now) else left_s)]

    def _collected(self, now: float) -> Said | None:
        said = super()._collected(now)
        if said is not None:
            self._closed.append(Arrivals(round=self.round, counted=said.counted))
        return said

    def _count(self, said: Said) -> None:
        super()._count(said)
        with self._repeated:
            self.ledger.up.repeated -= said.frame_bytes
        self.ledger.late_uplinks += sum(entry.age > 0 for entry in said.counted)

    def finish_round(self, now: float, announce: Callable[[], object] = lambda: None) -> list[Effect]:
        self._closed.clear()
        before = self.round
        effects = super().finish_round(now, announce)
        if self.round == before:
            return effects
        return [*map(ef.Counts, self._closed), *effects, *([] if self.finished else self._when_due(now))]

    def _needed(self) -> int:
        return min((self.pool.last[worker] for worker in self.members if self.roster.awaited(worker)), default=self.round)

    # -- membership ------------------------------------------------------------------------------------------------------

    def _change(self, members: tuple[int, ...], now: float) -> list[Effect]:
        """Go on with other members, in the same round."""
        self.members = self.active = members
        self.reach(members)
        self.pool.open(members, now)
        return self._when_due(now)

    def leave(self, worker: int, reason: str, now: float) -> list[Effect]:
        self.roster.leave(worker)
        if reason == DIVERGED:
            return self._diverge()
        if reason != DONE or self.finished:
            return self._give_up([worker], f"worker {worker} left", now)
        left = tuple(member for member in self.members if member != worker)
        if not left:
            return self._end_here(DONE)
        note = ef.Note(f"worker {worker} is done; going on with {len(left)}")
        return [note, *self._change(left, now)]

    def tick(self, now: float) -> list[Effect]:
        if not self.finished and self.pool.due(now):
            return [ef.Later(0.0)]
        return super().tick(now)

    def _give_up(self, workers: list[int], reason: str, now: float) -> list[Effect]:
        if self.finished:
            return []
        left = tuple(worker for worker in self.members if worker not in workers)
        if self.settings.on_lost == "drop" and left:
            words = f"{reason}; going on with {len(left)} of {self.settings.num_workers} workers"
            ends = [ef.Close(worker, reason) for worker in workers]  # who is there all the same joins again
            return [ef.Note(words), *ends, *self._change(left, now)]
        if not self.pool.short:
            return []
        return super()._give_up(workers, reason, now)

    def waiting(self, now: float) -> str:
        return super().waiting(now) if self.pool.short else ""
