"""How short a payload could be: what an ideal coder of its layout would need."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.compression import Codebook, Concat, Dense, Half, Levels, LowRank, Payload, PowersOfTwo, Seeded, Sparse, Total

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["entropy_bits", "entropy_of", "log2_binomial"]


def log2_binomial(d: int, k: int) -> float:
    """log2 of the number of k-subsets of d things: no coder of uniformly distributed subsets needs less in the mean."""
    return (math.lgamma(d + 1) - math.lgamma(k + 1) - math.lgamma(d - k + 1)) / math.log(2)


def entropy_of(symbol_N: npt.NDArray[np.integer[Any]]) -> float:
    """The empirical entropy of a sequence of whole numbers in bits, of all of them together."""
    if not len(symbol_N):
        return 0.0
    low = int(symbol_N.min())
    count = np.bincount((symbol_N.astype(np.int64) - low).astype(np.int64))
    count = count[count > 0]
    return float(-(count * np.log2(count / len(symbol_N))).sum())


@functools.singledispatch
def entropy_bits(payload: Payload) -> float:
    """Bits that an ideal coder needs for a payload, NaN for one of a layout of somebody else.

    Index sets count log2 C(d, k), as if every subset were as likely (on clustered coordinates a coder may need less);
    levels and powers of two their empirical entropy, as if independent; floats what they are; seeded supports nothing.
    """
    del payload
    return math.nan


@entropy_bits.register
def _(payload: Dense) -> float:
    return 8.0 * payload.value_D.nbytes


@entropy_bits.register
def _(payload: Half) -> float:
    return 16.0 * payload.dimension


@entropy_bits.register
def _(payload: PowersOfTwo) -> float:
    return entropy_of(payload.value_D.view(np.uint32) >> 23)  # sign and exponent: all there is


@entropy_bits.register
def _(payload: Levels) -> float:
    return entropy_of(payload.level_D) + 32.0 * len(payload.scale_B)


@entropy_bits.register
def _(payload: Codebook) -> float:
    return entropy_of(payload.code_D) + 32.0 * payload.value_BC.size


@entropy_bits.register
def _(payload: Sparse) -> float:
    return log2_binomial(payload.dimension, len(payload.index_K)) + entropy_bits(payload.value)


@entropy_bits.register
def _(payload: Seeded) -> float:
    return entropy_bits(payload.value)


@entropy_bits.register
def _(payload: LowRank) -> float:
    return 8.0 * (payload.p_RK.nbytes + payload.q_CK.nbytes)


@entropy_bits.register(Concat)
@entropy_bits.register(Total)
def _(payload: Concat | Total) -> float:
    return sum(map(entropy_bits, payload.parts))
