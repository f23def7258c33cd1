"""The inner loops in numpy: blocks that stay in the cache between operations, for fresh memory costs more than arithmetic.

Shapes: D = coordinates, N = candidates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from saddlebag.compression.kernels.magnitude import Bits, Index, magnitudes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from saddlebag.compression.stream import Stream

_BLOCK_BYTES = 1 << 18  # of magnitudes: with the block that they come from, half of a usual second-level cache
_ADDED = 1 << 16  # coordinates of a float64 sum that stay in the cache while all messages pass

_STRATA = 1 << 14  # drawn at a time; a multiple of the eight that come from one block of the generator


class Piece(NamedTuple):
    """A sparse vector to be added: values at coordinates `start + index_K`, which ascend strictly.

    The type of the coordinates holds the length of the sum and a block more.
    """

    start: int
    index_K: npt.NDArray[np.signedinteger[Any]]
    value_K: npt.NDArray[np.floating[Any]]


def collect(bits_D: Bits, low: int, index_N: Index, magnitude_N: Bits) -> int:
    """Find the coordinates whose magnitude is `low` or more, in order, and their magnitudes.

    Args:
        bits_D: floats as signed integers, contiguous.
        low: the least magnitude, as such an integer.
        index_N: takes the coordinates.
        magnitude_N: takes the magnitudes, of the type of `bits_D`.

    Returns:
        How many there are, or -1 as soon as there are more than the arrays hold.
    """
    size = _BLOCK_BYTES // bits_D.itemsize
    padding = size // 8
    hit_B = np.ones(size + padding, bool)
    threshold, count, share = bits_D.dtype.type(low), 0, 0.0
    for start, magnitude_B in magnitudes(bits_D, size):
        width = len(magnitude_B)
        hit = np.greater_equal(magnitude_B, threshold, out=hit_B[:width])
        padded = 0.03 < share < 0.1 and width == size  # up to 0.1 flatnonzero has a branch for each hit: this leads past it
        found = np.flatnonzero(hit_B)[:-padding] if padded else np.flatnonzero(hit)
        share, end = len(found) / size, count + len(found)
        if end > len(index_N):
            return -1
        magnitude_B.take(found, out=magnitude_N[count:end], mode="clip")  # any other mode copies `out`
        np.add(found, start, out=index_N[count:end])
        count = end
    return count


def keep(index_N: Index, magnitude_N: Bits, threshold: int, tied: int) -> int:
    """Move up, in place, the entries above a threshold and the first `tied` of those that equal it; returns how many."""
    keep_N = magnitude_N >= threshold
    keep_N[np.flatnonzero(magnitude_N == threshold)[tied:]] = False
    end, size = 0, _BLOCK_BYTES // 16
    for start in range(0, len(index_N), size):
        kept = index_N[start : start + size].take(np.flatnonzero(keep_N[start : start + size]))
        index_N[end : end + len(kept)] = kept
        end += len(kept)
    return end


def add_sparse(out_D: npt.NDArray[np.floating[Any]], pieces: Sequence[Piece], *, fresh: bool, divisor: int) -> None:
    """Add sparse vectors in the given order, and divide the sum: the bits of one `out_D[...] += value_K` after the other.

    One block of the sum after the other, so that it is read and written once, however many pieces there are.

    Args:
        out_D: the sum, float64.
        pieces: what is added.
        fresh: whether `out_D` holds anything and is to start from zero.
        divisor: what the sum is divided by.

    Raises:
        IndexError: a coordinate lies outside the sum.
    """
    check_within(len(out_D), pieces)
    edges = np.arange(0, len(out_D) + _ADDED, _ADDED)
    cuts = [np.searchsorted(piece.index_K, (edges - piece.start).astype(piece.index_K.dtype)).tolist() for piece in pieces]
    for block, low in enumerate(edges[:-1].tolist()):
        out_B = out_D[low : low + _ADDED]
        if fresh:
            out_B.fill(0.0)
        for piece, cut in zip(pieces, cuts, strict=True):
            here = slice(cut[block], cut[block + 1])
            out_D[piece.start :][piece.index_K[here]] += piece.value_K[here]
        if divisor != 1:
            np.divide(out_B, divisor, out=out_B)


def check_within(dimension: int, pieces: Sequence[Piece]) -> None:
    """Raise `IndexError` unless every piece lies in [0, dimension): its coordinates ascend, so two of them tell."""
    for start, index_K, _ in pieces:
        if len(index_K) and not 0 <= start + index_K[0] <= start + index_K[-1] < dimension:
            raise IndexError(f"coordinates {start + index_K[0]} to {start + index_K[-1]} outside [0, {dimension})")


def strata(stream: Stream, dimension: int, size: int) -> Index:
    """One coordinate of each of `size` runs; see `stratified_subset`.

    Needs dimension x size < 2^63 and runs shorter than 2^31.
    """
    out_K = np.empty(size, np.int64)
    if not size:
        return out_K
    whole, part = divmod(dimension, size)
    step_S, edge_S, length_S = (np.arange(min(size, _STRATA) + 1) for _ in range(3))
    step_S *= whole  # the edges of the first runs, where all have one length
    for first in range(0, size, _STRATA):
        here_K = out_K[first : first + _STRATA]
        count = len(here_K)
        words = stream.words(-(-count // 2)).astype("<u8", copy=False)
        here_K[:] = words.view("<u4")[:count]
        if part == 0:
            here_K *= whole
            edge = np.add(step_S[: count + 1], first * whole, out=edge_S[: count + 1])
        else:
            edge = edge_S[: count + 1]
            edge[:] = np.arange(first, first + count + 1)
            edge *= dimension
            edge //= size
            here_K *= np.subtract(edge[1:], edge[:-1], out=length_S[:count])
        here_K >>= 32
        here_K += edge[:-1]
    return out_K
