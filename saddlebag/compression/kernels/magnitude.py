"""Floats ordered by magnitude as whole numbers: IEEE bits without the sign.

The order is that of the absolute values for all finite numbers and infinity; NaN comes last. So one comparison serves ties,
zeros of either sign and subnormals alike, and whatever is not finite can never hide below a threshold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Iterator

Bits: TypeAlias = npt.NDArray[np.signedinteger[Any]]
Index: TypeAlias = npt.NDArray[np.int64]

_TYPES: dict[int, type[np.signedinteger[Any]]] = {2: np.int16, 4: np.int32, 8: np.int64}


def bits_of(x_D: npt.NDArray[np.floating[Any]]) -> Bits:
    """The entries of a vector of float16, float32 or float64 as integers: a view, where it lies in the machine's order.

    Longer floats are rounded to float64 first.
    """
    native = x_D.dtype.newbyteorder("=") if x_D.dtype.itemsize in _TYPES else np.dtype(np.float64)
    bits_D: Bits = np.ascontiguousarray(x_D, native).view(_TYPES[native.itemsize])
    return bits_D


def sign_mask(dtype: np.dtype[Any]) -> Any:
    """What removes the sign, a scalar of this type."""
    return dtype.type(np.iinfo(dtype).max)


def infinity_of(dtype: np.dtype[Any]) -> int:
    """The bits of infinity; only NaN has larger ones."""
    return int(np.array(np.inf, f"f{dtype.itemsize}").view(dtype))


def magnitudes(bits_D: Bits, size: int) -> Iterator[tuple[int, Bits]]:
    """The magnitudes in blocks of `size`, with the first coordinate of each; all blocks in the same memory."""
    mask, memory_B = sign_mask(bits_D.dtype), np.empty(min(size, len(bits_D)), bits_D.dtype)
    for start in range(0, len(bits_D), size):
        block_B = bits_D[start : start + size]
        yield start, np.bitwise_and(block_B, mask, out=memory_B[: len(block_B)])
