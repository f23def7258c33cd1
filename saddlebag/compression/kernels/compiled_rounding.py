"""Quantisers' loops, compiled, each with the words it needs: the results of their numpy forms, bit for bit.

For contiguous float32 or float64 vectors on little-endian machines; `loader.rounding_for` sees to that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.compression.kernels.compiled_draws import philox
from saddlebag.compression.kernels.jit import jit
from saddlebag.compression.kernels.magnitude import sign_mask

if TYPE_CHECKING:
    import numpy.typing as npt

    from saddlebag.compression.stream import Stream

_DRAWN = 512  # values whose words are drawn at a time
_SMALLEST = 2.0**-126  # normal number of float32 and bfloat16
_STEP = 2.0**-133  # between bfloat16's numbers below


@jit
def _peaks(bits_D: Any, mask: Any, block: Any, peak_B: Any) -> None:
    for b in range(len(peak_B)):
        peak = mask & bits_D[b * block]
        for bits in bits_D[b * block : (b + 1) * block]:
            peak = max(peak, bits & mask)
        peak_B[b] = peak


def peaks(x_D: npt.NDArray[Any], block: int) -> npt.NDArray[np.float64]:
    """The largest magnitude of each block of finite numbers, which are ordered as whole numbers, float64 (B,)."""
    bits_D = x_D.view(np.int32 if x_D.dtype == np.float32 else np.int64)
    peak_B = np.empty(-(-len(x_D) // block) if len(x_D) else 0, bits_D.dtype)
    _peaks(bits_D, sign_mask(bits_D.dtype), block, peak_B)
    return peak_B.view(x_D.dtype).astype(np.float64)


@jit
def multiples(x_D: Any, factor_B: Any, block: Any, level_D: Any) -> None:
    """`rounding.multiples`."""
    for b in range(len(factor_B)):
        x_R, level_R, factor = x_D[b * block : (b + 1) * block], level_D[b * block : (b + 1) * block], factor_B[b]
        for i in range(len(x_R)):
            level_R[i] = np.int8(np.int32(np.rint(np.float64(x_R[i]) * factor)))


@jit
def _random_levels(x_D: Any, divisor_B: Any, block: Any, counter: Any, high_3: Any, key: Any, tag: Any, level_D: Any) -> None:
    word_W = np.empty(_DRAWN // 2, np.uint64)
    half_S = word_W.view(np.uint32)
    for first in range(0, len(x_D), _DRAWN):
        philox(counter, high_3, key, tag, word_W)
        counter += np.uint64(_DRAWN // 8)
        low, last = first, min(first + _DRAWN, len(x_D))
        while low < last:
            b = low // block
            high = min(last, (b + 1) * block)
            x_R, half_R, level_R, divisor = x_D[low:high], half_S[low - first : high - first], level_D[low:high], divisor_B[b]
            for i in range(len(x_R)):
                level_R[i] = (np.int64(np.float64(x_R[i]) / divisor) + np.int64(half_R[i])) >> 32
            low = high


def random_levels(x_D: Any, divisor_B: Any, block: int, stream: Stream, level_D: Any) -> None:
    """`rounding.random_levels`; `divisor_B` is the scale times 2^-32, or 2^-32 for a block of zeros."""
    _random_levels(x_D, divisor_B, block, *_numbers(stream, -(-len(x_D) // 2)), level_D)


@jit
def _dyadic_levels(
    x_D: Any, divisor: Any, smallest: Any, levels: Any, counter: Any, high_3: Any, key: Any, tag: Any, level_D: Any
) -> None:
    word_W, ratio_S = np.empty(_DRAWN // 2, np.uint64), np.empty(_DRAWN, np.float64)
    half_S, bits_S = word_W.view(np.uint32), ratio_S.view(np.int64)
    chance = 2.0**32 / smallest
    for first in range(0, len(x_D), _DRAWN):
        philox(counter, high_3, key, tag, word_W)
        counter += np.uint64(_DRAWN // 8)
        x_S, level_S = x_D[first : first + _DRAWN], level_D[first : first + _DRAWN]
        for i in range(len(x_S)):
            ratio_S[i] = abs(np.float64(x_S[i])) / divisor
        for i in range(len(x_S)):
            level = 1024 - ((bits_S[i] + (np.int64(half_S[i]) << 20)) >> 52)
            last = levels if np.float64(half_S[i]) < ratio_S[i] * chance else 0
            level = last if ratio_S[i] < smallest else level
            level_S[i] = -level if x_S[i] < 0 else level


def dyadic_levels(x_D: Any, divisor: float, levels: int, stream: Stream, level_D: Any) -> None:
    """`natural_dithering.dyadic_levels_at` with the stream's words."""
    numbers = _numbers(stream, -(-len(x_D) // 2))
    _dyadic_levels(x_D, float(divisor), 2.0 ** (1 - levels), np.int64(levels), *numbers, level_D)


@jit
def _bfloat16(x_D: Any, counter: Any, high_3: Any, key: Any, tag: Any, value_D: Any) -> None:
    word_W, size_S, rounded_S = np.empty(_DRAWN // 2, np.uint64), np.empty(_DRAWN), np.empty(_DRAWN)
    half_S, bits_S, out_S = word_W.view(np.uint32), size_S.view(np.int64), rounded_S.view(np.int64)
    for first in range(0, len(x_D), _DRAWN):
        philox(counter, high_3, key, tag, word_W)
        counter += np.uint64(_DRAWN // 8)
        x_S, value_S = x_D[first : first + _DRAWN], value_D[first : first + _DRAWN]
        for i in range(len(x_S)):
            size_S[i] = abs(np.float64(x_S[i]))
        for i in range(len(x_S)):
            out_S[i] = (bits_S[i] + (np.int64(half_S[i]) << 13)) >> 45 << 45
        for i in range(len(x_S)):
            tiny = np.floor(size_S[i] / _STEP + np.float64(half_S[i]) * 2.0**-32) * _STEP
            value = tiny if size_S[i] < _SMALLEST else rounded_S[i]
            value_S[i] = np.copysign(value, np.float64(x_S[i]))


def bfloat16(x_D: Any, stream: Stream, value_D: Any) -> None:
    """`half.bfloat16_at` with the stream's words, for magnitudes that bfloat16 holds."""
    _bfloat16(x_D, *_numbers(stream, -(-len(x_D) // 2)), value_D)


@jit
def _powers(x_D: Any, counter: Any, high_3: Any, key: Any, tag: Any, value_D: Any) -> None:
    word_W, size_S, rounded_S = np.empty(_DRAWN, np.uint64), np.empty(_DRAWN), np.empty(_DRAWN)
    bits_S, out_S = size_S.view(np.int64), rounded_S.view(np.int64)
    for first in range(0, len(x_D), _DRAWN):
        philox(counter, high_3, key, tag, word_W)
        counter += np.uint64(_DRAWN // 4)
        x_S, value_S = x_D[first : first + _DRAWN], value_D[first : first + _DRAWN]
        for i in range(len(x_S)):
            size_S[i] = abs(np.float64(x_S[i]))
        for i in range(len(x_S)):  # a carry where the fraction of 52 bits exceeds as many of the word
            out_S[i] = (bits_S[i] + (np.int64(0xF_FFFF_FFFF_FFFF) - np.int64(word_W[i] >> np.uint64(12)))) >> 52 << 52
        for i in range(len(x_S)):
            uniform = np.float64(np.int64(word_W[i] >> np.uint64(11))) * 2.0**-53
            tiny = _SMALLEST if uniform < size_S[i] / _SMALLEST else 0.0
            value = tiny if size_S[i] < _SMALLEST else rounded_S[i]
            value_S[i] = np.copysign(value, np.float64(x_S[i]))


def powers(x_D: Any, stream: Stream, value_D: Any) -> None:
    """`natural.natural_at` with the stream's uniforms, for magnitudes up to 2^127."""
    _powers(x_D, *_numbers(stream, len(x_D)), value_D)


def _numbers(stream: Stream, words: int) -> tuple[Any, ...]:
    key, counter = stream.skip(words)
    return np.uint64(counter[0]), np.array(counter[1:], np.uint64), np.uint64(key[0]), np.uint64(key[1])
