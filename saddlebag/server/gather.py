"""Collects the uplinks of one round and sums them while they arrive, in worker order."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from saddlebag.algorithms.averages.stack import alignments_of, collector
from saddlebag.compression.payload import Dense
from saddlebag.errors import BrokenStream, RemoteProtocolError
from saddlebag.proto.streaming import StreamDecoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from saddlebag.algorithms.averages.robust import RobustMean
    from saddlebag.algorithms.averages.stack import Stack
    from saddlebag.algorithms.merging import Counted
    from saddlebag.compression import Draws, Mean, Payload, Sum, Vector
    from saddlebag.proto.frames import Frame

__all__ = ["Gather", "Said"]


class Said(NamedTuple):
    """What the workers have said in a round: the means, bytes, and, where rounds are merged, whom it counts."""

    means: tuple[Mean, ...]
    data_bytes: int
    frame_bytes: int
    counted: tuple[Counted, ...] = ()
    alignments: Vector | None = None


class Uplinks(Protocol):
    """What has come of a round's uplinks, as a core asks for it: a `Gather` of every member, or a `Pool` with a quorum."""

    def expects(self, worker: int) -> bool:
        """Whether this worker takes part in the round."""

    def has(self, worker: int) -> bool:
        """Whether this worker's uplink has arrived."""

    def backlog(self, worker: int) -> int:
        """Bytes of this worker that wait for an earlier worker."""

    def missing(self) -> list[int]:
        """The workers whose uplinks have not arrived."""

    def take(self, worker: int, frame: Frame, frame_bytes: int, now: float) -> None:
        """Take the next frame of a worker; `BrokenStream` or `RemoteProtocolError` where it cannot be."""

    def due(self, now: float) -> bool:
        """Whether the round may close."""

    def close(self, round_: int, now: float) -> Said:
        """End a round that is `due`."""

    def abandon(self, worker: int) -> int:
        """Forget an uplink that has not arrived; returns the bytes of frames that nothing else will count."""

    def clear(self) -> int:
        """Forget all of them; returns as `abandon` does."""


class _Inbox:
    """The uplink of one worker, as far as it has arrived."""

    def __init__(self) -> None:
        self.decoder: StreamDecoder | None = None
        self.sequence = 0
        self.pending: deque[tuple[int, int, Payload, int]] = deque()  # part, first coordinate, payload, bytes held
        self.pending_bytes = 0
        self.data_bytes = 0
        self.frame_bytes = 0
        self.refused = False

    @property
    def complete(self) -> bool:
        return self.decoder is not None and self.decoder.complete and not self.refused


