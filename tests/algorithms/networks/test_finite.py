from __future__ import annotations

import pytest
import torch

from saddlebag.algorithms.networks.finite import all_finite

HUGE = torch.finfo(torch.float64).max


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], True),
        ([1.0, -2.0, 5e-324], True),
        ([HUGE, HUGE], True),  # their sum is not
        ([HUGE, HUGE, -HUGE, -HUGE], True),
        ([1.0, float("inf")], False),
        ([float("inf"), float("-inf")], False),
        ([HUGE, HUGE, float("-inf")], False),
        ([float("nan"), 1.0], False),
    ],
)
def test_it_says_what_isfinite_says(values: list[float], expected: bool) -> None:
    x_D = torch.tensor(values, dtype=torch.float64)
    assert all_finite(x_D) == bool(x_D.isfinite().all()) == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("place", [0, 4999, 9999])
def test_one_among_many_is_found(dtype: torch.dtype, place: int) -> None:
    x_D = torch.linspace(-1.0, 1.0, 10_000, dtype=dtype)
    assert all_finite(x_D)
    x_D[place] = float("nan")
    assert not all_finite(x_D)
