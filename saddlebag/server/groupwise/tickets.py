"""Predictions that wait for their labels: a batch keeps only what its awake experts said.

Shapes: N = rows of a batch, D = features, E = experts, K = awake experts of all rows together.
"""

from __future__ import annotations

import bisect
import dataclasses
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms.groupwise import Block, Prediction

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

    from saddlebag.algorithms.groupwise.base import Array

__all__ = ["APPLIED", "REPEATED", "UNKNOWN", "Tickets"]

APPLIED, REPEATED, UNKNOWN = 1, 2, 3
"""What came of a label; the numbers of the schema."""
_RANGES = 4096  # of forgotten tickets that are remembered as such; a label for an older one counts as repeated
_FIELDS = ("x_ND", "awake_NB", "start_N1", "p_K", "z_K", "value_N", "fell_back_N", "done_N")


@dataclasses.dataclass(frozen=True, eq=False)
class _Batch:
    """Rows `first` to `first + N - 1`; row n's awake experts have entries start_N1[n] to start_N1[n + 1] of the K arrays."""

    first: int
    x_ND: Array
    awake_NB: npt.NDArray[np.uint8]  # bit e of a row: expert e is awake
    start_N1: npt.NDArray[np.int64]
    p_K: Array
    z_K: Array
    value_N: Array
    fell_back_N: npt.NDArray[np.bool_]
    done_N: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, first: int, x_ND: Array, block: Block) -> _Batch:
        awake_NE = block.awake_NE > 0
        start_N1 = np.zeros(len(x_ND) + 1, np.int64)
        np.cumsum(np.count_nonzero(awake_NE, axis=1), out=start_N1[1:])
        bits_NB = np.packbits(awake_NE, axis=1, bitorder="little")
        done_N = np.zeros(len(x_ND), bool)
        return cls(
            first, x_ND, bits_NB, start_N1, block.p_NE[awake_NE], block.z_NE[awake_NE], block.value_N, block.fell_back_N, done_N
        )

    def prediction(self, row: int, num_experts: int) -> Prediction:
        """The prediction as it was made, among the experts of now: those that came later slept."""
        kept = slice(self.start_N1[row], self.start_N1[row + 1])
        awake_E = np.zeros(num_experts)
        bits_E = np.unpackbits(self.awake_NB[row], bitorder="little")[:num_experts]
        awake_E[: len(bits_E)] = bits_E
        p_E, z_E = np.zeros(num_experts), np.zeros(num_experts)
        expert_K = np.flatnonzero(bits_E)
        p_E[expert_K], z_E[expert_K] = self.p_K[kept], self.z_K[kept]
        return Prediction(self.value_N[row], p_E, z_E, awake_E, bool(self.fell_back_N[row]))


class Tickets:
    """The open tickets; at most `limit` of them, beyond which the oldest batches are forgotten."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.next = 0
        self.pending = 0
        self.forgotten = 0
        self._batches: dict[int, _Batch] = {}  # by first ticket, ascending
        self._firsts: list[int] = []
        self._lost: deque[tuple[int, int]] = deque(maxlen=_RANGES)  # tickets of forgotten batches: from, up to

    def open(self, x_ND: Array, block: Block) -> int:
        """Keep a batch; returns its first ticket."""
        first = self.next
        if len(x_ND):
            self._batches[first] = _Batch.of(first, x_ND, block)
            self._firsts.append(first)
            self.next += len(x_ND)
            self.pending += len(x_ND)
        while self.pending > self.limit and len(self._firsts) > 1:
            oldest = self._remove(0)
            lost = int(np.count_nonzero(~oldest.done_N))
            self.pending -= lost
            self.forgotten += lost
            self._lost.append((oldest.first, oldest.first + len(oldest.x_ND)))
        return first

    def close(self, ticket: int, num_experts: int) -> tuple[int, Array | None, Prediction | None]:
        """Take a ticket back: what came of it, and its row and prediction when it was open."""
        place = bisect.bisect_right(self._firsts, ticket) - 1
        batch = self._batches[self._firsts[place]] if place >= 0 else None
        if batch is None or ticket >= batch.first + len(batch.x_ND):
            gone = ticket >= self.next or any(start <= ticket < stop for start, stop in self._lost)
            return (UNKNOWN if gone else REPEATED), None, None
        row = ticket - batch.first
        if batch.done_N[row]:
            return REPEATED, None, None
        batch.done_N[row] = True
        self.pending -= 1
        prediction = batch.prediction(row, num_experts)
        if batch.done_N.all():
            self._remove(place)
        return APPLIED, batch.x_ND[row], prediction

    def _remove(self, place: int) -> _Batch:
        return self._batches.pop(self._firsts.pop(place))

    # -- saving ----------------------------------------------------------------------------------------------------------

    def capture(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """Arrays and facts for a checkpoint; the arrays are copies."""
        arrays = {
            f"ticket.{number}.{name}": np.array(getattr(batch, name))
            for number, batch in enumerate(self._batches.values())
            for name in _FIELDS
        }
        facts = {"next": self.next, "pending": self.pending, "forgotten": self.forgotten}
        return arrays, {**facts, "firsts": list(self._firsts), "lost": list(self._lost)}

    def restore(self, arrays: Mapping[str, npt.NDArray[Any]], facts: Mapping[str, Any]) -> None:
        """Take back what `capture` gave; KeyError, TypeError or ValueError when it is something else."""
        self.next, self.pending, self.forgotten = (int(facts[key]) for key in ("next", "pending", "forgotten"))
        self._batches = {batch.first: batch for batch in self._read(arrays, facts)}
        self._firsts = list(self._batches)
        self._lost = deque(((int(start), int(stop)) for start, stop in facts["lost"]), maxlen=_RANGES)
        if sum(int(np.count_nonzero(~batch.done_N)) for batch in self._batches.values()) != self.pending:
            raise ValueError("the open tickets do not add up")

    def _read(self, arrays: Mapping[str, npt.NDArray[Any]], facts: Mapping[str, Any]) -> Iterator[_Batch]:
        for number, first in enumerate(facts["firsts"]):
            yield _Batch(int(first), **{name: np.array(arrays[f"ticket.{number}.{name}"]) for name in _FIELDS})
