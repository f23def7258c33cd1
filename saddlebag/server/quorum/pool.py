"""The uplinks of a run whose rounds close without waiting for everybody: each is held, whole, until a round counts it.

It stands where `Gather` stands in a run that waits for all; see `saddlebag.algorithms.merging`.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from saddlebag.algorithms.merging import WHOLE, Counted, merged
from saddlebag.compression import Draws
from saddlebag.errors import BrokenStream, RemoteProtocolError
from saddlebag.proto.streaming import StreamDecoder
from saddlebag.server.gather import Said

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from saddlebag.algorithms.merging import Mergeable, Piece, Weights
    from saddlebag.proto.frames import Frame

__all__ = ["MOST_SAMPLES", "Pace", "Pool"]

MOST_SAMPLES = 1 << 40
"""Behind an uplink: so that no sum of weights leaves the whole numbers that float64 holds."""
_SHORTEST = 0.25  # of a round: who has less left until its end makes its first uplink for the next one


class _Uplink:
    """One uplink, as far as it has come."""

    def __init__(self, frame: Frame, sizes: tuple[int, ...], draws: Draws) -> None:
        self.made, self.samples, self.steps = frame.round, frame.samples or 1, frame.steps or 1
        self.decoder = StreamDecoder(sizes, draws, frame.total)
        self.pieces: list[Piece] = []
        self.sequence = self.data_bytes = self.frame_bytes = 0
        self.came = 0.0
        self.whole = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pace:
    """When a round closes, and what its uplinks weigh.

    Attributes:
        quorum: workers that it needs.
        grace_s: how long it then waits for the others.
        weights: see `Weights`.
        balance: whether slower workers are given fewer steps.
    """

    quorum: int
    grace_s: float
    weights: Weights
    balance: bool


class Pool:
    """See the module.

    Args:
        method: of the run.
        sizes: of the parts of an uplink, the same in every round.
        draws: of the server, in any round.
        pace: of the run.
        num_workers: in the run.
        gone: whether a worker has died, as far as is known: no round gives it time.

    Attributes:
        last: by worker, the round after the one in which its last counted uplink was made: older ones come too late.
    """

    def __init__(
        self,
        method: Mergeable,
        sizes: tuple[int, ...],
        draws: Draws,
        pace: Pace,
        num_workers: int,
        gone: Callable[[int], bool] = lambda worker: False,
    ) -> None:
        self._method, self._sizes, self._seed, self._pace = method, sizes, draws.seed, pace
        self._uplinks: dict[int, _Uplink] = {}
        self._members: tuple[int, ...] = ()
        self._enough_at: float | None = None  # when the quorum was there
        self._began = dict.fromkeys(range(num_workers), -math.inf)  # when a worker could begin its present steps
        self._rates: dict[int, float] = {}  # steps a second
        self._closed, self._most, self._gone = -math.inf, 0, gone  # when the last round closed, and the most steps in it
        self.last = [0] * num_workers

    # -- who takes part --------------------------------------------------------------------------------------------------

    def open(self, members: Sequence[int], now: float) -> None:
        """A round begins with these members, or they have changed; uplinks that are there already are for it."""
        self._members, self._enough_at = tuple(members), None
        self._see(now)

    def begins(self, worker: int, round_: int, now: float) -> None:
        """A worker begins anew at this boundary: what it had said and nobody has counted is given up."""
        self._uplinks.pop(worker, None)
        self.last[worker] = round_
        self._began[worker] = now
        self._see(now)

    @property
    def _need(self) -> int:
        return min(self._pace.quorum, len(self._members))

    def _see(self, now: float) -> None:
        if len(self._ready()) < self._need:
            self._enough_at = None
        elif self._enough_at is None:
            self._enough_at = now

    def _ready(self) -> list[int]:
        return [worker for worker in self._members if self.has(worker)]

    def due(self, now: float) -> bool:
        """Whether the round may close: all are there, or enough of them for long enough."""
        if not self._members or self._enough_at is None:
            return False
        return now - self._enough_at >= self._pace.grace_s or all(map(self._gone, self.missing()))

    @property
    def short(self) -> bool:
        """Whether the quorum is not there yet."""
        return self._enough_at is None

    def left_s(self, now: float) -> float | None:
        """Seconds until the grace is over; None before the quorum is there."""
        return None if self._enough_at is None else max(0.0, self._enough_at + self._pace.grace_s - now)

    def expects(self, worker: int) -> bool:
        """Whether this worker takes part."""
        return worker in self._members

    def has(self, worker: int) -> bool:
        """Whether this worker's uplink has arrived."""
        uplink = self._uplinks.get(worker)
        return uplink is not None and uplink.whole

    def backlog(self, worker: int) -> int:
        """Bytes of a worker that wait for an earlier one: none, whole uplinks wait for the round."""
        del worker
        return 0

    def missing(self) -> list[int]:
        """The members whose uplinks have not arrived."""
        return [worker for worker in self._members if not self.has(worker)]

    # -- what they say ---------------------------------------------------------------------------------------------------

    def take(self, worker: int, frame: Frame, frame_bytes: int, now: float) -> None:
        """Take the next frame of a worker.

        Raises:
            BrokenStream: the frame is out of sequence.
            RemoteProtocolError: its bytes are no part of a valid uplink.
        """
        uplink = self._uplinks.get(worker)
        if uplink is not None and uplink.made != frame.round:
            uplink = None
        if uplink is None:
            if frame.sequence:
                raise BrokenStream(f"worker {worker} sent frame {frame.sequence} where 0 was due")
            if frame.samples > MOST_SAMPLES or frame.steps > MOST_SAMPLES:
                raise RemoteProtocolError(f"worker {worker} speaks of {frame.samples} samples in {frame.steps} steps")
            uplink = self._uplinks[worker] = _Uplink(frame, self._sizes, Draws(self._seed, frame.round, worker))
        elif frame.sequence != uplink.sequence:
            raise BrokenStream(f"worker {worker} sent frame {frame.sequence} where {uplink.sequence} was due")
        uplink.sequence += 1
        uplink.frame_bytes += frame_bytes
        uplink.data_bytes += len(frame.data)
        uplink.pieces += uplink.decoder.feed(frame.data)
        if uplink.decoder.complete:
            uplink.whole, uplink.came = True, now
            self._see(now)

    def abandon(self, worker: int) -> int:
        """Forget an uplink that has not arrived; its bytes are counted as repeated until a round counts them."""
        if not self.has(worker):
            self._uplinks.pop(worker, None)
        return 0

    def clear(self) -> int:
        """Forget all of them."""
        self._uplinks.clear()
        return 0

    def close(self, round_: int, now: float) -> Said:
        """End a round that is `due`."""
        taken = {worker: self._uplinks.pop(worker) for worker in self._ready()}
        entries = tuple(self._entry(worker, uplink, round_) for worker, uplink in taken.items())
        if self._pace.balance:
            entries = self._with_shares(entries, taken)
        means = merged(
            self._method,
            self._sizes,
            ((entry, uplink.pieces) for entry, uplink in zip(entries, taken.values(), strict=True)),
            self._pace.weights,
        )
        for worker, uplink in taken.items():
            self.last[worker], self._began[worker] = uplink.made + 1, now
        self._closed, self._most = now, max(uplink.steps for uplink in taken.values())
        sums: Iterable[tuple[int, int]] = [(uplink.data_bytes, uplink.frame_bytes) for uplink in taken.values()]
        data_bytes, frame_bytes = map(sum, zip(*sums, strict=True))
        return Said(means, data_bytes, frame_bytes, entries)

    @staticmethod
    def _entry(worker: int, uplink: _Uplink, round_: int) -> Counted:
        return Counted(worker=worker, age=round_ - uplink.made, samples=uplink.samples)

    def _with_shares(self, entries: Sequence[Counted], taken: dict[int, _Uplink]) -> tuple[Counted, ...]:
        """Each with its share of the fastest member's steps: then all end together (Liu et al. 2024, dynamic local updates)."""
        for worker, uplink in taken.items():
            if (seconds := uplink.came - self._began[worker]) > 0 and seconds < math.inf:
                self._rates[worker] = uplink.steps / seconds
        return tuple(dataclasses.replace(entry, share=_part(self._speed(entry.worker))) for entry in entries)

    @property
    def _fastest(self) -> float:
        """Steps a second of the fastest member; 0 where nothing is known."""
        return max((rate for worker, rate in self._rates.items() if worker in self._members), default=0.0)

    def _speed(self, worker: int) -> float:
        """Of a worker beside the fastest member; 1 where nothing is known."""
        fastest = self._fastest
        return self._rates.get(worker, fastest) / fastest if fastest else 1.0

    def first_share(self, worker: int, now: float) -> int:
        """The share of the steps with which a worker that begins now ends when the others do.

        Where little is left until then it makes all of its steps, for the next round; so where nothing is known.
        """
        fastest = self._fastest
        if not self._pace.balance or not fastest:
            return WHOLE
        left = 1.0 - (now - self._closed) * fastest / self._most
        return _part(self._speed(worker) * (left if left >= _SHORTEST else 1.0))


def _part(share: float) -> int:
    """A share in 1/65536, at least one of them."""
    return max(1, min(WHOLE, round(WHOLE * share)))
