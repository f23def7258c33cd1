"""A payload run by run: what a receiver applies block by block, so that the vector itself never takes memory.

Shapes: D = coordinates of the payload, B = those of a run.
"""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.compression.flat import Codebook, Levels
from saddlebag.compression.payload import Concat, Dense, Half, Payload, PowersOfTwo, Seeded, Sparse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from saddlebag.compression.payload import Vector

__all__ = ["Slices", "runs_of"]

_RUN = 1 << 14  # coordinates: a float32 run and its float64 values stay in the cache


def runs_of(d: int, size: int = _RUN) -> Iterator[slice]:
    """Consecutive runs of at most `size` coordinates.

    Example:
        >>> [(here.start, here.stop) for here in runs_of(10, 4)]
        [(0, 4), (4, 8), (8, 10)]
    """
    return (slice(start, min(start + size, d)) for start in range(0, d, size))


class Slices:
    """The values of a payload, given out run by run.

    Payloads that have no runs (`LowRank`, `Total`) are held as a float32 vector; no other takes memory of its own.

    Example:
        >>> from saddlebag.compression import Dense, Sparse
        >>> out_B = np.zeros(2, np.float32)
        >>> Slices(Sparse(4, np.array([1, 3]), Dense(np.array([5.0, 7.0], np.float32)))).add(2, out_B)
        >>> out_B.tolist()
        [0.0, 7.0]
    """

    def __init__(self, payload: Payload) -> None:
        self._parts = list(_leaves(payload))
        self._starts = [0]
        for part in self._parts:
            self._starts.append(self._starts[-1] + part.dimension)

    def add(self, start: int, out_B: Vector) -> None:
        """Add the coordinates from `start` to `out_B`, in its type."""
        stop = start + len(out_B)
        for number in range(max(bisect.bisect_right(self._starts, start) - 1, 0), len(self._parts)):
            begin = self._starts[number]
            if begin >= stop:
                return
            low, high = max(start, begin), min(stop, self._starts[number + 1])
            if low < high:
                _add(self._parts[number], low - begin, out_B[low - start : high - start])

    def read(self, here: slice, room_B: Vector) -> Vector:
        """The coordinates of a run, in `room_B` or where the payload holds them in its type: not to be changed."""
        if len(self._parts) == 1 and isinstance(part := self._parts[0], Dense) and part.value_D.dtype == room_B.dtype:
            return part.value_D[here]
        out_B = room_B[: here.stop - here.start]
        out_B.fill(0.0)
        self.add(here.start, out_B)
        return out_B


def _leaves(payload: Payload) -> Iterator[Payload]:
    match payload:
        case Concat(parts):
            for part in parts:
                yield from _leaves(part)
        case Dense() | Half() | PowersOfTwo() | Levels() | Codebook() | Sparse() | Seeded():
            yield payload
        case _:
            yield Dense(payload.dense().astype(np.float32))


def _add(part: Payload, start: int, out_B: Vector) -> None:
    stop = start + len(out_B)
    match part:
        case Sparse() | Seeded():
            low, high = np.searchsorted(part.index_K, (start, stop))
            out_B[part.index_K[low:high] - start] += part.value.value_D[low:high].astype(out_B.dtype, copy=False)
        case Levels() | Codebook():
            np.add(out_B, part.values(start, stop), out=out_B, casting="same_kind")
        case Dense() | Half() | PowersOfTwo():
            np.add(out_B, part.value_D[start:stop], out=out_B, casting="same_kind")