class Gather:
    """The uplinks of one round.

    A coordinate of worker i is added only after worker i - 1's, so the sums are those of the in-process driver whatever
    the order of arrival. Memory: the sums, and for each worker the pieces that wait for their turn; sparse pieces whose turn
    has come may wait in their sum (see `Sum`). A rule in place of the mean keeps more: see `Stack`.
    """

    def __init__(
        self,
        members: Sequence[int],
        sizes: tuple[int, ...],
        draws: Draws,
        buffers: Sequence[Vector] = (),
        dtype: npt.DTypeLike = np.float64,
        *,
        rule: RobustMean | None = None,
        scored: bool = False,
    ) -> None:
        self._members = list(members)
        self._place = {worker: place for place, worker in enumerate(members)}
        self._sizes, self._draws, self._scored = sizes, draws, scored
        self._inboxes = {worker: _Inbox() for worker in members}
        memory = [*buffers, *(None for _ in sizes)]
        self._sums: list[Sum | Stack] = [
            collector(size, len(self._members), rule, scored=scored, buffer=buffer, dtype=dtype)
            for size, buffer in zip(sizes, memory, strict=False)
        ]
        self._added = [[0] * len(self._members) for _ in sizes]  # coordinates added, by part and place

    @property
    def complete(self) -> bool:
        """Whether every uplink has arrived and been added."""
        return all(inbox.complete and not inbox.pending for inbox in self._inboxes.values())

    def expects(self, worker: int) -> bool:
        """Whether this worker takes part in the round."""
        return worker in self._place

    def has(self, worker: int) -> bool:
        """Whether this worker's uplink has arrived."""
        return self._inboxes[worker].complete

    def backlog(self, worker: int) -> int:
        """Bytes of this worker that wait for an earlier worker."""
        return self._inboxes[worker].pending_bytes

    def missing(self) -> list[int]:
        """The workers whose uplinks have not arrived."""
        return [worker for worker in self._members if not self.has(worker)]

    def take(self, worker: int, frame: Frame, frame_bytes: int, now: float = 0.0) -> None:
        """Take the next frame of a worker.

        Raises:
            BrokenStream: the frame is out of sequence: one was lost, or came twice.
            RemoteProtocolError: its bytes are no part of a valid uplink.
        """
        del now
        inbox = self._inboxes[worker]
        inbox.frame_bytes += frame_bytes
        if frame.sequence != inbox.sequence:
            raise BrokenStream(f"worker {worker} sent frame {frame.sequence} where {inbox.sequence} was due")
        if inbox.decoder is None:
            inbox.decoder = StreamDecoder(self._sizes, self._draws.of(worker), frame.total)
        inbox.sequence += 1
        inbox.data_bytes += len(frame.data)
        try:
            for part, start, payload in inbox.decoder.feed(frame.data):
                held = len(frame.data) if isinstance(payload, Dense) else inbox.data_bytes
                inbox.pending.append((part, start, payload, held))
                inbox.pending_bytes += held
        except RemoteProtocolError:
            inbox.refused = True
            raise
        for place in range(self._place[worker], len(self._members)):
            if not self._drain(place):
                break

    def abandon(self, worker: int) -> int:
        """Forget an incomplete uplink, which will be sent again from its start; returns the bytes of its frames.

        What was added stays added: a repeated uplink is the same bit for bit, and its coordinates are skipped.
        """
        inbox = self._inboxes.get(worker)
        if inbox is None or inbox.complete:
            return 0
        self._inboxes[worker] = _Inbox()
        return inbox.frame_bytes

    def clear(self) -> int:
        """Forget everything: complete uplinks are of no use either."""
        return sum(self.abandon(worker) for worker in self._members) + self.traffic()[1]

    def due(self, now: float) -> bool:
        """Whether the round may close: it waits for everybody."""
        del now
        return self.complete

    def close(self, round_: int, now: float) -> Said:
        """End a round that is `due`."""
        del round_, now
        alignments = self.alignments() if self._scored else None
        return Said(self.means(), *self.traffic(), alignments=alignments)

    def traffic(self) -> tuple[int, int]:
        """(message bytes, frame bytes) of all uplinks."""
        inboxes = self._inboxes.values()
        return sum(inbox.data_bytes for inbox in inboxes), sum(inbox.frame_bytes for inbox in inboxes)

    def means(self) -> tuple[Mean, ...]:
        """The mean of each part over the members, or what the rule says; the gather is spent."""
        sums, self._sums = self._sums, []  # nothing here outlives the round, for the sums are the server's memory
        return tuple(total.mean(len(self._members)) for total in sums)

    def alignments(self) -> Vector:
        """How far each member's uplink goes where the round goes, by place; before `means`, of a gather that is `scored`."""
        return alignments_of(self._sums)

    def _drain(self, place: int) -> bool:
        """Add what may be added of one worker; whether anything was."""
        inbox, moved = self._inboxes[self._members[place]], False
        while inbox.pending:
            part, start, payload, held = inbox.pending[0]
            end = start + payload.dimension
            if place and self._added[part][place - 1] < end:
                break
            inbox.pending.popleft()
            inbox.pending_bytes -= held
            done = self._added[part][place]
            if done < end:  # else: added before the worker was lost and sent it again
                if done > start and isinstance(payload, Dense):
                    payload, start = Dense(payload.value_D[done - start :]), done
                self._sums[part].add(payload, start)
                self._added[part][place] = end
                moved = True
        return moved
