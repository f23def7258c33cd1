"""A fleet in virtual time, round by round: recorded message sizes and measured costs instead of vectors, for thousands.

What a round does to all workers at once are a few array operations. Kept are: who takes part, links and speeds of their own,
the server's link and processor as queues, failures with what a resumed worker computes again, and the policy for lost workers.
Differs from the real cores: which workers idle is drawn here, not by the method; a message is lost and sent again as a whole;
uplinks pass the server's link in the order in which they began, downlinks share it and end within the second half of that time.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from saddlebag.launch.rehearsal.costs import Recording, RoundCost
    from saddlebag.launch.rehearsal.links import Links

__all__ = ["Fleet", "Plan", "Report", "rehearse"]

Times = npt.NDArray[np.float64]
_APART = 0.45  # of the time in which downlinks share the server's link, how far apart they end: benchmarks/bench_rehearsal.py
RETRY_S, GRACE_S = 0.05, 1.0  # of a worker before it joins again; of a server before a broken stream is a lost worker


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What is rehearsed.

    Attributes:
        workers, rounds: how many.
        seed: of everything that is drawn.
        drop: whether the run goes on without lost workers.
        every: rounds between checkpoints; 0 for none.
        save_s: for which downlinks wait until a checkpoint is on disk; 0 where it is written beside the next rounds.
        frame_s, round_s: the server's processor, for an uplink and for the end of a round.
        step_s: a worker's step, where the links say nothing of it.
        snapshot_bytes: of the state that a worker takes when an epoch begins.
        join_bytes: of one join, up and down.
    """

    workers: int
    rounds: int
    seed: int
    drop: bool
    every: int
    save_s: float
    frame_s: float
    round_s: float
    step_s: float
    snapshot_bytes: int
    join_bytes: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Report:
    """What came of it; times in seconds of virtual time, bytes of all workers together.

    Attributes:
        seconds: of the whole run.
        round_s: time of each round (rounds,).
        up_bytes, down_bytes: frames, with those that were sent again.
        payload_bytes: messages among them, each once.
        failures, epochs, replayed: workers that died, epochs that began for it, rounds that resumed workers computed again.
        server_s: of the server's processor.
        waited: for the slowest participant after half of them were there, in the mean over the rounds.
    """

    seconds: float
    round_s: Times
    up_bytes: float
    down_bytes: float
    payload_bytes: float
    failures: int
    epochs: int
    replayed: int
    server_s: float
    waited: float


def queued(arrivals: Times, service_s: float) -> Times:
    """When each of the jobs that come at these times, ascending, has been served, one after the other.

    Example:
        >>> queued(np.array([0.0, 0.1, 5.0]), 1.0).tolist()
        [1.0, 2.0, 6.0]
    """
    place = np.arange(len(arrivals))
    served: Times = np.maximum.accumulate(arrivals - service_s * place) + service_s * (place + 1)
    return served


