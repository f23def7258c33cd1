"""The uplinks of a round, one below the other, for what needs to see each of them: takes the place of `Sum`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from saddlebag.algorithms.averages.contribution import alignments
from saddlebag.compression import Mean, Sum
from saddlebag.compression.payload import Concat

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from saddlebag.algorithms.averages.robust import RobustMean
    from saddlebag.compression import Payload, Vector

BLOCK = 1 << 16
"""Coordinates of a block, which a rule by coordinate forms as soon as all workers have come past it."""


class Stack:
    """Takes payloads, whole or slice by slice, as `Sum` does: a coordinate of a worker after that of the worker before.

    Without a rule it makes the plain mean, to the bits of `Sum`, and only looks at the uplinks.

    Memory: of rules by coordinate and of none, the blocks that some but not all workers have reached; else M D numbers.

    Attributes:
        alignment_M: x_m . d of the workers' uplinks and what they make together, as far as blocks are complete.
    """

    def __init__(
        self,
        dimension: int,
        num_workers: int,
        rule: RobustMean | None,
        plain: Sum | None = None,
        dtype: npt.DTypeLike = np.float64,
    ) -> None:
        assert (rule is None) != (plain is None), "either a rule or the plain mean"
        self.dimension, self._rule, self._plain = dimension, rule, plain
        self.alignment_M = np.zeros(num_workers)
        self._reached = [0] * num_workers  # coordinates that have come, by place; they do not ascend
        self._block = min(BLOCK, dimension) if rule is None or rule.by_coordinate else dimension
        self._open: dict[int, npt.NDArray[np.float64]] = {}  # first coordinate -> (M, B)
        self._value_D: Vector = np.zeros(dimension, dtype)

    def add(self, payload: Payload, start: int = 0) -> None:
        """Add a payload that covers the coordinates from `start`: of the first worker who has not come past them."""
        if self._plain is not None:
            self._plain.add(payload, start)
        self._put(payload, start)

    def _put(self, payload: Payload, start: int) -> None:
        if isinstance(payload, Concat):
            for part in payload.parts:
                self._put(part, start)
                start += part.dimension
            return
        if not payload.dimension:
            return
        place = next(place for place, reached in enumerate(self._reached) if reached <= start)
        assert self._reached[place] == start, "a slice is missing"
        value_D, end = payload.dense(), start + payload.dimension
        self._reached[place] = end
        last = place == len(self._reached) - 1
        for first in range(start - start % self._block, end, self._block):
            size = min(self._block, self.dimension - first)
            if first not in self._open:
                self._open[first] = np.zeros((len(self._reached), size))
            low, high = max(start, first), min(end, first + size)
            self._open[first][place, low - first : high - first] = value_D[low - start : high - start]
            if last and high == first + size:
                self._close(first, high)

    def _close(self, first: int, end: int) -> None:
        """All workers have come past a block."""
        value_MB = self._open.pop(first)
        value_B = value_MB.mean(axis=0) if self._rule is None else self._rule.combine(value_MB)
        if self._rule is not None:
            self._value_D[first:end] = value_B
        self.alignment_M += alignments(value_MB, value_B)

    def mean(self, count: int) -> Mean:
        """What the rule makes of the `count` workers' payloads; the rows are spent."""
        assert count == len(self._reached)
        assert not self._open, "a worker is missing"
        return Mean(self.dimension, self._value_D) if self._plain is None else self._plain.mean(count)


def collector(
    size: int,
    num_workers: int,
    rule: RobustMean | None,
    *,
    scored: bool,
    buffer: Vector | None = None,
    dtype: npt.DTypeLike = np.float64,
) -> Sum | Stack:
    """What collects a part of a round's uplinks: a sum, where nobody needs to see them singly.

    Args:
        size: D of the part.
        num_workers: M of the round.
        rule: in place of the mean.
        scored: whether `alignment_M` is asked for.
        buffer: memory for a dense sum.
        dtype: of the mean; see `sum_dtype`.
    """
    if rule is not None:
        return Stack(size, num_workers, rule, dtype=dtype)
    plain = Sum(size, buffer, dtype)
    return Stack(size, num_workers, None, plain) if scored else plain


def alignments_of(parts: Iterable[Sum | Stack]) -> Vector:
    """`alignment_M`, summed over the parts of a round whose collectors have it."""
    return np.asarray(np.sum([part.alignment_M for part in parts if isinstance(part, Stack)], axis=0))
