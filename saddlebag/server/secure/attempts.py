"""A round of secure aggregation as attempts, and the frames of masked vectors: it stands where `Gather` stands in other runs.

An attempt ends without a sum when a member begins anew in the middle of it, with other keys, or when too few are left. Then the
next one begins, with new keys of everybody. What was masked in the one before stays masked.
"""

from __future__ import annotations

import dataclasses
import enum
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.algorithms.merging import WHOLE, Counted
from saddlebag.compression import Mean
from saddlebag.errors import BrokenStream, PeerLost, RemoteProtocolError
from saddlebag.proto.secure.aggregation import Aggregation, check_keys
from saddlebag.proto.secure.messages import Step
from saddlebag.server.gather import Said
from saddlebag.server.quorum.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from saddlebag.proto.frames import Frame
    from saddlebag.proto.secure.ring import Ring

__all__ = ["Answer", "Attempts", "Outcome"]

_MOST_BEGINNINGS = 16
"""Times that a worker may begin anew in one round, and all others with it: a link may break now and then, not for ever."""


class Outcome(enum.IntEnum):
    """What a worker does after a step; the numbers of the schema's SecureReply."""

    GO = 0
    AGAIN = 1
    OVER = 2


@dataclasses.dataclass(frozen=True)
class Answer:
    """To a step of a worker: how it goes on, in which attempt, and what it is told."""

    outcome: Outcome
    attempt: int = 0
    data: bytes = b""


class _Vector:
    """A masked vector, as far as it has come."""

    def __init__(self, num_bytes: int) -> None:
        self.data, self.at, self.sequence, self.frame_bytes = bytearray(num_bytes), 0, 0, 0


