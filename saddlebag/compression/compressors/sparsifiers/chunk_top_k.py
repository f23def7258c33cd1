"""Top-k of every chunk with two bits a value: four levels a codebook, each the mean of the kept values in its bin."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.compression.compressors.quantisers.dithering import whole_blocks
from saddlebag.compression.compressors.sparsifiers.block_top_k import BlockTopK
from saddlebag.compression.payload import Codebook, Dense, Sparse
from saddlebag.compression.values import cast, sparse_bits
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.compression.draws import Draws
    from saddlebag.compression.payload import Vector

__all__ = ["ChunkTopK"]

_LEVELS = 4
_EDGE = 1.5  # root mean squares: the inner edges of four equal bins of -3 to 3


def four_levels(value_K: Vector, block: int) -> Codebook:
    """Each value by the mean of its bin; the bins of a block are cut at 0 and at 1.5 times its root mean square, both signs.

    Beyond 3 times the root mean square a value belongs to the outer bin.

    Args:
        value_K: at least one value, finite in float32.
        block: consecutive values that share four levels.
    """
    count = len(value_K)
    start_B = np.arange(0, count, block)
    size_B = np.diff(np.append(start_B, count))
    magnitude_K = np.abs(value_K, dtype=np.float64)
    peak_B = np.maximum.reduceat(magnitude_K, start_B)
    unit_B = np.where(peak_B > 0, peak_B, 1.0)  # squares of tiny or huge values stay in range
    edge_B = _EDGE * np.sqrt(np.add.reduceat((magnitude_K / np.repeat(unit_B, size_B)) ** 2, start_B) / size_B) * unit_B
    outer_K = magnitude_K >= np.repeat(edge_B, size_B)
    code_K = np.where(value_K < 0, 1 - outer_K.astype(np.int8), 2 + outer_K.astype(np.int8)).astype(np.int8)
    place_K = np.repeat(np.arange(len(start_B)) * _LEVELS, size_B) + code_K
    total = np.bincount(place_K, value_K, _LEVELS * len(start_B))
    members = np.bincount(place_K, minlength=_LEVELS * len(start_B))
    mean_BC = cast(total / np.maximum(members, 1)).reshape(-1, _LEVELS)
    return Codebook(code_K, mean_BC, min(block, count))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChunkTopK:
    """C(x) = the k largest magnitudes of each chunk, each rounded to one of the four levels of its group of chunks.

    With n kept values in a group, which are the share a of its entries, alpha = a max(1/n, min(1/9, 1.06/sqrt(n))). Proof: a
    bin holds values of one sign and its mean keeps (sum |y|)^2 / members of their energy. With Y = |y|^2 and bins cut at
    1.5 sqrt(Y/n), Cauchy-Schwarz over the inner bins gives Y/9 where they hold half of Y, over the outer ones 1.06 Y/sqrt(n)
    where those do, and over all of them Y/n. That is the worst case: of normal vectors 0.99 of |y|^2 is kept.

    Source: Sarfi, Thérien, Lidin, Belilovsky 2025, "Communication efficient LLM pre-training with SparseLoCo", for chunks and
    two bits. Differs: the bins are centred at 0, and levels belong to a group of chunks, not to a tensor. With the defaults a
    vector of a million coordinates takes about 0.15 bit each: 7.4 for a place, 2 for a value, 1/64 of them.

    Attributes:
        chunk: coordinates of a chunk; the last one may be shorter, and keeps the same share, but at least one.
        k: kept of a whole chunk.
        group: chunks that share their levels.

    Example:
        >>> from saddlebag.compression import Draws
        >>> x_D = np.array([0.0, 4.0, -2.0, 1.0, 8.0, 0.0, 0.0, -2.0])
        >>> ChunkTopK(chunk=4, k=2).encode(x_D, Draws(0, 0)).dense().tolist()
        [0.0, 4.0, -2.0, 0.0, 8.0, 0.0, 0.0, -2.0]
    """

    chunk: int = 4096
    k: int = 64
    group: int = 16

    reference = "Sarfi et al. 2025"

    def __post_init__(self) -> None:
        for name in ("chunk", "k", "group"):
            if type(getattr(self, name)) is not int or getattr(self, name) < 1:
                raise ConfigError(f"chunk_top_k.{name} must be a whole number of at least 1, got {getattr(self, name)!r}")
        if self.k > self.chunk:
            raise ConfigError(f"chunk_top_k.k must be at most chunk = {self.chunk}, got {self.k}")

    @functools.cached_property
    def _selected(self) -> BlockTopK:
        return BlockTopK(block=self.chunk, fraction=self.k / self.chunk)

    def encode(self, x_D: Vector, draws: Draws) -> Sparse:
        index_K = self._selected.encode(x_D, draws).index_K
        if not len(index_K):
            return Sparse(len(x_D), index_K, Dense(np.empty(0, np.float32)))
        value_K = cast(x_D[index_K], np.float64)
        cast(value_K)  # refuses what overflows
        return Sparse(len(x_D), index_K, four_levels(value_K, self.group * self.k))

    def bits(self, d: int) -> float:
        """Of places as coordinates anywhere, two bits a value, and four float32 a group."""
        kept = self.num_kept(d)[1]
        return sparse_bits(d, kept, 2.0) + 32.0 * _LEVELS * -(-kept // (self.group * self.k))

    def num_kept(self, d: int) -> tuple[float, int]:
        """How many coordinates travel: (in the mean, at most)."""
        return self._selected.num_kept(d)

    def alpha(self, d: int) -> float:
        most = max(1, min(self.num_kept(d)[1], self.group * self.k))
        return self._selected.alpha(d) * max(1.0 / most, min(1.0 / 9.0, 1.06 / math.sqrt(most)))

    def part(self, here: slice, d: int) -> ChunkTopK | None:
        """Itself, where the run ends where groups of chunks do."""
        return self if whole_blocks(here, d, self.chunk * self.group) else None
