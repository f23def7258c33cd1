from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saddlebag.compression import Contractive, TopK, Unbiased, check_compressor, errors_average, make_compressor, mean_noise
from saddlebag.compression.combinators.budget import HEADER_BYTES, SLACK, budget, largest
from saddlebag.errors import ConfigError


@given(d=st.integers(1, 5000), budget_bytes=st.integers(60, 30_000))
def test_the_largest_k_that_fits(d: int, budget_bytes: int) -> None:
    k = largest("top_k", "k", (), d, budget_bytes)
    assert TopK(k=k).bits(d) / 8 * SLACK + HEADER_BYTES <= budget_bytes
    assert k == d or TopK(k=k + 1).bits(d) / 8 * SLACK + HEADER_BYTES > budget_bytes


def test_what_varies_is_k_levels_or_rank() -> None:
    def chosen(of: str, **params: Any) -> Any:
        compressor: Any = budget(of=of, **params)
        return compressor.resolved(10_000)

    assert chosen("rand_k", budget_bytes=453, support="common") == ("rand_k", {"k": 100, "support": "common"})
    assert chosen("dithering", budget_bytes=6500) == ("dithering", {"levels": 15}), "five bits each"
    assert chosen("low_rank", budget_bytes=2000) == ("low_rank", {"rank": 2}), "200 values of 4 bytes for each direction"
    assert chosen("low_rank", budget_bytes=10**9) == ("low_rank", {"rank": 100}), "all there are"
    assert chosen("rand_k", budget_bytes=10**9) == ("rand_k", {"k": 10_000})
    assert chosen("dithering", parameter="block", budget_bytes=10**9, levels=1, norm="max")[1]["block"] > 10_000


def test_a_link_and_a_time_are_a_budget() -> None:
    assert budget(of="top_k", bandwidth=1e6, time_s=0.1) == budget(of="top_k", budget_bytes=12_500)


def test_kinds_and_constants_are_those_of_the_choice() -> None:
    unbiased: Any = budget(of="rand_k", budget_bytes=453)
    assert isinstance(unbiased, Unbiased)
    assert not isinstance(unbiased, Contractive)
    assert unbiased.omega(10_000) == pytest.approx(99)
    contractive: Any = budget(of="unscaled_rand_k", budget_bytes=453)
    assert contractive.alpha(10_000) == pytest.approx(0.01)
    assert contractive.bits(10_000) == 3200
    assert errors_average(unbiased)
    assert not errors_average(budget(of="rand_k", budget_bytes=453, support="common"))
    common = budget(of="rand_k", budget_bytes=453, support="common")
    assert mean_noise(common, 10_000, 8) == pytest.approx((0.0, -99.0))  # type: ignore[arg-type]
    assert mean_noise(unbiased, 10_000, 8) == pytest.approx((99 / 8, 0.0))
    check_compressor(budget(of="rand_k", budget_bytes=60), dimensions=(1, 7, 64), num_draws=400)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"of": "top_k"}, "budget needs either budget_bytes, or bandwidth"),
        ({"of": "top_k", "budget_bytes": 9, "bandwidth": 1.0, "time_s": 1.0}, "budget needs either budget_bytes, or bandwidth"),
        ({"of": "top_k", "bandwidth": 1.0}, "budget needs either budget_bytes, or bandwidth"),
        ({"of": "top_k", "bandwidth": -1.0, "time_s": 1.0}, "positive bandwidth and time_s, got -1.0 and 1.0"),
        ({"of": "top_k", "budget_bytes": 0}, "budget_bytes must be a whole number of at least 1, got 0"),
        ({"of": "top_k", "budget_bytes": 2.5}, "budget_bytes must be a whole number of at least 1, got 2.5"),
        ({"of": "topk", "budget_bytes": 9}, "budget: topk takes none of k, levels, rank .* unknown compressor 'topk'"),
        ({"of": "perm_k", "budget_bytes": 99, "parameter": "workers"}, "budget cannot choose for perm_k"),
        ({"of": "natural", "budget_bytes": 9}, "budget: natural takes none of k, levels, rank"),
        ({"of": "top_k", "budget_bytes": 9, "fraction": 0.1}, "budget: top_k takes none of k, levels, rank"),
    ],
)
def test_refusals(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_compressor("budget", **params)


def test_a_budget_that_nothing_fits_is_refused_with_the_dimension() -> None:
    compressor = budget(of="dithering", budget_bytes=100)
    with pytest.raises(ConfigError, match="budget_bytes=100 is too small for dithering at d=1000: levels=1 may take 302 bytes"):
        compressor.bits(1000)