class Attempts(Pool):
    """See the module, and `Pool` for what a core asks of it.

    Args:
        threshold: of the run.
        num_workers: of the run.

    Attributes:
        last: by worker, the round after the last one that has counted it.
        gone: workers that rounds do not wait for, until they come again.
        refused: what was wrong with messages that the last round could do without.
    """

    def __init__(self, threshold: int, num_workers: int) -> None:
        self._threshold = threshold
        self.last = [0] * num_workers
        self.gone: set[int] = set()
        self.refused: list[str] = []
        self._number = 0  # of the attempt, in the life of this process
        self._held: dict[int, bytes] = {}  # keys for the next attempt, or for this one where it is not too late
        self._members: tuple[int, ...] = ()
        self._failure: PeerLost | None = None  # why the round cannot end

    def prepare(self, round_: int, ring: Ring, scales: Sequence[tuple[int, float]]) -> None:
        """The round that `open` will begin: its ring, and for each part of an uplink its dimension and scale."""
        self._round, self._ring, self._scales = round_, ring, tuple(scales)

    def open(self, members: Sequence[int], now: float) -> None:
        del now
        self._members = tuple(members)
        self._held = {worker: keys for worker, keys in self._held.items() if worker in self._members}
        self._beginnings: Counter[int] = Counter()
        self._begin()

    def _begin(self) -> None:
        """Another attempt; it begins when enough members are there."""
        self._number += 1
        present = [worker for worker in self._members if worker not in self.gone]
        self._sum = Aggregation(present, threshold=self._threshold, ring=self._ring)
        self._answers: dict[tuple[Step, int], bytes] = {}
        self._vectors: dict[int, _Vector] = {}
        self._frame_bytes: dict[int, int] = {}  # of vectors that have arrived
        self._keyed: dict[int, bytes] = {}  # of this attempt
        self._admit()

    def _admit(self) -> None:
        """Take the keys of those who may yet take part."""
        if self._sum.step is Step.KEYS:
            for worker in sorted({*self._held} & {*self._sum.expected}):
                self._keyed[worker] = self._held.pop(worker)
                self._sum.take(Step.KEYS, worker, self._keyed[worker])
        self._advance()

    def _advance(self) -> None:
        """Close every step in which nobody is missing."""
        while self._sum.step is not None and not self._sum.missing():
            step = self._sum.step
            if step is Step.KEYS and not self._sum.enough:
                return  # until others come
            try:
                told = self._sum.close()
            except PeerLost as error:
                if step is not Step.UNMASK:
                    return self._begin()
                self._failure = error  # another attempt would show the sum of others, and the difference of the two
                return None
            self._answers |= {(step, worker): data for worker, data in told.items()}
        return None

    def _again(self) -> None:
        """The attempt is over without a sum. Keys that nobody has been told yet are as good as new."""
        if self._sum.step is Step.KEYS:
            self._held = {**self._keyed, **self._held}
        self._begin()

    # -- what workers say ------------------------------------------------------------------------------------------------

    def say(self, worker: int, step: Step, attempt: int, data: bytes) -> None:
        """A step of a worker, but for its vector, which comes as frames.

        Raises:
            RemoteProtocolError: it is no such message, and whose it was.
        """
        if step is Step.KEYS:
            self._begins(worker, data)
        elif attempt == self._number and step is not Step.MASKED:
            self._sum.take(step, worker, data)
            self._advance()

    def _begins(self, worker: int, data: bytes) -> None:
        if self._keyed.get(worker) == data:
            return
        try:
            check_keys(data)
        except RemoteProtocolError as error:
            raise RemoteProtocolError(f"worker {worker}'s keys: {error}") from error
        there = worker in self._sum.expected
        if self._takes_all_back(worker, there=there):
            self._beginnings[worker] += 1
            if self._beginnings[worker] > _MOST_BEGINNINGS:
                told = (
                    f"round {self._round} has begun anew for worker {worker} {_MOST_BEGINNINGS} times; it keeps its last keys"
                )
                raise RemoteProtocolError(told)
        self._held[worker] = data
        self.gone.discard(worker)
        again = self._takes_all_back(worker, there=there)
        self._keyed.pop(worker, None)  # it has lost what it had: its process is another one, or its stream
        if self._sum.step is Step.UNMASK:
            self._sum.drop(worker)
            self._advance()
        elif self._sum.step is None:
            return  # the sum is there, and its round about to end
        elif again:
            self._again()
        else:
            self._admit()

    def _takes_all_back(self, worker: int, *, there: bool) -> bool:
        """Whether with other keys of this worker everybody begins anew."""
        if self._sum.step in (Step.UNMASK, None):
            return False
        return (worker in self._keyed) if there else self._sum.step is Step.KEYS

    def answer(self, worker: int, round_: int, step: Step, attempt: int) -> Answer | None:
        """What a worker is told; None while it is to wait."""
        if round_ != self._round:
            return Answer(Outcome.OVER)
        if step is Step.KEYS:
            attempt = self._number
        elif attempt != self._number:
            return Answer(Outcome.AGAIN)
        data = self._answers.get((step, worker))
        return None if data is None or worker not in self._keyed else Answer(Outcome.GO, attempt, data)

    def drop(self, workers: Iterable[int], *, gone: bool) -> None:
        """Go on without these, who have not spoken in this step; those who are `gone` are not waited for in later rounds."""
        for worker in workers:
            if gone:
                self.gone.add(worker)
            self._sum.drop(worker)
        self._advance()

    # -- what a core asks ------------------------------------------------------------------------------------------------

    @property
    def step(self) -> Step | None:
        """The present step; None where the sum can be unmasked."""
        return self._sum.step

    @property
    def stage(self) -> tuple[int, Step | None, bool]:
        """What answers follow from: the attempt, its step, and whether the round has failed."""
        return self._number, self._sum.step, self._failure is not None

    def begins(self, worker: int, round_: int, now: float) -> None:
        del now
        self.last[worker] = round_

    def due(self, now: float) -> bool:
        del now
        return self._sum.step is None or self._failure is not None

    @property
    def short(self) -> bool:
        return self._sum.step is not None and self._failure is None

    def left_s(self, now: float) -> float | None:
        return 0.0 if self.due(now) else None

    def expects(self, worker: int) -> bool:
        """Whether frames of this worker are read: a stream that is not read can be written to."""
        return self._sum.step is Step.MASKED and worker in self._sum.expected

    def has(self, worker: int) -> bool:
        return self._sum.has(Step.MASKED, worker)

    def missing(self) -> list[int]:
        return self._sum.missing()

    # -- vectors ---------------------------------------------------------------------------------------------------------

    def take(self, worker: int, frame: Frame, frame_bytes: int, now: float) -> None:
        """Take the next frame of a masked vector; one of an attempt that is over is left aside.

        Raises:
            BrokenStream: the frame is out of sequence.
            RemoteProtocolError: the vector has another length than this round's.
        """
        del now
        if frame.attempt != self._number:
            return
        if worker not in self._vectors:
            if frame.total != self._ring.num_bytes:
                raise RemoteProtocolError(f"worker {worker}'s vector must have {self._ring.num_bytes} bytes, got {frame.total}")
            self._vectors[worker] = _Vector(frame.total)
        vector = self._vectors[worker]
        end = vector.at + len(frame.data)
        if frame.sequence != vector.sequence or end > len(vector.data):
            raise BrokenStream(f"worker {worker} sent frame {frame.sequence} where {vector.sequence} was due")
        vector.data[vector.at : end] = frame.data
        vector.at, vector.sequence, vector.frame_bytes = end, vector.sequence + 1, vector.frame_bytes + frame_bytes
        if end == len(vector.data):
            self._frame_bytes[worker] = vector.frame_bytes
            self._sum.take(Step.MASKED, worker, bytes(self._vectors.pop(worker).data))
            self._advance()

    def abandon(self, worker: int) -> int:
        self._vectors.pop(worker, None)
        return 0

    def clear(self) -> int:
        self._vectors.clear()
        return 0

    def first_share(self, worker: int, now: float) -> int:
        del worker, now
        return WHOLE

    def close(self, round_: int, now: float) -> Said:
        """The means of a round that is `due`, over those whose vectors have arrived.

        Raises:
            RemoteProtocolError: the masks do not cancel, or shares are wrong, and whose.
            PeerLost: too few members were left to unmask them.
        """
        del now
        if self._failure is not None:
            raise self._failure
        arrived, at = self._sum.arrived, 0
        levels_D, means = self._sum.levels(), []
        for size, scale in self._scales:  # exact until the division, as sums of values on one grid are in any order
            sum_D = levels_D[at : at + size].astype(np.float64) * scale
            means.append(Mean(size, np.divide(sum_D, len(arrived), out=sum_D)))
            at += size
        self.refused = list(self._sum.refused.values())
        for worker in arrived:
            self.last[worker] = round_ + 1
        frame_bytes = sum(self._frame_bytes[worker] for worker in arrived)
        counted = tuple(Counted(worker=worker) for worker in arrived)
        return Said(tuple(means), len(arrived) * self._ring.num_bytes, frame_bytes, counted)
