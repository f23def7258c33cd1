from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saddlebag.compression import Draws, Purpose
from saddlebag.compression.compressors.quantisers.rounding import (
    levels_at,
    nearest_levels,
    peaks,
    piecewise,
    random_levels,
    round_mantissa,
    scales,
    words32,
)
from saddlebag.errors import NotFiniteError

LAST = 2**32 - 1


@given(st.floats(0, 3e38), st.integers(1, 2**15 - 1))
def test_scales_are_the_smallest_that_reach_the_peak(peak: float, levels: int) -> None:
    scale = scales(np.array([peak]), levels)[0]
    assert scale.dtype == np.float32
    assert Fraction(float(scale)) * levels >= Fraction(peak)
    if scale > 0:
        below = float(np.nextafter(scale, np.float32(0)))
        # one more step down where the quotient was itself rounded up to this float32: harmless, and counted in no constant
        assert Fraction(below) * levels < Fraction(peak) * (1 + Fraction(1, 2**52))


def test_a_scale_beyond_float32_is_refused() -> None:
    assert scales(np.array([3.4e38 * 100]), 100)[0] > 3.3e38
    with pytest.raises(NotFiniteError, match=r"overflows float32: largest magnitude 1e\+41"):
        scales(np.array([1.0, 1e41]), 100)


@pytest.mark.parametrize("block", [1, 2, 3, 5, 7, 8, 100])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_peaks_are_the_largest_magnitudes_of_blocks(block: int, dtype: type[np.floating]) -> None:
    x_D = np.random.default_rng(0).standard_normal(7).astype(dtype)
    expected = [float(np.abs(x_D[start : start + block]).max()) for start in range(0, 7, block)]
    assert peaks(x_D, block).tolist() == expected
    assert peaks(x_D, block).dtype == np.float64


@pytest.mark.parametrize(("d", "block"), [(1, 1), (7, 3), (100_003, 64), (100_003, 40_000), (70_000, 70_000), (65_536, 32_768)])
def test_pieces_and_blocks_cover_every_coordinate_with_its_own_scale(d: int, block: int) -> None:
    x_D = np.random.default_rng(0).standard_normal(d)
    scale_B = scales(peaks(x_D, block), 7)
    per_coordinate = np.repeat(scale_B.astype(np.float64), block)[:d]
    assert np.array_equal(nearest_levels(x_D, scale_B, block), np.rint(x_D / per_coordinate))
    word_D = np.random.default_rng(1).integers(0, 2**32, d, np.uint32)
    expected = np.floor(np.trunc(x_D / per_coordinate * 2**32) / 2**32 + word_D / 2**32)
    assert np.array_equal(levels_at(x_D, scale_B, block, word_D), expected)
    drawn = random_levels(x_D, scale_B, block, Draws(0, 1, 2).own(Purpose.ROUNDING))
    assert np.abs(drawn - x_D / per_coordinate).max() < 1.0
    assert abs((drawn - x_D / per_coordinate).mean()) < 6 * 0.5 / math.sqrt(d)  # six sigma; a rounding's sigma is below 1/2


@pytest.mark.parametrize(("d", "block"), [(10, 3), (1000, 1000), (100_003, 1001), (100_003, 40_001), (100_003, 7)])
def test_drawn_levels_are_the_map_at_the_streams_words(d: int, block: int) -> None:
    x_D = np.random.default_rng(0).standard_normal(d)
    scale_B = scales(peaks(x_D, block), 127)
    stream = Draws(5, 6, 7).own(Purpose.ROUNDING)
    word_D = np.concatenate([words32(stream, piece.stop - piece.start) for piece in piecewise(d)])
    drawn = random_levels(x_D, scale_B, block, Draws(5, 6, 7).own(Purpose.ROUNDING))
    assert np.array_equal(drawn, levels_at(x_D, scale_B, block, word_D))


@pytest.mark.parametrize("levels", [1, 7, 127, 32767])
@given(st.floats(1e-30, 1e30))
def test_the_peak_never_exceeds_the_highest_level(levels: int, peak: float) -> None:
    scale_B = scales(np.array([peak]), levels)
    for word in (0, LAST):
        level_D = levels_at(np.array([peak, -peak]), scale_B, 2, np.full(2, word, np.uint32), np.int16)
        assert np.abs(level_D).max() <= levels


def test_a_block_of_zeros_has_level_zero_whatever_the_word() -> None:
    x_D = np.array([0.0, -0.0, 1.0])
    for word in (0, LAST):
        level_D = levels_at(x_D, scales(peaks(x_D, 2), 1), 2, np.full(3, word, np.uint32))
        assert level_D.tolist() == [0, 0, 1]


@given(st.floats(2.0**-1000, 2.0**1000), st.integers(0, 20), st.integers(0, LAST))
def test_a_mantissa_is_rounded_to_a_neighbour(magnitude: float, bits: int, word: int) -> None:
    low, high, value = (
        float(round_mantissa(np.array([magnitude]), np.array([w], np.uint32), bits)[0]) for w in (0, LAST, word)
    )
    mantissa, exponent = math.frexp(magnitude)
    step = math.ldexp(1.0, exponent - 1 - bits)
    assert low == math.floor(mantissa * 2.0 ** (bits + 1)) * step
    assert high in (low, low + step)
    assert value in (low, high)


def test_pieces_are_in_order_and_whole() -> None:
    pieces = list(piecewise(100_000))
    assert [piece.start for piece in pieces] == [0, *(piece.stop for piece in pieces[:-1])]
    assert pieces[-1].stop == 100_000
    assert all((piece.stop - piece.start) % 8 == 0 for piece in pieces[:-1])
