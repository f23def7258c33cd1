"""Philox4x64-10 and what is drawn from it, compiled: the words are used where they are made."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.compression.kernels import plain
from saddlebag.compression.kernels.jit import jit
from saddlebag.compression.kernels.vectors import product

if TYPE_CHECKING:
    from saddlebag.compression.kernels.magnitude import Index
    from saddlebag.compression.stream import Stream

_STRATA = 512  # drawn at a time


@jit
def philox(block: Any, high_3: Any, key: Any, tag: Any, out_W: Any) -> None:
    """Words of Philox4x64-10 (Salmon et al. 2011, section 3.3) from the block after `block` on, a multiple of four."""
    high_1, high_2, high_3 = high_3[0], high_3[1], high_3[2]
    for i in range(len(out_W) // 4):
        a, b, c, d = block + np.uint64(i) + np.uint64(1), high_1, high_2, high_3
        first, second = key, tag
        for _ in range(10):
            (upper_a, lower_a), (upper_c, lower_c) = (
                product(np.uint64(0xD2E7470EE14C6C93), a),
                product(np.uint64(0xCA5A826395121157), c),
            )
            a, b, c, d = upper_c ^ b ^ first, lower_c, upper_a ^ d ^ second, lower_a
            first, second = first + np.uint64(0x9E3779B97F4A7C15), second + np.uint64(0xBB67AE8584CAA73B)
        out_W[4 * i], out_W[4 * i + 1], out_W[4 * i + 2], out_W[4 * i + 3] = a, b, c, d


@jit
def _place(half_S: Any, start: Any, over: Any, whole: Any, part: Any, size: Any, out_S: Any) -> None:
    """One coordinate of each run, from 32 bits; `start` and `over` are the quotient and rest of i D by K for the first.

    Products of 32-bit numbers, which vector units have: the quotient of (over + j part) by K is first estimated from below by
    a fraction of 32 bits, which for so few runs is off by one at most.
    """
    if part == 0:  # all runs have one length
        for j in range(np.uint32(len(out_S))):
            inside = (np.uint64(half_S[j]) * np.uint64(np.uint32(whole))) >> np.uint64(32)
            out_S[j] = np.int64(np.uint64(start) + np.uint64(np.uint32(j)) * np.uint64(np.uint32(whole)) + inside)
        return
    slope, height = np.uint32((part << 32) // size), np.uint64((over << 32) // size)
    whole_32, part_32, size_32, one = np.uint32(whole), np.uint32(part), np.uint32(size), np.uint64(1)
    for j in range(np.uint32(len(out_S))):
        j_64 = np.uint64(np.uint32(j))
        carried = (height + j_64 * np.uint64(slope)) >> np.uint64(32)
        rest = np.uint64(over) + j_64 * np.uint64(part_32) - np.uint64(np.uint32(carried)) * np.uint64(size_32)
        if rest >= np.uint64(size_32):
            carried += one
            rest -= np.uint64(size_32)
        length = whole_32
        if rest + np.uint64(part_32) >= np.uint64(size_32):
            length += np.uint32(1)
        inside = (np.uint64(half_S[j]) * np.uint64(length)) >> np.uint64(32)
        out_S[j] = np.int64(np.uint64(start) + j_64 * np.uint64(whole_32) + carried + inside)


@jit
def _strata(block: Any, high_3: Any, key: Any, tag: Any, dimension: Any, out_K: Any) -> None:
    size = len(out_K)
    word_W = np.empty(_STRATA // 2, np.uint64)
    half_S = word_W.view(np.uint32)
    for first in range(0, size, _STRATA):
        philox(block, high_3, key, tag, word_W)
        block += np.uint64(_STRATA // 8)
        here_S = out_K[first : first + _STRATA]
        at = first * dimension
        _place(half_S, at // size, at % size, dimension // size, dimension % size, size, here_S)


def strata(stream: Stream, dimension: int, size: int) -> Index:
    """`plain.strata`, compiled."""
    if sys.byteorder == "big":  # the lower half of a word would come second
        return plain.strata(stream, dimension, size)
    out_K = np.empty(size, np.int64)
    if not size:
        return out_K
    key, counter = stream.skip(-(-size // 2))
    block, seed, tag = (np.uint64(value) for value in (counter[0], *key))
    _strata(block, np.array(counter[1:], np.uint64), seed, tag, dimension, out_K)
    return out_K
