from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from saddlebag.compression import (
    Contractive,
    Dithering,
    Draws,
    Natural,
    PowersOfTwo,
    RandK,
    Ternary,
    Unbiased,
    UnscaledRandK,
    make_compressor,
    scaled,
)
from saddlebag.errors import ConfigError


@pytest.mark.parametrize("unbiased", [Ternary(), Dithering(levels=2)], ids=repr)
@given(x_D=hnp.arrays(np.float64, st.integers(1, 8), elements=st.floats(-100, 100).map(lambda x: round(x, 3))))
def test_contracts_over_all_words(unbiased: Any, x_D: np.ndarray, moments: Any) -> None:
    compressor = scaled(unbiased=unbiased)
    assert isinstance(compressor, Contractive)
    assert not isinstance(compressor, Unbiased)
    _, error2 = moments(compressor, x_D)
    norm2 = sum((Fraction(x) ** 2 for x in x_D.tolist()), Fraction(0))
    assert error2 <= (1 - Fraction(compressor.alpha(len(x_D))) + Fraction(1, 2**20)) * norm2


def test_alpha_is_attained_where_omega_is(moments: Any) -> None:
    compressor = scaled(unbiased=Dithering(levels=1))
    _, error2 = moments(compressor, np.ones(16))
    assert math.isclose(compressor.alpha(16), 1 / 4)
    assert math.isclose(float(error2) / 16, 1 - 1 / 4, rel_tol=1e-6)


def test_scaled_rand_k_is_unscaled_rand_k() -> None:
    x_D, draws = np.array([4.0, -8.0, 12.0, 2.0]), Draws(0, 1, 2)
    assert np.array_equal(scaled(unbiased=RandK(k=2)).encode(x_D, draws).dense(), UnscaledRandK(k=2).encode(x_D, draws).dense())
    assert scaled(unbiased=RandK(k=2)).alpha(4) == UnscaledRandK(k=2).alpha(4)


def test_the_payload_is_that_of_the_unbiased_one() -> None:
    compressor = make_compressor("scaled", unbiased={"name": "natural"})
    assert isinstance(compressor.encode(np.ones(5), Draws(0, 0, 0)), PowersOfTwo)
    assert compressor.bits(5) == Natural().bits(5)


def test_a_contractive_one_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"scaled.unbiased must be unbiased, got TopK"):
        make_compressor("scaled", unbiased={"name": "top_k", "k": 1})
