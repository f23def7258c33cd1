"""Triton kernels: error feedback, threshold and compaction in two passes over memory; seeded supports with the shared words.

Imported only by `device.py`. On a GPU they are compiled; with TRITON_INTERPRET=1 in the environment Triton's interpreter runs
them on the CPU, for tests. Shapes: D = coordinates, N = candidates, P = programs, B = coordinates of a program.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import triton
import triton.language as tl

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK = 4096  # coordinates of a program: few counts to sum, several warps' work


def jit(function: Callable[..., Any]) -> Any:
    """`triton.jit`, typed."""
    return triton.jit(function)


def runs(count: int, block: int) -> tuple[int]:
    """The grid for `count` entries."""
    return (-(-count // block),)


@jit
def add_and_count(x_D, memory_D, low, count_P, d, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Memory += x, and how many of the program's magnitudes reach `low`: one pass that reads both and writes the memory."""
    program = tl.program_id(0)
    place = program.to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < d
    owed = tl.load(memory_D + place, mask=inside, other=0.0) + tl.load(x_D + place, mask=inside, other=0.0).to(tl.float32)
    tl.store(memory_D + place, owed, mask=inside)
    hit = ((owed.to(tl.int32, bitcast=True) & 0x7FFFFFFF) >= low) & inside
    tl.store(count_P + program, tl.sum(hit.to(tl.int32), axis=0))


@jit
def collect(memory_D, low, end_P, index_N, value_N, room, d, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """The coordinates and values whose magnitudes reach `low`, in order; `end_P` is the running sum of the counts."""
    program = tl.program_id(0)
    place = program.to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(memory_D + place, mask=place < d, other=0.0)
    hit = ((value.to(tl.int32, bitcast=True) & 0x7FFFFFFF) >= low) & (place < d)
    number = hit.to(tl.int32)
    end = tl.load(end_P + program)
    to = end - tl.sum(number, axis=0) + tl.cumsum(number, axis=0) - 1
    kept = hit & (to < room)
    tl.store(index_N + to, place, mask=kept)
    tl.store(value_N + to, value, mask=kept)


@jit
def strata(  # type: ignore[no-untyped-def]
    x_D, index_K, value_K, scaled: tl.constexpr, counter, round_, worker, purpose, seed, tag, d, k, BLOCK: tl.constexpr
):
    """Coordinates of a stratified support (see `draws.stratified_subset`) and the values there, `scaled` by d / k in float64.

    A program makes BLOCK blocks of Philox4x64-10, each of which gives eight coordinates.
    """
    block = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    c0 = (block + counter + 1).to(tl.uint64)
    zero = c0 * 0
    c1, c2, c3, k0, k1 = zero + round_, zero + worker, zero + purpose, zero + seed, zero + tag
    m0, m1 = zero + 0xD2E7470EE14C6C93, zero + 0xCA5A826395121157
    for _ in range(10):
        h0, l0, h2, l2 = tl.umulhi(m0, c0), m0 * c0, tl.umulhi(m1, c2), m1 * c2
        c0, c1, c2, c3 = h2 ^ c1 ^ k0, l2, h0 ^ c3 ^ k1, l0
        k0, k1 = k0 + 0x9E3779B97F4A7C15, k1 + 0xBB67AE8584CAA73B
    for part in tl.static_range(8):
        word = c0 if part < 2 else (c1 if part < 4 else (c2 if part < 6 else c3))
        half = ((word >> (32 * (part % 2))) & 0xFFFFFFFF).to(tl.int64)
        i = block * 8 + part
        start = i * d // k
        place = start + ((half * ((i + 1) * d // k - start)) >> 32)
        tl.store(index_K + i, place, mask=i < k)
        value = tl.load(x_D + place, mask=i < k, other=0.0).to(tl.float64)
        if scaled:  # the quotient is formed here, for Triton takes a float argument as float32
            nothing = i.to(tl.float64) * 0.0
            value = value * ((nothing + d) / (nothing + k))
        tl.store(value_K + i, value.to(tl.float32), mask=i < k)
