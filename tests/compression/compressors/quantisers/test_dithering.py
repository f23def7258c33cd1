from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from saddlebag.compression import Compressor, Dithering, Draws, NaturalDithering, Ternary
from saddlebag.compression.compressors.quantisers.blocks import BlockInt4, BlockInt8
from saddlebag.compression.compressors.quantisers.dithering import euclidean, max_norm_omega
from saddlebag.errors import ConfigError, NotFiniteError

SLACK = 1 + 2.0**-21  # the scale is rounded up to a float32
WIDTHS = {np.float16: 16, np.float32: 32, np.float64: 64}
RANDOM: list[Compressor] = [
    Dithering(levels=1),
    Dithering(levels=2),
    Dithering(levels=7),
    Dithering(levels=200),
    Dithering(levels=1, norm="max"),
    Dithering(levels=3, norm="max", block=3),
    Ternary(),
    Ternary(block=2),
    BlockInt8(),
    BlockInt4(block=4),
    NaturalDithering(levels=1),
    NaturalDithering(levels=3),
    NaturalDithering(levels=3, norm="l2"),
    NaturalDithering(levels=2, block=3),
    NaturalDithering(levels=8, norm="l2"),
]
each = pytest.mark.parametrize("compressor", RANDOM, ids=repr)


@st.composite
def vectors(draw: st.DrawFn) -> np.ndarray:
    """Zeros, ties and numbers of very different sizes, in all float types; no block so small that its scale is subnormal."""
    dtype = draw(st.sampled_from(sorted(WIDTHS, key=WIDTHS.__getitem__)))
    low, high = max(2.0**-100, float(np.finfo(dtype).smallest_normal)), min(2.0**100, float(np.finfo(dtype).max))
    sizes = st.floats(low, high, width=WIDTHS[dtype])
    element = st.one_of(st.just(0.0), sizes, sizes.map(lambda x: -x))
    if draw(st.booleans()):
        element = st.sampled_from(draw(st.lists(element, min_size=1, max_size=3)))
    return draw(hnp.arrays(dtype, st.integers(1, 9), elements=element))


def norm2(x_D: np.ndarray) -> Fraction:
    return sum((Fraction(x) ** 2 for x in x_D.tolist()), Fraction(0))


@each
@settings(max_examples=25)
@given(x_D=vectors())
def test_unbiased_with_the_second_moment_of_the_law_over_all_words(compressor: Any, x_D: np.ndarray, moments: Any) -> None:
    mean, error2 = moments(compressor, x_D)
    largest, total = Fraction(float(np.abs(x_D).max())), sum((abs(Fraction(x)) for x in x_D.tolist()), Fraction(0))
    for value, x in zip(mean, x_D.tolist(), strict=True):
        assert abs(value - Fraction(x)) <= total * Fraction(1, 2**31)  # 32 random bits for a step of at most the norm
    assert error2 <= Fraction(compressor.omega(len(x_D)) * SLACK) * norm2(x_D) + largest**2 * Fraction(1, 2**21)


@pytest.mark.parametrize(("d", "levels"), [(4, 1), (9, 1), (64, 2), (64, 4), (16, 2)])
def test_omega_with_the_l2_norm_is_attained(d: int, levels: int, moments: Any) -> None:
    """By equal magnitudes: r = s / sqrt(d) <= 1/2 of a level each."""
    _, error2 = moments(Dithering(levels=levels), np.ones(d))
    assert math.isclose(Dithering(levels=levels).omega(d), math.sqrt(d) / levels - 1, abs_tol=1e-15)
    assert math.isclose(float(error2) / d, math.sqrt(d) / levels - 1, rel_tol=1e-6)


@pytest.mark.parametrize(("d", "levels"), [(2, 1), (3, 1), (50, 1), (50, 7), (50, 127)])
def test_omega_with_the_largest_magnitude_is_attained(d: int, levels: int, moments: Any) -> None:
    x_D = np.full(d, 1.0 / (levels + math.sqrt(levels**2 + d - 1)))
    x_D[d // 2] = -1.0
    compressor = Dithering(levels=levels, norm="max")
    _, error2 = moments(compressor, x_D)
    assert compressor.omega(d) == max_norm_omega(d, levels)
    assert math.isclose(float(error2 / norm2(x_D)), compressor.omega(d), rel_tol=1e-4)  # the peak, rounded, is not quite hit


def test_constants_are_below_those_of_the_papers() -> None:
    for d in (1, 2, 10, 1000, 10**6):
        for levels in (1, 2, 7, 127):
            assert Dithering(levels=levels).omega(d) <= min(d / levels**2, math.sqrt(d) / levels) + 1e-12
        for levels in (1, 3, 8):
            root = math.sqrt(d) * 2.0 ** (1 - levels)
            assert NaturalDithering(levels=levels, norm="l2").omega(d) <= 0.125 + root * min(1, root)
    assert math.isclose(Ternary().omega(10**4), (math.sqrt(10**4) - 1) / 2)


def test_encode_draws_from_the_workers_own_stream() -> None:
    x_D = np.random.default_rng(0).standard_normal(100)
    mine, yours = (Dithering(levels=1).encode(x_D, Draws(0, 0, worker)) for worker in (0, 1))
    assert not np.array_equal(mine.level_D, yours.level_D)
    assert mine.level_D.dtype == np.int8
    assert Dithering(levels=128).encode(x_D, Draws(0, 0, 0)).level_D.dtype == np.int16


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1.0, 1e200])
def test_the_norm_neither_overflows_nor_underflows(scale: float) -> None:
    assert math.isclose(euclidean(np.array([3.0, -4.0]) * scale)[0], 5 * scale, rel_tol=1e-14)
    assert euclidean(np.zeros(3)).tolist() == [0.0]


@pytest.mark.parametrize("compressor", [Dithering(levels=4), Ternary(), BlockInt8(), NaturalDithering()], ids=repr)
def test_a_scale_that_overflows_is_refused(compressor: Compressor) -> None:
    with pytest.raises(NotFiniteError, match="overflows float32"):
        compressor.encode(np.array([1.0, 1e200]), Draws(0, 0, 0))


def test_bits_count_levels_and_scales() -> None:
    assert Dithering(levels=7).bits(100) == 4 * 100 + 32
    assert Dithering(levels=127, norm="max", block=64).bits(100) == 8 * 100 + 64
    assert math.isclose(Ternary().bits(100), 100 * math.log2(3) + 32)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"levels": 0}, "dithering.levels must be a whole number from 1 to 32767, got 0"),
        ({"levels": 2.5}, "got 2.5"),
        ({"levels": 32768}, "got 32768"),
        ({"levels": 1, "norm": "l1"}, "dithering.norm must be 'l2' or 'max', got 'l1'"),
        ({"levels": 1, "norm": "max", "block": 0}, "dithering.block must be a whole number of at least 1, got 0"),
        ({"levels": 1, "block": 4}, "dithering.block needs norm 'max', got 'l2'"),
    ],
)
def test_parameters_that_do_not_fit_are_named(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Dithering(**params)
