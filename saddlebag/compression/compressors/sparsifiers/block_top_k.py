"""Top-k of each block of consecutive coordinates: no part of the vector starves."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.compression.compressors.quantisers.dithering import check_block, whole_blocks
from saddlebag.compression.payload import Dense, Index, Sparse, Vector, require_finite
from saddlebag.compression.values import cast, check_kept, kept, sparse_bits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from saddlebag.compression.draws import Draws

__all__ = ["BlockTopK"]

_PIECE = 1 << 18  # coordinates of one step, which bounds its temporaries


def _top_k_of_rows(x_RC: Vector, k: int) -> Index:
    """The k largest magnitudes of each row as sorted coordinates of the flat matrix; of ties the lowest, int64 (R k,)."""
    magnitude_RC = np.abs(x_RC)
    least = x_RC.shape[1] - k
    threshold_R1 = np.partition(magnitude_RC, least, axis=1)[:, least : least + 1]
    above_RC, tie_RC = magnitude_RC > threshold_R1, magnitude_RC == threshold_R1
    open_R1 = k - above_RC.sum(axis=1, keepdims=True)
    tie_RC &= np.cumsum(tie_RC, axis=1) <= open_R1
    above_RC |= tie_RC
    return np.flatnonzero(above_RC)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockTopK:
    """C(x) = the k largest magnitudes of each block; alpha = the smallest k / (length of the block), attained.

    Source: Stich, Cordonnier, Jaggi 2018, Lemma A.1, block by block; the errors of blocks add up.

    Attributes:
        block: coordinates of a block; the last one may be shorter.
        k, fraction: how many of a block's coordinates are kept; exactly one is given. A shorter last block keeps all, if k is
            more than it has.

    Example:
        >>> from saddlebag.compression import BlockTopK, Draws
        >>> compressor = BlockTopK(k=1, block=2)
        >>> compressor.encode(np.array([3.0, -1.0, 0.5, 0.0]), Draws(0, 0)).dense().tolist()
        [3.0, 0.0, 0.5, 0.0]
    """

    block: int
    k: int | None = None
    fraction: float | None = None

    reference = "Stich et al. 2018"

    def __post_init__(self) -> None:
        check_block(self.block, "block_top_k")
        check_kept(self.k, self.fraction, "block_top_k")

    def encode(self, x_D: Vector, draws: Draws) -> Sparse:
        del draws
        require_finite(x_D, "a compressor's input")
        found, start = [np.empty(0, np.int64)], 0
        for rows, length in self._shapes(len(x_D)):
            step, k = max(1, _PIECE // length), self._kept(length)
            for first in range(0, rows, step):
                piece = x_D[start : start + min(step, rows - first) * length]
                found.append(_top_k_of_rows(piece.reshape(-1, length), k) + start)
                start += len(piece)
        index_K = np.concatenate(found)
        return Sparse(len(x_D), index_K, Dense(cast(x_D[index_K])))

    def _shapes(self, d: int) -> Iterator[tuple[int, int]]:
        """(how many blocks, their length): the whole ones, then the shorter one."""
        whole, rest = divmod(d, self.block)
        if whole:
            yield whole, self.block
        if rest:
            yield 1, rest

    def _kept(self, length: int) -> int:
        return kept(None if self.k is None else min(self.k, length), self.fraction, length, "block_top_k")

    def bits(self, d: int) -> float:
        """As of K coordinates anywhere, which is how they are coded."""
        return sparse_bits(d, self.num_kept(d)[1])

    def num_kept(self, d: int) -> tuple[float, int]:
        """How many coordinates travel: (in the mean, at most)."""
        k = sum(rows * self._kept(length) for rows, length in self._shapes(d))
        return float(k), k

    def alpha(self, d: int) -> float:
        return min((self._kept(length) / length for _, length in self._shapes(d)), default=1.0)

    def part(self, here: slice, d: int) -> BlockTopK | None:
        """Itself, where the run ends where blocks do."""
        return self if whole_blocks(here, d, self.block) else None
