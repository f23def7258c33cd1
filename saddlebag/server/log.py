"""The log of downlinks: stored before they are sent, replayed to whoever comes back, counted once for each worker."""

from __future__ import annotations

import dataclasses
import itertools
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from saddlebag.proto.frames import parse_frame

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from saddlebag.proto.reader import Buffer
    from saddlebag.server.ledger import Traffic

__all__ = ["DownlinkLog"]


@dataclasses.dataclass(frozen=True)
class _Stored:
    """The downlink of a round as it is sent, and the message bytes in each of its frames."""

    round: int
    frames: list[bytes]
    data_bytes: list[int]

    @property
    def size(self) -> int:
        return sum(map(len, self.frames))


class DownlinkLog:
    """The downlinks of the latest rounds, without gaps.

    Kept are those since the checkpoint before the last, for a peer may be one checkpoint behind, those that an idle worker
    may still ask for, and no more than `max_bytes`, but always the newest.
    """

    def __init__(self, num_workers: int, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._stored: deque[_Stored] = deque()
        self._size = 0
        self._marks = deque([0], maxlen=2)  # boundaries of the last two checkpoints
        self._needed: int | None = None  # the first round that a worker may need beside those; None for no other
        self._delivered = [(0, 0)] * num_workers  # by worker: next (round, sequence) that was never sent to it

    def start(self, round_: int) -> int:
        """The first round from which the log leads to `round_`, the present."""
        return self._stored[0].round if self._stored else round_

    def frames(self, round_: int) -> list[bytes]:
        """The downlink of a round."""
        return self._stored[round_ - self._stored[0].round].frames

    def mark(self, round_: int) -> None:
        """A checkpoint is taken at this boundary."""
        if self._marks[-1] != round_:
            self._marks.append(round_)

    def need(self, round_: int) -> None:
        """Some worker may ask for the downlinks from this round on."""
        self._needed = round_

    def append(self, round_: int, frames: Iterable[bytes]) -> None:
        """Store the downlink of the present round, and forget those that nobody can need."""
        whole = list(frames)
        self._stored.append(_Stored(round_, whole, [len(parse_frame(frame).data) for frame in whole]))
        self._size += self._stored[-1].size
        while len(self._stored) > 1 and self._is_excess():
            self._size -= self._stored.popleft().size

    def trim(self, coming: int) -> None:
        """All members have every downlink: make room for the next one, of `coming` bytes."""
        while self._stored and self._is_excess(coming):
            self._size -= self._stored.popleft().size

    def _is_excess(self, coming: int = 0) -> bool:
        oldest = self._marks[0] if self._needed is None else min(self._marks[0], self._needed)
        return self._stored[0].round < oldest or self._size + coming > self._max_bytes

    def clear(self, round_: int) -> None:
        """Forget everything before `round_`, the first of an epoch."""
        self._stored.clear()
        self._size = 0
        self._marks, self._needed = deque([round_], maxlen=2), None
        self._delivered = [(round_, 0)] * len(self._delivered)

    def sent(self, worker: int, round_: int, frames: Sequence[bytes], sequence: int, traffic: Traffic) -> None:
        """Count a frame that has been handed to gRPC: as payload the first time, later as repeated.

        The log may have forgotten it meanwhile: the worker has it before gRPC says so, and an epoch may have begun.
        """
        size = len(frames[sequence])
        traffic.transport += size
        if not self.is_new(worker, round_, sequence):
            traffic.repeated += size
            return
        data_bytes = self._data_bytes(round_, frames, sequence)
        traffic.payload += data_bytes
        traffic.framing += size - data_bytes
        self._delivered[worker] = (round_, sequence + 1)

    def _data_bytes(self, round_: int, frames: Sequence[bytes], sequence: int) -> int:
        """Message bytes of a frame: as they are stored, or read from it where the log has forgotten it."""
        place = round_ - self.start(round_)
        if 0 <= place < len(self._stored) and self._stored[place].frames is frames:
            return self._stored[place].data_bytes[sequence]
        return len(parse_frame(frames[sequence]).data)

    def is_new(self, worker: int, round_: int, sequence: int) -> bool:
        """Whether this frame of what starts at a boundary was never sent to the worker."""
        return (round_, sequence) >= self._delivered[worker]

    def jumped(self, worker: int, way: tuple[int, int], frames: Sequence[bytes], sequence: int, traffic: Traffic) -> None:
        """Count a frame that takes a worker from one boundary to a later one without the downlinks between."""
        start, end = way
        size = len(frames[sequence])
        traffic.transport += size
        if not self.is_new(worker, start, sequence):
            traffic.repeated += size
            return
        data_bytes = len(parse_frame(frames[sequence]).data)
        traffic.payload += data_bytes
        traffic.framing += size - data_bytes
        self._delivered[worker] = (start, sequence + 1) if sequence + 1 < len(frames) else (end, 0)

    def credit(self, worker: int, resume: int, traffic: Traffic) -> None:
        """A worker that continues from `resume` has received the downlinks before it, though a crash lost their count."""
        for stored in self._stored:
            for sequence in range(len(stored.frames)):
                if stored.round < resume and (stored.round, sequence) >= self._delivered[worker]:
                    _count(stored, sequence, traffic)
        self._delivered[worker] = max(self._delivered[worker], (resume, 0))

    def capture(self) -> tuple[npt.NDArray[np.uint8], dict[str, Any]]:
        """The log for a checkpoint: its bytes, and how they divide."""
        data = b"".join(frame for stored in self._stored for frame in stored.frames)
        rounds = [[stored.round, [len(frame) for frame in stored.frames], stored.data_bytes] for stored in self._stored]
        meta = {"rounds": rounds, "marks": list(self._marks), "needed": self._needed, "delivered": self._delivered}
        return np.frombuffer(data, np.uint8), meta

    def restore(self, data: Buffer, meta: dict[str, Any]) -> None:
        """The log of a checkpoint; KeyError, TypeError or ValueError when it is none."""
        self._stored.clear()
        at, view = 0, memoryview(data)
        for round_, lengths, data_bytes in meta["rounds"]:
            ends = list(itertools.accumulate(lengths, initial=at))
            self._stored.append(_Stored(round_, [bytes(view[a:b]) for a, b in itertools.pairwise(ends)], data_bytes))
            at = ends[-1]
        self._size = at
        self._marks, self._needed = deque(map(int, meta["marks"]), maxlen=2), meta["needed"]
        delivered: Sequence[Sequence[int]] = meta["delivered"]
        if at != len(data) or len(delivered) != len(self._delivered):
            raise ValueError("the log of downlinks does not add up")
        self._delivered = [(round_, sequence) for round_, sequence in delivered]


def _count(stored: _Stored, sequence: int, traffic: Traffic) -> None:
    frame_bytes, data_bytes = len(stored.frames[sequence]), stored.data_bytes[sequence]
    traffic.payload += data_bytes
    traffic.framing += frame_bytes - data_bytes
    traffic.transport += frame_bytes
