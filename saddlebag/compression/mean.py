"""The mean of the workers' payloads: formed in worker order, kept on a common support when there is one."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.compression.kernels.loader import kernels_for
from saddlebag.compression.kernels.plain import Piece
from saddlebag.compression.payload import Concat, Dense, Flat, Index, Payload, Scope, Seeded, Sparse, Support, Vector
from saddlebag.compression.slices import runs_of
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    import numpy.typing as npt

    from saddlebag.compression.base import Compressor
    from saddlebag.compression.draws import Draws

__all__ = ["Mean", "Sum"]

_RUN = 1 << 17  # coordinates of a mean that is formed and added at once
_CACHED = 1 << 16  # coordinates of a sum that fits the cache: there is nothing to gain by waiting


@dataclasses.dataclass(frozen=True, eq=False)
class _Few:
    """A mean of few entries that was never formed: run by run it takes no vector of memory."""

    pieces: tuple[Piece, ...]
    count: int

    def form(self, out_D: Vector) -> None:
        """Write it, whatever `out_D` holds."""
        kernels_for(len(out_D)).add_sparse(out_D, self.pieces, fresh=True, divisor=self.count)

    def add_to(self, out_D: Vector, dtype: np.dtype[Any]) -> None:
        """Add it, formed in this type."""
        d, kernels = len(out_D), kernels_for(len(out_D))
        edges = np.array([here.start for here in runs_of(d, _RUN)] + [d])
        cuts = [np.searchsorted(piece.index_K, edges - piece.start).tolist() for piece in self.pieces]
        mean_B = np.empty(min(d, _RUN), dtype)
        for run, here in enumerate(runs_of(d, _RUN)):
            mine = []
            for piece, cut in zip(self.pieces, cuts, strict=True):
                part = slice(cut[run], cut[run + 1])
                mine.append(Piece(0, piece.index_K[part] + (piece.start - here.start), piece.value_K[part]))
            out_B = out_D[here]
            kernels.add_sparse(mean_B[: len(out_B)], mine, fresh=True, divisor=self.count)
            np.add(out_B, mean_B[: len(out_B)], out=out_B, casting="same_kind")


@dataclasses.dataclass(frozen=True, eq=False)
class Mean:
    """A mean over the participants; when `support` is set, `value` holds only those coordinates.

    Where `few` is set, `value` is memory for it, of any content.

    Example:
        >>> Mean(3, np.array([2.0]), index_K=np.array([1])).dense().tolist()  # only what everybody sent
        [0.0, 2.0, 0.0]
    """

    dimension: int
    value: Vector
    support: Support | None = None
    index_K: Index | None = None
    few: _Few | None = None

    def dense(self) -> Vector:
        """The mean in the type of the sum, shape (D,)."""
        if self.few is not None:
            self.few.form(self.value)
            return self.value
        if self.index_K is None:
            return self.value
        out_D = np.zeros(self.dimension, self.value.dtype)
        out_D[self.index_K] = self.value
        return out_D

    def add_to(self, out_D: Vector) -> None:
        """Add the mean to `out_D` in place."""
        if self.few is not None:
            self.few.add_to(out_D, self.value.dtype)
        elif self.index_K is None:
            np.add(out_D, self.value, out=out_D, casting="same_kind")
        else:
            out_D[self.index_K] += self.value

    def compress(self, compressor: Compressor, draws: Draws) -> Payload:
        """Compress the mean; on a common support only its K values, whose coordinates everybody knows.

        A compressor that chooses coordinates itself (Top-k, Rand-k) chooses among all D.

        Raises:
            NotFiniteError: the mean is not finite, or overflows the type it travels in.
            ConfigError: the compressor's parameters do not fit D.
        """
        if self.support is not None and self.index_K is not None:
            with contextlib.suppress(ConfigError):  # a k that fits the whole vector may not fit the support
                inner = compressor.encode(self.value, draws)
                if isinstance(inner, Flat):
                    return Seeded(self.support, self.index_K, inner)
        return compressor.encode(self.dense(), draws)


class Sum:
    """Adds payloads, whole or slice by slice, in the order in which it is given them.

    Sparse payloads of a vector too long for the cache wait, so that all of them pass over each block of the sum while it is
    there; a quarter as many entries as coordinates at most, beside the last one given. The bits are those of adding at once.

    The sum is of `dtype`: float64, or float32 where the states are. There it is not formed at all where all that came waits.

    Example:
        >>> from saddlebag.compression import Dense, Sparse
        >>> total = Sum(3)
        >>> total.add(Dense(np.array([1.0, 2.0, 3.0])))
        >>> total.add(Sparse(3, np.array([2]), Dense(np.array([5.0]))))
        >>> total.mean(2).dense().tolist()
        [0.5, 1.0, 4.0]
    """

    def __init__(self, dimension: int, buffer_D: Vector | None = None, dtype: npt.DTypeLike = np.float64) -> None:
        self.dimension, self._dtype = dimension, np.dtype(dtype)
        self._buffer_D = buffer_D  # memory for a dense sum, of this type, of any content
        self._support: Support | None = None
        self._index_K: Index | None = None
        self._value: Vector | None = None
        self._filled = dimension  # coordinates of a dense sum from here on hold anything, in place of zero
        self._waiting: list[Piece] = []
        self._entries = 0  # of those that wait

    def add(self, payload: Payload, start: int = 0) -> None:
        """Add a payload that covers the coordinates from `start`; part of a dense vector may come alone."""
        match payload:
            case Concat(parts):
                for part in parts:
                    self.add(part, start)
                    start += part.dimension
            case Seeded() if payload.support.scope is Scope.COMMON and self._add_common(payload):
                pass
            case Sparse() | Seeded() if self.dimension > _CACHED:
                short = np.int32 if self.dimension <= 2**30 else np.int64  # half the memory while it waits
                self._waiting.append(Piece(start, payload.index_K.astype(short), payload.value.value_D))
                self._entries += len(payload.index_K)
                if 4 * self._entries > self.dimension:
                    self._settle()
            case Dense() if not self._waiting and self._index_K is None:
                self._add_dense(payload, start)
            case _:
                self._settle()
                payload.add_to(self._dense()[start : start + payload.dimension])

    def mean(self, count: int) -> Mean:
        """The sum divided by `count`; the sum is spent."""
        if self._waiting and self._value is None and self._dtype == np.float32:
            room_D = np.empty(self.dimension, self._dtype) if self._buffer_D is None else self._buffer_D
            return Mean(self.dimension, room_D, few=_Few(tuple(self._waiting), count))
        if self._waiting:
            self._settle(count)
        elif self._value is None:
            self._value = np.zeros(self.dimension, self._dtype)
        else:
            self._fill()
            np.divide(self._value, count, out=self._value)
        assert self._value is not None
        return Mean(self.dimension, self._value, self._support, self._index_K)

    def _add_common(self, payload: Seeded) -> bool:
        """Add on the support that all payloads so far share; whether they do."""
        if self._waiting:
            return False
        if self._value is None and payload.dimension == self.dimension:
            self._support, self._index_K = payload.support, payload.index_K
            self._value = np.zeros(payload.support.size, self._dtype)
        if self._value is None or self._support != payload.support:
            return False
        payload.value.add_to(self._value)
        return True

    def _add_dense(self, payload: Dense, start: int) -> None:
        """Add where there is a sum; what comes next to it, as the first uplink does, is written there without reading zeros."""
        end = start + payload.dimension
        if self._value is None:
            self._value = np.empty(self.dimension, self._dtype) if self._buffer_D is None else self._buffer_D
            self._filled = 0
        if start == self._filled < end:
            np.add(payload.value_D, 0.0, out=self._value[start:end])  # not a copy: 0 + -0 is 0
            self._filled = end
            return
        if end > self._filled:
            self._fill()
        payload.add_to(self._value[start:end])

    def _fill(self) -> None:
        """Zeros in the coordinates that no payload has reached."""
        if self._value is not None:
            self._value[self._filled :] = 0.0
        self._filled = self.dimension

    def _settle(self, divisor: int = 1) -> None:
        """Add what waits, and divide the sum."""
        if not self._waiting:
            return
        fresh = self._value is None
        if fresh:
            self._value = np.empty(self.dimension, self._dtype) if self._buffer_D is None else self._buffer_D
        kernels_for(self.dimension).add_sparse(self._dense(), self._waiting, fresh=fresh, divisor=divisor)
        self._waiting, self._entries = [], 0

    def _zeros(self) -> Vector:
        if self._buffer_D is None:
            return np.zeros(self.dimension, self._dtype)
        self._buffer_D.fill(0.0)
        return self._buffer_D

    def _dense(self) -> Vector:
        self._fill()
        if self._value is None:
            self._value = self._zeros()
        elif self._index_K is not None:
            out_D = self._zeros()
            out_D[self._index_K] = self._value
            self._value, self._support, self._index_K = out_D, None, None
        return self._value
