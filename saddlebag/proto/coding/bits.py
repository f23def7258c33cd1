"""Whole numbers of the same width, packed without gaps.

The low bytes of all numbers come first, a plane for each whole byte; then the `width % 8` high bits of all numbers,
number i at bits i r to (i + 1) r of the plane, least significant first.

Eight numbers of r < 8 bits become r bytes by three shifts and masks of a 64-bit word; no loop, no multiplication.

Shapes: N = numbers, W = words of eight.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["pack", "packed_bytes", "unpack"]

_WORD = np.dtype("<u8")
_EVEN_BYTES, _EVEN_PAIRS, _EVEN_QUADS = (np.uint64(m) for m in (0x00FF00FF00FF00FF, 0x0000FFFF0000FFFF, 0x00000000FFFFFFFF))


def packed_bytes(count: int, width: int) -> int:
    """The length of `count` packed numbers of `width` bits."""
    return count * (width // 8) + -(-count * (width % 8) // 8)


def pack(number_N: npt.NDArray[Any], width: int) -> bytes:
    """Pack unsigned numbers below 2^width; 0 <= width <= 64."""
    planes = [(number_N >> np.uint8(8 * plane)).astype(np.uint8).tobytes() for plane in range(width // 8)]
    rest = width % 8
    if rest:
        top_N = (number_N >> np.uint8(width - rest)).astype(np.uint8)
        planes.append(_fold(top_N, rest))
    return b"".join(planes)


def unpack(data: memoryview, count: int, width: int) -> npt.NDArray[Any]:
    """The numbers of exactly `packed_bytes(count, width)` bytes, as the narrowest unsigned type that holds `width` bits."""
    raw = np.frombuffer(data, np.uint8)
    dtype = np.dtype(np.uint8 if width <= 8 else np.uint16 if width <= 16 else np.uint32 if width <= 32 else np.uint64)
    rest, whole = width % 8, width // 8
    if rest:
        number_N = _unfold(raw[whole * count :], count, rest).astype(dtype, copy=False)
        if whole:
            number_N <<= dtype.type(8 * whole)
    else:
        number_N = np.zeros(count, dtype)
    for plane in range(whole):
        number_N |= raw[plane * count : (plane + 1) * count].astype(dtype) << dtype.type(8 * plane)
    return number_N


def _fold(number_N: npt.NDArray[np.uint8], width: int) -> bytes:
    """Numbers below 2^width <= 128, without gaps."""
    count = len(number_N)
    padded = np.zeros(-(-count // 8) * 8, np.uint8)
    padded[:count] = number_N
    word_W = padded.view(_WORD)
    word_W = (word_W & _EVEN_BYTES) | ((word_W & ~_EVEN_BYTES) >> np.uint64(8 - width))
    word_W = (word_W & _EVEN_PAIRS) | ((word_W & ~_EVEN_PAIRS) >> np.uint64(16 - 2 * width))
    word_W = (word_W & _EVEN_QUADS) | ((word_W & ~_EVEN_QUADS) >> np.uint64(32 - 4 * width))
    used = np.ascontiguousarray(word_W, _WORD).view(np.uint8).reshape(-1, 8)[:, :width]
    return used.tobytes()[: packed_bytes(count, width)]


def _unfold(raw: npt.NDArray[np.uint8], count: int, width: int) -> npt.NDArray[np.uint8]:
    words = -(-count // 8)
    bytes_W8 = np.zeros((words, 8), np.uint8)
    full = len(raw) // width
    bytes_W8[:full, :width] = raw[: full * width].reshape(full, width)
    if full < words:
        bytes_W8[full, : len(raw) - full * width] = raw[full * width :]
    word_W = bytes_W8.reshape(-1).view(_WORD)
    low = np.uint64((1 << 4 * width) - 1)
    word_W = (word_W & low) | ((word_W & ~low) << np.uint64(32 - 4 * width))
    low = np.uint64((1 << 2 * width) - 1) * np.uint64(0x0000000100000001)
    word_W = (word_W & low) | ((word_W & ~low) << np.uint64(16 - 2 * width))
    low = np.uint64((1 << width) - 1) * np.uint64(0x0001000100010001)
    word_W = (word_W & low) | ((word_W & ~low) << np.uint64(8 - width))
    return np.ascontiguousarray(word_W, _WORD).view(np.uint8)[:count]
