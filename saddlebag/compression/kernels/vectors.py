"""What numba lacks: sixteen comparisons at once, wide products, memory by its address. Generic LLVM, for any processor."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.errors import TypingError
from numba.extending import intrinsic

LANES = 16


def _at_least(typing: Any, bits_D: Any, start: Any, low: Any) -> Any:
    """Sixteen magnitudes from `start` on compared with `low`: a 16-bit mask, the first lane lowest."""
    del typing, start, low
    if not (isinstance(bits_D, types.Array) and isinstance(bits_D.dtype, types.Integer) and bits_D.layout == "C"):
        raise TypingError("the mask needs a contiguous array of whole numbers")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        lane = ir.IntType(bits_D.dtype.bitwidth)
        vector = ir.VectorType(lane, LANES)

        def spread(value: Any) -> Any:
            one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
            zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
            return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), zeros)

        place = builder.bitcast(builder.gep(array.data, [arguments[1]]), vector.as_pointer())
        bits = builder.load(place)
        bits.align = bits_D.dtype.bitwidth // 8
        magnitude = builder.and_(bits, spread(ir.Constant(lane, (1 << (lane.width - 1)) - 1)))
        hits = builder.icmp_signed(">=", magnitude, spread(arguments[2]))
        return builder.zext(builder.bitcast(hits, ir.IntType(LANES)), ir.IntType(64))

    return types.uint64(bits_D, types.int64, bits_D.dtype), generate


def _trailing_zeros(typing: Any, word: Any) -> Any:
    """How many low bits of a word that is not 0 are 0."""
    del typing, word

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del context, signature
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), generate


def _load(typing: Any, address: Any, place: Any, like: Any) -> Any:
    """Number `place` of an array at an address, of the type of `like`; it need not be aligned."""
    del typing, address, place

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], context.get_value_type(signature.return_type).as_pointer())
        value = builder.load(builder.gep(pointer, [arguments[1]]))
        value.align = 1
        return value

    return like(types.int64, types.int64, like), generate


def _product(typing: Any, a: Any, b: Any) -> Any:
    """The upper and the lower 64 bits of the product of two words; taken apart, LLVM would multiply twice."""
    del typing, a, b

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide, word = ir.IntType(128), ir.IntType(64)
        product = builder.mul(builder.zext(arguments[0], wide), builder.zext(arguments[1], wide))
        upper = builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), word)
        return context.make_tuple(builder, signature.return_type, [upper, builder.trunc(product, word)])

    pair: Any = types.UniTuple
    return pair(types.uint64, 2)(types.uint64, types.uint64), generate


at_least: Any = intrinsic(_at_least)
load: Any = intrinsic(_load)
product: Any = intrinsic(_product)
trailing_zeros: Any = intrinsic(_trailing_zeros)
