"""The inner loops in numpy: blocks that stay in the cache between operations, for fresh memory costs more than arithmetic.

Shapes: D = coordinates, N = candidates.
"""

from __future__ import annotations

import numpy as np

from saddlebag.compression.kernels.magnitude import Bits, Index, magnitudes

__all__ = ["collect", "keep"]

_BLOCK_BYTES = 1 << 18  # of magnitudes: with the block that they come from, half of a usual second-level cache


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
