"""Exact Top-k in about one pass: a threshold from a sample, one pass that collects, an exact choice among the collected.

Two quantiles of a sample of magnitudes enclose the k-th largest, almost surely. One pass collects in order what reaches the
lower one, a little more than k entries, and a partition of the few up to the upper one finds the exact threshold; ties are cut
to the lowest coordinate. Where a tie fills the sample between them (zeros, constants, few levels), what exceeds it is collected
and the first of the tie are added. A sample that misleads costs time, never exactness: then everything is partitioned.

Memory: the result with room for k / 16 + D / 64 more, the magnitudes beside it; one vector in the fallback. For k up to D / 4
no more than a float32 vector beside the result.

Shapes: D = coordinates, K = kept ones, N = candidates, B = coordinates of a block.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.compression.kernels.loader import Kernels, kernels_for
from saddlebag.compression.kernels.magnitude import Bits, Index, bits_of, infinity_of, magnitudes, sign_mask

if TYPE_CHECKING:
    import numpy.typing as npt

_SMALL = 1 << 13  # up to here one partition is quicker than a sample and a pass
_SAMPLE = 1 << 16
_SIGMAS = 4.0  # of the rank of a sample's quantile: one sample in 16,000 misleads
_GOLDEN = 0x9E37_79B1  # 2^32 / golden ratio
_BLOCK = 1 << 16  # entries whose magnitudes stay in the cache


def largest(x_D: npt.NDArray[np.floating[Any]], k: int, kernels: Kernels | None = None) -> Index | None:
    """The k coordinates of largest magnitude, int64, ascending; of equal magnitudes the lowest coordinates. 1 <= k <= D.

    Of an empty vector none, whatever k.

    None when an entry is not finite: all such entries are among the candidates, so the check needs no pass of its own.
    """
    bits_D = bits_of(x_D)
    kernels = kernels or kernels_for(len(bits_D))
    d = len(bits_D)
    if d == 0:
        return np.empty(0, np.int64)
    if d <= _SMALL or 2 * k > d:
        return _by_partition(bits_D, k, kernels)
    low, high = _quantiles(bits_D, k)
    room = k + (k >> 4) + (d >> 6)
    index_N, magnitude_N = np.empty(room, np.int64), np.empty(room, bits_D.dtype)
    count = kernels.collect(bits_D, low, index_N, magnitude_N) if low < high else -1
    if count < 0 and low < sign_mask(bits_D.dtype):
        count = kernels.collect(bits_D, low + 1, index_N, magnitude_N)
        if 0 <= count < k:
            return _with_ties(bits_D, index_N[:count], magnitude_N[:count], k, low, kernels)
    if count < k:
        return _by_partition(bits_D, k, kernels)
    return _cut(index_N[:count], magnitude_N[:count], k, high, kernels)


def _quantiles(bits_D: Bits, k: int) -> tuple[int, int]:
    """Two magnitudes, of which almost surely more than k entries reach the first and fewer exceed the second."""
    d = len(bits_D)
    size = min(_SAMPLE, d >> 6)
    # one place in each of `size` runs; the jitter keeps step with no row length
    stride, step_N = np.uint64(d // size), np.arange(size, dtype=np.uint64)
    jitter_N = (step_N * np.uint64(_GOLDEN)) & np.uint64(0xFFFF_FFFF)
    place_N = (step_N * stride + ((jitter_N * stride) >> np.uint64(32))).astype(np.int64)
    sample_N = bits_D.take(place_N) & sign_mask(bits_D.dtype)
    rank, doubt = size * k / d, _SIGMAS * math.sqrt(size * k / d * (1.0 - k / d)) + 1.0
    low = max(0, size - 1 - math.ceil(rank + doubt))
    high = min(size - 1, size - 1 - math.floor(rank - doubt))
    sample_N.partition((low, high))
    return int(sample_N[low]), int(sample_N[high])


def _cut(index_N: Index, magnitude_N: Bits, k: int, high: int, kernels: Kernels) -> Index | None:
    """The k largest of candidates among which all of them are, in place; `high` is a guess of where doubt ends."""
    if int(magnitude_N.max()) >= infinity_of(magnitude_N.dtype):
        return None
    surplus = len(index_N) - k
    if surplus:
        threshold = _rank(magnitude_N, surplus, high)
        kernels.keep(index_N, magnitude_N, threshold, k - int(np.count_nonzero(magnitude_N > threshold)))
    return index_N[:k]


def _rank(magnitude_N: Bits, rank: int, high: int) -> int:
    """The entry that exceeds or equals `rank` others; only those up to `high` are partitioned if that suffices."""
    doubtful = [block[block <= high] for block in np.array_split(magnitude_N, -(-len(magnitude_N) // _BLOCK))]
    if sum(map(len, doubtful)) > rank:
        magnitude_N = np.concatenate(doubtful)
    return int(np.partition(magnitude_N, rank)[rank])


def _with_ties(bits_D: Bits, index_N: Index, magnitude_N: Bits, k: int, tie: int, kernels: Kernels) -> Index | None:
    """The candidates, which are all that exceed `tie` and fewer than k, and the first entries that equal it."""
    if len(index_N) and int(magnitude_N.max()) >= infinity_of(magnitude_N.dtype):
        return None
    found, missing = [index_N], k - len(index_N)
    for start, magnitude_B in magnitudes(bits_D, _BLOCK):
        tied = np.flatnonzero(magnitude_B == tie)[:missing]
        found.append(tied + start)
        missing -= len(tied)
        if not missing:
            break
    else:
        return _by_partition(bits_D, k, kernels)
    out_K = np.concatenate(found)
    out_K.sort(kind="stable")  # merges two ascending runs
    return out_K


def _by_partition(bits_D: Bits, k: int, kernels: Kernels) -> Index | None:
    """Without a sample: the threshold by a partition of all magnitudes."""
    magnitude_D = bits_D & sign_mask(bits_D.dtype)
    magnitude_D.partition(len(bits_D) - k)
    top_K = magnitude_D[len(bits_D) - k :]
    if int(top_K.max()) >= infinity_of(bits_D.dtype):
        return None
    threshold = int(top_K[0])
    above = int(np.count_nonzero(top_K > threshold))
    del magnitude_D, top_K
    index_N, magnitude_N = np.empty(above, np.int64), np.empty(above, bits_D.dtype)
    kernels.collect(bits_D, threshold + 1, index_N, magnitude_N)
    return _with_ties(bits_D, index_N, magnitude_N, k, threshold, kernels)
