from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from saddlebag.compression import Cast, Draws, StochasticBfloat16
from saddlebag.compression.compressors.quantisers.half import bfloat16_at, nearest_bfloat16
from saddlebag.errors import ConfigError, NotFiniteError

LARGEST = 255 * 2.0**120
WIDTHS = {np.float16: 16, np.float32: 32, np.float64: 64}


def nearest_by_definition(x: float) -> float:
    """Of the multiples of the step at x, the nearest; halves to the even one. Exactly, by whole numbers."""
    _, exponent = math.frexp(x)
    step = Fraction(2) ** max(exponent - 8, -133)
    return float(round(Fraction(x) / step) * step)


@given(st.floats(-3.38e38, 3.38e38))
@example(1.0 + 2.0**-8)  # half-way: to the even one
@example(1.0 + 3 * 2.0**-8)
@example(1.0 + 2.0**-8 + 2.0**-50)  # half-way in float32, above it in float64
@example(1.0 + 2.0**-8 - 2.0**-50)
@example(-1.0 - 2.0**-8 - 2.0**-50)
@example(2.0**-134)
@example(2.0**-134 * (1 + 2.0**-40))
@example(5e-324)
@example(0.0)
def test_the_nearest_bfloat16_is_rounded_once(x: float) -> None:
    assert nearest_bfloat16(np.array([x])).tolist() == [nearest_by_definition(x)]
    single = np.float32(x)
    assert nearest_bfloat16(np.array([single])).tolist() == [nearest_by_definition(float(single))]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@given(data=st.data())
def test_contracts_every_vector_of_normal_numbers(dtype: Any, data: st.DataObject) -> None:
    low, high = (2.0**-14, 65504.0) if dtype == "float16" else (2.0**-126, 2.0**127)
    sizes = st.floats(low, high, width=32)
    elements = st.one_of(st.just(0.0), sizes, sizes.map(lambda x: -x))
    x_D = data.draw(hnp.arrays(np.float64, st.integers(1, 6), elements=elements))
    sent_D = Cast(dtype=dtype).encode(x_D, Draws(0, 0)).dense()
    exact, sent = ([Fraction(v) for v in values.tolist()] for values in (x_D, sent_D))
    error2 = sum(((a - b) ** 2 for a, b in zip(exact, sent, strict=True)), Fraction(0))
    assert error2 <= (1 - Fraction(Cast(dtype=dtype).alpha(len(x_D)))) * sum((a**2 for a in exact), Fraction(0)) * (
        1 + Fraction(1, 2**28)  # 1 - alpha is a difference of float64
    )


@pytest.mark.parametrize(("dtype", "step"), [("bfloat16", 2.0**-7), ("float16", 2.0**-10)])
def test_alpha_is_attained_half_way_above_one(dtype: Any, step: float) -> None:
    x_D = np.array([1.0 + step / 2])
    error = float(Cast(dtype=dtype).encode(x_D, Draws(0, 0)).dense()[0] - x_D[0])
    assert math.isclose((error / x_D[0]) ** 2, 1 - Cast(dtype=dtype).alpha(1), rel_tol=1e-8)


@given(magnitude=st.floats(2.0**-126, LARGEST), sign=st.sampled_from([-1, 1]))
@example(magnitude=LARGEST, sign=1)
@example(magnitude=math.nextafter(LARGEST, 0), sign=-1)
@example(magnitude=1 + 2.0**-8, sign=1)
def test_at_random_unbiased_over_all_words(magnitude: float, sign: int, moments: Any) -> None:
    x_D = np.array([sign * magnitude])
    mean, error2 = moments(StochasticBfloat16(), x_D)
    exact = Fraction(x_D[0])
    assert abs(mean[0] - exact) <= abs(exact) * Fraction(1, 2**38)  # 2^-32 of a step of 2^-7
    assert error2 <= Fraction(StochasticBfloat16().omega(1)) * exact**2 * (1 + Fraction(1, 2**20))


def test_omega_is_attained_in_the_first_step_above_a_power_of_two(moments: Any) -> None:
    n = 128.0
    x_D = np.array([2 * n * (n + 1) / (2 * n + 1) / n])
    _, error2 = moments(StochasticBfloat16(), x_D)
    assert math.isclose(float(error2) / x_D[0] ** 2, StochasticBfloat16().omega(1), rel_tol=1e-6)


def test_below_the_normal_numbers_steps_are_even(moments: Any) -> None:
    for magnitude in (2.0**-133 / 4, 2.0**-127 * 1.01, 5e-324):
        mean, _ = moments(StochasticBfloat16(), np.array([-magnitude]))
        assert abs(float(mean[0]) + magnitude) <= 2.0**-133 * 2.0**-31


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_value_is_a_bfloat16(dtype: type[np.floating]) -> None:
    x_D = np.random.default_rng(0).standard_normal(70_000).astype(dtype)
    for compressor in (StochasticBfloat16(), Cast()):
        value_D = compressor.encode(x_D, Draws(0, 0, 0)).value_D
        assert value_D.dtype == np.float32
        assert not (value_D.view(np.uint32) & 0xFFFF).any()
        assert np.abs(value_D / x_D - 1)[x_D != 0].max() <= 2.0**-7


@pytest.mark.parametrize(
    ("compressor", "huge"),
    [(Cast(), 3.4e38), (Cast(), 1e300), (Cast(dtype="float16"), 65520.0), (StochasticBfloat16(), 3.4e38)],
)
def test_an_overflow_is_refused(compressor: Any, huge: float) -> None:
    with pytest.raises(NotFiniteError):
        compressor.encode(np.array([1.0, -huge]), Draws(0, 0, 0))
    for word in (0, 2**32 - 1):
        assert bfloat16_at(np.array([LARGEST]), np.array([word], np.uint32)).tolist() == [LARGEST]


def test_parameters_and_bits() -> None:
    assert Cast().bits(10) == StochasticBfloat16().bits(10) == 160.0
    with pytest.raises(ConfigError, match=r"cast.dtype must be 'bfloat16' or 'float16', got 'float32'"):
        Cast(dtype="float32")  # type: ignore[arg-type]