class Fleet:
    """All workers of a run, as arrays over ranks."""

    def __init__(self, plan: Plan, links: Links, recording: Recording) -> None:
        self._plan, self._links, self._recording = plan, links, recording
        self._rng = rng = np.random.default_rng(plan.seed)
        count = plan.workers
        self._up, self._down = links.up.draw(rng, count), links.down.draw(rng, count)
        self._latency = links.latency.draw(rng, count)
        self._step = links.step.draw(rng, count) if links.step else np.full(count, plan.step_s)
        self._ready = np.zeros(count)  # when a worker has the present boundary
        self._fails = self._next_failures(np.zeros(count))
        self._members = np.ones(count, dtype=bool)
        self._back = np.zeros(count)  # when a worker that was dropped is back
        self.now = self.up_bytes = self.down_bytes = self.payload = self.server_s = self.waited = 0.0
        self._join(count)
        self.failures = self.epochs = self.replayed = 0

    def _join(self, count: int) -> None:
        up, down = self._plan.join_bytes
        self.up_bytes += up * count
        self.down_bytes += down * count

    def _next_failures(self, since: Times) -> Times:
        fails: Times = since + 3600 * self._links.hours * self._rng.standard_exponential(len(since))
        return fails

    def _resent(self, count: int) -> npt.NDArray[np.int64]:
        """How often each of so many messages is sent again."""
        if not self._links.loss:
            return np.zeros(count, dtype=np.int64)
        return self._rng.geometric(1 - self._links.loss, count) - 1

    def round(self, number: int, cost: RoundCost) -> None:
        """One round, which begins where each worker has the boundary."""
        while True:
            ranks = self._participants(cost)
            sent, died = self._uplinks(ranks, number, cost)
            if not (self._plan.drop and died.any()):
                break
            self._begin_epoch(ranks[died], float(np.min(sent[died])))
        order = np.sort(sent)
        served = queued(np.sort(self._shared(sent, cost.up_bytes / self._up[ranks], cost.up_bytes)), self._plan.frame_s)
        self.waited += float(order[-1] - order[len(order) // 2])
        self.server_s += len(ranks) * self._plan.frame_s + self._plan.round_s
        saves = self._plan.every and (number + 1) % self._plan.every == 0
        self.now = float(served[-1]) + self._plan.round_s + (self._plan.save_s if saves else 0.0)
        self._downlinks(ranks, cost)

    def _shared(self, alone: Times, takes: Times, size: float) -> Times:
        """When messages are through the server's link that would be there at these times if each had it alone.

        A message passes both links at the same time, the worker's and the server's, for it is sent in pieces: it takes what it
        `takes` on the slower of them, or until the server's has served those that began before.
        """
        begun = alone - takes
        order, through = np.argsort(begun), alone.copy()
        through[order] = np.maximum(alone[order], queued(begun[order], size / self._links.server))
        return through

    def _participants(self, cost: RoundCost) -> npt.NDArray[np.int64]:
        if self._plan.drop and (returning := ~self._members & (self._back <= self.now)).any():
            self._members |= returning
            self._restart()
        members = np.flatnonzero(self._members)
        wanted = self._recording.participants
        if cost.everybody or wanted is None or wanted >= len(members):
            return members
        return np.sort(self._rng.choice(members, wanted, replace=False))

    def _uplinks(self, ranks: npt.NDArray[np.int64], number: int, cost: RoundCost) -> tuple[Times, npt.NDArray[np.bool_]]:
        """When each uplink is at the server's link, and who died on the way and would be dropped (then: when it was lost)."""
        links, plan = self._links, self._plan
        step = self._step[ranks]
        if links.stragglers:
            step = np.where(self._rng.random(len(ranks)) < links.stragglers, step * links.factor, step)
        again = self._resent(len(ranks))
        way = cost.up_bytes / self._up[ranks] + self._latency[ranks] + again * links.resend_s
        begin = np.maximum(self._ready[ranks], 0.0)
        sent = begin + step + way
        self.up_bytes += float(np.sum(1 + again)) * cost.up_bytes
        died = np.zeros(len(ranks), dtype=bool)
        while (down := self._fails[ranks] < sent).any():
            at = self._fails[ranks[down]]
            self.failures += int(down.sum())
            self._join(int(down.sum()))
            back = at + links.away.draw(self._rng, int(down.sum()))
            replays = number % plan.every if plan.every else number
            self.replayed += replays * int(down.sum())
            rejoined = (
                back
                + RETRY_S
                + 4 * self._latency[ranks[down]]
                + replays * (step[down] + cost.down_bytes / self._down[ranks[down]])
            )
            self.down_bytes += replays * cost.down_bytes * int(down.sum())
            self.up_bytes += cost.up_bytes * int(down.sum())
            self._fails[ranks[down]] = self._next_failures(back)
            if plan.drop:
                gone = down.copy()
                gone[down] = back - at > GRACE_S
                sent[gone], died[gone] = at[gone[down]] + GRACE_S, True
                self._back[ranks[gone]] = back[gone[down]]
                sent[down & ~gone] = (rejoined + step[down] + way[down])[~gone[down]]
            else:
                sent[down] = rejoined + step[down] + way[down]
        return sent, died

    def _begin_epoch(self, lost: npt.NDArray[np.int64], when: float) -> None:
        """The run goes on without some workers: all others take the state and begin anew."""
        self._members[lost] = False
        self.now = max(self.now, when)
        if not self._members.any():  # nobody is left: the first to come back goes on
            first = int(np.argmin(self._back))
            self.now = max(self.now, float(self._back[first]))
            self._members[first] = True
        self._restart()

    def _restart(self) -> None:
        members, size = np.flatnonzero(self._members), self._plan.snapshot_bytes
        self.epochs += 1
        self._join(len(members))
        asked, takes = self.now + RETRY_S + 2 * self._latency[members], size / self._down[members]
        self._ready[members] = self._shared(asked + takes, takes, size) + 2 * self._latency[members]
        self.down_bytes += size * len(members)

    def _downlinks(self, ranks: npt.NDArray[np.int64], cost: RoundCost) -> None:
        order = self._rng.permutation(ranks)
        takes, again = cost.down_bytes / self._down[order], self._resent(len(order))
        share = 1.0 - _APART * (1.0 - np.arange(1, len(order) + 1) / len(order))
        out = self.now + np.maximum(takes, share * len(order) * cost.down_bytes / self._links.server)
        self._ready[order] = out + self._latency[order] + again * self._links.resend_s
        self.down_bytes += float(np.sum(1 + again)) * cost.down_bytes
        self.payload += len(order) * (cost.up_payload + cost.down_payload)


def rehearse(plan: Plan, links: Links, recording: Recording) -> Report:
    """The rounds of a plan; those that were recorded come again and again."""
    fleet, ends = Fleet(plan, links, recording), [0.0]
    for number in range(plan.rounds):
        fleet.round(number, recording.rounds[number % len(recording.rounds)])
        ends.append(fleet.now)
    return Report(
        seconds=fleet.now,
        round_s=np.diff(ends),
        up_bytes=fleet.up_bytes,
        down_bytes=fleet.down_bytes,
        payload_bytes=fleet.payload,
        failures=fleet.failures,
        epochs=fleet.epochs,
        replayed=fleet.replayed,
        server_s=fleet.server_s,
        waited=fleet.waited / plan.rounds,
    )
