from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from saddlebag.compression import Draws, ScaledSign
from saddlebag.errors import ConfigError, NotFiniteError

SIZES = st.one_of(st.just(0.0), st.floats(2.0**-100, 2.0**100), st.floats(-(2.0**100), -(2.0**-100)))


def square(values: list[Fraction]) -> Fraction:
    return sum((value**2 for value in values), Fraction(0))


@given(hnp.arrays(np.float64, st.integers(1, 9), elements=SIZES))
@example(np.array([0.0, 0.0, 5.0]))
@example(np.full(7, -3.0))
def test_contracts_by_the_density_of_the_vector(x_D: np.ndarray) -> None:
    exact = [Fraction(x) for x in x_D.tolist()]
    sent = [Fraction(value) for value in ScaledSign().encode(x_D, Draws(0, 0)).dense().tolist()]
    error2 = square([a - b for a, b in zip(exact, sent, strict=True)])
    l1 = sum(map(abs, exact), Fraction(0))
    rounding = square(exact) * Fraction(1, 2**40)  # of the scale to float32: second order at the minimum, and of the sum
    assert error2 <= square(exact) - l1**2 / len(exact) + rounding
    assert error2 <= (1 - Fraction(1, len(exact)) + Fraction(1, 2**40)) * square(exact)


def test_alpha_is_attained_by_one_entry_up_to_the_zeros() -> None:
    """With sign(0) = 0 a single entry keeps the error (1 - 1/d)^2, just below the bound 1 - 1/d; density is attained."""
    d = 1000
    error_D = ScaledSign().encode(np.eye(d)[3], Draws(0, 0)).dense() - np.eye(d)[3]
    assert math.isclose(error_D @ error_D, (1 - 1 / d) ** 2, rel_tol=1e-6)
    x_D = np.random.default_rng(0).standard_normal(d)
    error_D = ScaledSign().encode(x_D, Draws(0, 0)).dense() - x_D
    density = np.abs(x_D).sum() ** 2 / (d * (x_D @ x_D))
    assert math.isclose(error_D @ error_D, (1 - density) * (x_D @ x_D), rel_tol=1e-6)


def test_blocks_have_their_own_scale() -> None:
    payload = ScaledSign(block=2).encode(np.array([1.0, -3.0, 0.0, 8.0, 5.0]), Draws(0, 0))
    assert payload.dense().tolist() == [2.0, -2.0, 0.0, 4.0, 5.0]
    assert ScaledSign(block=2).alpha(5) == 0.5
    assert ScaledSign(block=2).bits(5) == 5 + 3 * 32
    assert ScaledSign().alpha(5) == 0.2


def test_faults_are_named() -> None:
    with pytest.raises(NotFiniteError, match="overflows float32: mean magnitude"):
        ScaledSign().encode(np.full(3, 1e300), Draws(0, 0))
    with pytest.raises(ConfigError, match=r"scaled_sign.block must be a whole number of at least 1, got 0"):
        ScaledSign(block=0)
