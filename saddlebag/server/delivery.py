"""What to send next to a worker: the downlink of its round, or, when it was idle and is selected again, what it missed.

See `saddlebag.algorithms.participation`: the cheaper of the missed downlinks and a catch-up, decided by bytes alone, so that
the in-process driver counts the same.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

from saddlebag.algorithms import AnyMethod, Selective
from saddlebag.algorithms.participation import Arrears, catch_up
from saddlebag.errors import PeerLost
from saddlebag.proto.codec import encode
from saddlebag.proto.frames import frames_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from saddlebag.proto.reader import Buffer
    from saddlebag.server.ledger import Traffic
    from saddlebag.server.log import DownlinkLog

__all__ = ["Deliveries", "Delivery"]


@dataclasses.dataclass(frozen=True)
class Delivery:
    """Frames that take a worker from one boundary to another; `jump` when they are a catch-up, not a downlink."""

    start: int
    end: int
    frames: list[bytes]
    jump: bool = False


@dataclasses.dataclass(frozen=True)
class _Standing:
    """What is due at a boundary: replaced as a whole, for streams read it while a round is finished in a thread."""

    round: int
    epoch: int
    final: bool
    settled: tuple[int, ...]  # by worker: the boundary to which its own rounds have brought it
    jumps: Mapping[int, bool]  # workers that are to come from there to the present, and whether by a catch-up
    buffers: list[Buffer]
    ahead: tuple[int, ...] = ()  # workers that may have the downlink of this round before it has ended here

    @functools.cached_property
    def frames(self) -> list[bytes]:
        """The catch-up to this boundary."""
        return list(frames_of(self.buffers, epoch=self.epoch, round_=self.round, sender=0, final=self.final))


class Deliveries:
    """Decides what goes to whom, and counts it once for each worker."""

    def __init__(self, method: AnyMethod, log: DownlinkLog, num_workers: int, every: int) -> None:
        self._method, self._log, self._num_workers = method, log, num_workers
        self._every = every  # rounds between checkpoints; 0 for none
        self.arrears = Arrears(num_workers)
        self._standing = _Standing(0, 0, False, (0,) * num_workers, {}, [])

    def reach(self, replica: Any, active: tuple[int, ...], round_: int, *, epoch: int, final: bool) -> int:
        """A boundary is reached, and these workers are to come to it; returns the bytes that this costs."""
        settled = tuple(self.arrears.boundary(worker) for worker in range(self._num_workers))
        behind = [worker for worker in active if settled[worker] < round_]
        buffers: list[Buffer] = []
        costs: dict[int, tuple[int, bool]] = {}
        if behind and isinstance(self._method, Selective):
            buffers = encode(catch_up(self._method, replica))
            costs = self.arrears.costs(behind, round_, sum(map(len, buffers)))
        jumps = {worker: jump for worker, (_, jump) in costs.items()}
        self._standing = _Standing(round_, epoch, final, settled, jumps, buffers)
        return sum(num_bytes for num_bytes, _ in costs.values())

    def publish(
        self,
        buffers: list[Buffer],
        needed: int,
        *,
        final: bool,
        ahead: tuple[int, ...] = (),
        counted: bytes = b"",
    ) -> None:
        """Store the downlink of the present round.

        Args:
            buffers: its message.
            needed: the first round whose downlink somebody may yet ask for, beside those since the last checkpoints.
            final: whether it ends the run.
            ahead: workers that may have it before the round has ended here.
            counted: see `saddlebag.proto.counted`.
        """
        standing = self._standing
        if self._every:  # from its last checkpoint a worker may replay what it needs
            self._log.need(needed // self._every * self._every)
        about: dict[str, Any] = {"epoch": standing.epoch, "round_": standing.round, "sender": 0, "counted": counted}
        frames = frames_of(buffers, final=final, **about)
        self._log.append(standing.round, frames)
        self._standing = dataclasses.replace(standing, ahead=ahead)

    def saves(self, round_: int) -> bool:
        """Whether checkpoints are taken at this boundary."""
        return self._every > 0 and round_ % self._every == 0

    def needed(self, members: tuple[int, ...]) -> int:
        """The first round whose downlink a member may yet ask for: the last it took part in."""
        return max(0, min(self.arrears.boundary(worker) for worker in members) - 1)

    def accepts(self, worker: int, round_: int) -> bool:
        """Whether a worker that holds the boundary `round_` can be brought to the present without older downlinks."""
        standing = self._standing
        return standing.settled[worker] <= round_ <= standing.round

    def next(self, worker: int, cursor: int) -> Delivery | None:
        """What comes next for a worker that stands at boundary `cursor`; None while it is to wait.

        Raises:
            PeerLost: it is so far behind that the log has forgotten what it lacks.
        """
        standing = self._standing
        if cursor == standing.round and worker in standing.ahead:
            return Delivery(cursor, cursor + 1, self._log.frames(cursor))
        if cursor >= standing.round:
            return None
        logged = cursor >= self._log.start(standing.round)
        if cursor >= standing.settled[worker]:
            if worker not in standing.jumps:
                return None
            if standing.jumps[worker] or not logged:
                return Delivery(cursor, standing.round, standing.frames, jump=True)
        if not logged:
            raise PeerLost(f"worker {worker} at round {cursor} has fallen behind the log of downlinks; it is to join again")
        return Delivery(cursor, cursor + 1, self._log.frames(cursor))

    def sent(self, worker: int, delivery: Delivery, sequence: int, traffic: Traffic) -> None:
        """A frame of a delivery has been handed to gRPC."""
        if delivery.jump:
            self._log.jumped(worker, (delivery.start, delivery.end), delivery.frames, sequence, traffic)
        else:
            self._log.sent(worker, delivery.start, delivery.frames, sequence, traffic)

    def credit(self, worker: int, resume: int, traffic: Traffic) -> None:
        """A worker that continues from `resume` has received what led there, though a crash lost its count."""
        standing = self._standing
        if resume == standing.round and standing.jumps.get(worker):
            start = standing.settled[worker]
            self._log.credit(worker, start, traffic)
            for sequence in range(len(standing.frames)):
                if self._log.is_new(worker, start, sequence):
                    self._log.jumped(worker, (start, resume), standing.frames, sequence, traffic)
        self._log.credit(worker, resume, traffic)
