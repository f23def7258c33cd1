from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from saddlebag.compression import Draws, Natural, Purpose
from saddlebag.compression.compressors.quantisers.natural import natural_at
from saddlebag.errors import NotFiniteError

SMALLEST, LARGEST = 2.0**-126, 2.0**127
LAST_UNIFORM = 1.0 - 2.0**-53
WIDTHS = {np.float16: 16, np.float32: 32, np.float64: 64}


def rounded(x: np.floating, uniform: float) -> float:
    value_D = natural_at(np.array([x]), np.array([uniform]))
    assert value_D.dtype == np.float32
    assert value_D.shape == (1,)
    return float(value_D[0])


def two_outcomes(x: np.floating) -> tuple[float, float, Fraction]:
    """(low, high, probability of high): both ends of [0, 1), and the exact place where the outcome changes."""
    low, high = rounded(x, LAST_UNIFORM), rounded(x, 0.0)
    if low == high:
        return low, high, Fraction(0)
    chance = float((Fraction(float(x)) - Fraction(low)) / (Fraction(high) - Fraction(low)))
    assert rounded(x, chance) == low
    assert rounded(x, math.nextafter(chance, 0.0)) == high
    return low, high, Fraction(chance)


def is_power(value: float) -> bool:
    return abs(math.frexp(value)[0]) == 0.5


@st.composite
def normal_numbers(draw: st.DrawFn) -> np.floating:
    dtype = draw(st.sampled_from(sorted(WIDTHS, key=WIDTHS.__getitem__)))
    low = max(SMALLEST, float(np.finfo(dtype).smallest_subnormal))
    high = min(LARGEST, float(np.finfo(dtype).max))
    return dtype(draw(st.floats(low, high, width=WIDTHS[dtype])) * draw(st.sampled_from([-1, 1])))


@given(normal_numbers())
@example(np.float64(1.5))  # the worst case of the second moment is 4/3
@example(np.float64(4 / 3))
@example(np.float64(math.nextafter(2.0, 0.0)))
@example(np.float64(-math.nextafter(LARGEST, 0.0)))
@example(np.float64(LARGEST))
@example(np.float64(SMALLEST))
@example(np.float16(6e-8))
def test_two_powers_unbiased_with_second_moment_nine_eighths(x: np.floating) -> None:
    low, high, chance = two_outcomes(x)
    exact = Fraction(float(x))
    assert is_power(low)
    assert is_power(high)
    assert high in (low, 2 * low)
    assert chance * Fraction(high) + (1 - chance) * Fraction(low) == exact
    assert chance * Fraction(high) ** 2 + (1 - chance) * Fraction(low) ** 2 <= Fraction(9, 8) * exact**2


def test_the_second_moment_is_attained() -> None:
    low, high, chance = two_outcomes(np.float64(4 / 3))
    second = float(chance * Fraction(high) ** 2 + (1 - chance) * Fraction(low) ** 2)
    assert math.isclose(second, 9 / 8 * (4 / 3) ** 2, rel_tol=1e-15)  # 4/3 is rounded
    assert Natural().omega(1) == 1 / 8


@given(st.floats(0.0, SMALLEST, exclude_max=True), st.sampled_from([-1, 1]))
@example(5e-324, 1)
@example(math.nextafter(SMALLEST, 0.0), -1)
def test_below_the_normal_numbers_zero_or_the_smallest(magnitude: float, sign: int) -> None:
    low, high, chance = two_outcomes(np.float64(sign * magnitude))
    assert low == 0.0
    assert high == (sign * SMALLEST if magnitude else 0.0)
    assert chance * Fraction(high) == sign * Fraction(magnitude)


def test_powers_and_zeros_stay() -> None:
    x_D = np.array([0.0, -0.0, 1.0, -2.0, SMALLEST, -LARGEST])
    for uniform in (0.0, 0.5, LAST_UNIFORM):
        assert natural_at(x_D, np.full(6, uniform)).tobytes() == x_D.astype(np.float32).tobytes()
    assert natural_at(np.empty(0), np.empty(0)).shape == (0,)


@pytest.mark.parametrize("huge", [math.nextafter(LARGEST, math.inf), 2.0**128, -3e38, 1.7e308])
@pytest.mark.parametrize("uniform", [0.0, LAST_UNIFORM])
def test_an_overflow_is_refused_whatever_the_draw(huge: float, uniform: float) -> None:
    with pytest.raises(NotFiniteError, match=r"magnitudes up to 2\^127"):
        natural_at(np.array([1.0, huge]), np.array([uniform, uniform]))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_encode_is_the_map_at_the_drawn_uniforms(dtype: type[np.floating]) -> None:
    x_D, draws = np.random.default_rng(0).standard_normal(100).astype(dtype), Draws(1, 2, 3)
    payload = Natural().encode(x_D, draws)
    assert np.array_equal(payload.value_D, natural_at(x_D, draws.own(Purpose.ROUNDING).uniforms(100)))
    assert payload.value_D.dtype == np.float32
    assert all(map(is_power, payload.value_D.tolist()))
    assert Natural().bits(100) == 900.0
