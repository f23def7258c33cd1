from __future__ import annotations

import math

import numpy as np
import pytest

from saddlebag.compression import require_finite
from saddlebag.compression.values import cast, kept
from saddlebag.errors import ConfigError, NotFiniteError


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_cast_copies_and_rounds_once(dtype: type[np.floating]) -> None:
    x_D = np.array([1.0, -0.0, 1 / 3, 6e-8], dtype)
    value_D = cast(x_D)
    assert value_D.dtype == np.float32
    assert not np.shares_memory(value_D, x_D)
    assert value_D.tobytes() == x_D.astype(np.float32).tobytes()


def test_cast_says_which_type_overflows() -> None:
    with pytest.raises(NotFiniteError, match=r"overflows float32: largest magnitude 1e\+39"):
        cast(np.array([0.0, -1e39]))
    assert cast(np.array([1e39]), np.float64)[0] == 1e39


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_what_is_not_finite_is_named_with_its_place(bad: float, dtype: type[np.floating]) -> None:
    x_D = np.ones(5, dtype)
    x_D[3] = bad
    for call in (lambda: cast(x_D), lambda: require_finite(x_D, "it")):
        with pytest.raises(NotFiniteError, match=rf"must be finite, got {bad} at coordinate 3 of 5"):
            call()


def test_a_signalling_nan_is_refused_without_a_warning() -> None:
    x_D = np.array([0x7FF0_0000_0000_0001], np.uint64).view(np.float64)
    for call in (lambda: cast(x_D), lambda: require_finite(x_D, "it")):
        with pytest.raises(NotFiniteError, match="got nan"):
            call()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_sum_that_overflows_is_no_reason_to_refuse(dtype: type[np.floating]) -> None:
    require_finite(np.full(9, np.finfo(dtype).max), "it")
    require_finite(np.empty(0, dtype), "it")


@pytest.mark.parametrize(("fraction", "d", "size"), [(0.1, 100, 10), (0.1, 1, 1), (1e-9, 50, 1), (1.0, 7, 7), (0.5, 3, 2)])
def test_a_fraction_keeps_at_least_one(fraction: float, d: int, size: int) -> None:
    assert kept(None, fraction, d, "it") == size


def test_k_must_fit_the_dimension() -> None:
    with pytest.raises(ConfigError, match="it needs 1 <= k <= d, got k=4 for d=3; lower k or give a fraction"):
        kept(4, None, 3, "it")
