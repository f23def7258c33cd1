"""The inner loops compiled with numba: the same results as the numpy forms, bit for bit. Imported by `loader.py` only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.errors import TypingError
from numba.extending import intrinsic

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["collect", "keep"]

_LANES = 16  # one comparison
_WORD = 64  # coordinates whose hits are found in one word: fewer mispredicted ends of loops


def _at_least(typing: Any, bits_D: Any, start: Any, low: Any) -> Any:
    """Sixteen magnitudes from `start` on compared with `low`: a 16-bit mask, lane 0 lowest, in generic vector code."""
    del typing
    if not (isinstance(bits_D, types.Array) and isinstance(bits_D.dtype, types.Integer) and bits_D.layout == "C"):
        raise TypingError("the mask needs a contiguous array of whole numbers")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        lane = ir.IntType(bits_D.dtype.bitwidth)
        vector = ir.VectorType(lane, _LANES)

        def spread(value: Any) -> Any:
            one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
            zeros = ir.Constant(ir.VectorType(ir.IntType(32), _LANES), [0] * _LANES)
            return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), zeros)

        place = builder.bitcast(builder.gep(array.data, [arguments[1]]), vector.as_pointer())
        bits = builder.load(place)
        bits.align = bits_D.dtype.bitwidth // 8
        magnitude = builder.and_(bits, spread(ir.Constant(lane, (1 << (lane.width - 1)) - 1)))
        hits = builder.icmp_signed(">=", magnitude, spread(arguments[2]))
        return builder.zext(builder.bitcast(hits, ir.IntType(_LANES)), ir.IntType(64))

    return types.uint64(bits_D, types.int64, bits_D.dtype), generate


def _trailing_zeros(typing: Any, word: Any) -> Any:
    """How many low bits of a nonzero word are 0."""
    del typing, word

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del context, signature
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), generate


at_least: Any = intrinsic(_at_least)
trailing_zeros: Any = intrinsic(_trailing_zeros)


def _jit(function: Callable[..., Any]) -> Any:
    """Compiled at the first call for each type of arguments, and kept on disk where numba finds a place to write."""
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # neither beside this file nor in the user's cache
        return numba.njit(nogil=True)(function)


@_jit
def _collect(bits_D: Any, low: Any, mask: Any, index_N: Any, magnitude_N: Any) -> Any:
    count, room, d = 0, len(index_N), len(bits_D)
    start = 0
    while start + _WORD <= d and count + _WORD <= room:
        hits = at_least(bits_D, start, low)
        for part in range(1, _WORD // _LANES):
            hits |= at_least(bits_D, start + _LANES * part, low) << np.uint64(_LANES * part)
        while hits:
            place = start + np.int64(trailing_zeros(hits))
            index_N[count] = place
            magnitude_N[count] = bits_D[place] & mask
            count += 1
            hits &= hits - np.uint64(1)
        start += _WORD
    for rest in range(start, d):
        magnitude = bits_D[rest] & mask
        if magnitude >= low:
            if count == room:
                return -1
            index_N[count] = rest
            magnitude_N[count] = magnitude
            count += 1
    return count


@_jit
def _keep(index_N: Any, magnitude_N: Any, threshold: Any, tied: Any) -> Any:
    count = 0
    for place in range(len(index_N)):
        index_N[count] = index_N[place]
        equal = magnitude_N[place] == threshold
        count += (magnitude_N[place] > threshold) | (equal & (tied > 0))
        tied -= equal
    return count


def collect(bits_D: Any, low: int, index_N: Any, magnitude_N: Any) -> int:
    """`select.collect`, compiled."""
    kind = bits_D.dtype.type
    return int(_collect(bits_D, kind(low), kind(np.iinfo(kind).max), index_N, magnitude_N))


def keep(index_N: Any, magnitude_N: Any, threshold: int, tied: int) -> int:
    """`select.keep`, compiled."""
    return int(_keep(index_N, magnitude_N, magnitude_N.dtype.type(threshold), tied))
