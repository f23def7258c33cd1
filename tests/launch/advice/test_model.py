"""The decision with fixed numbers: no clock."""

from __future__ import annotations

import math
from typing import Any

import pytest

from saddlebag.launch.advice.echo import Link
from saddlebag.launch.advice.model import WORTH, Costs, Network, Prediction, judge, predict

FAST = Link(up=8e9, down=8e9, latency_s=0.0, source="gRPC")


def costs(name: str, message_bytes: float, **changes: Any) -> Costs:
    numbers: dict[str, Any] = {
        "parameters": {},
        "kind": "unbiased",
        "error": 0.0,
        "compress_s": 0.0,
        "apply_s": 0.0,
        "gather_s": 0.0,
    }
    return Costs(name=name, message_bytes=message_bytes, **(numbers | changes))


def network(rate: float, latency_s: float = 0.0, workers: int = 8, **changes: Any) -> Network:
    link = Link(up=rate, down=rate, latency_s=latency_s, source="given")
    return Network(**{"link": link, "workers": workers, "server_rate": math.inf, "transport": FAST, **changes})


DENSE = costs("identity", 40e6, compress_s=0.01, apply_s=0.011, gather_s=0.011)
TOP_K = costs("top_k", 0.4e6, compress_s=0.05, apply_s=0.003, gather_s=0.003)


def test_every_stage_is_counted() -> None:
    got = predict(TOP_K, network(1e8, latency_s=0.02), compute_s=0.3)
    assert got.up_s == got.down_s == pytest.approx(0.02 + 0.032)
    assert got.server_s == pytest.approx(8 * 0.003 + 0.05)
    assert got.apply_s == pytest.approx(0.003)
    assert got.total_s == pytest.approx(0.3 + 0.05 + 2 * 0.052 + 0.074 + 0.003)


@pytest.mark.parametrize(
    ("net", "seconds"),
    [
        (network(1e8), 3.2),  # the worker's link: 40 MB at 100 Mbit/s
        (network(1e9, server_rate=1e9), 2.56),  # eight of them through the server's 1 Gbit/s
        (network(1e12), 0.32),  # 320 MB at the 8 Gbit/s of gRPC
        (network(1e12, workers=1), 0.04),
    ],
)
def test_the_slowest_of_link_server_and_transport_decides(net: Network, seconds: float) -> None:
    assert net.up_s(40e6) == net.down_s(40e6) == pytest.approx(seconds)


def test_up_and_down_have_their_own_rates() -> None:
    link = Link(up=1e6, down=1e8, latency_s=0.001, source="given")
    net = network(0.0, link=link)
    assert net.up_s(1e5) == pytest.approx(0.801)
    assert net.down_s(1e5) == pytest.approx(0.009)


def judged(net: Network, *others: Costs, compute_s: float = 0.0) -> Any:
    return judge(predict(DENSE, net, compute_s), [predict(each, net, compute_s) for each in others])


def test_on_a_slow_link_compression_pays() -> None:
    verdict = judged(network(1e8, 0.001), TOP_K)
    assert verdict.compress
    assert [prediction.costs.name for prediction in verdict.ranked] == ["top_k", "identity"]
    dense, top_k = verdict.ranked[1].total_s, verdict.ranked[0].total_s
    assert verdict.speedups == (dense / top_k, 1.0)
    assert dense / top_k == pytest.approx(34, rel=0.05)
    assert verdict.reason.startswith("compress: top_k makes a round 3")
    assert "98 % of its time in the network" in verdict.reason


def test_on_a_fast_link_to_few_workers_dense_wins() -> None:
    """320 Gbit/s and gRPC that keeps up: 2 ms for 40 MB, and Top-k alone costs 50 ms at each end."""
    fast = network(3.2e11, workers=1, transport=Link(up=1e13, down=1e13, latency_s=0.0, source="gRPC"))
    verdict = judged(fast, TOP_K)
    assert not verdict.compress
    assert verdict.ranked[0].costs.name == "identity"
    assert verdict.reason.startswith("do not compress: dense is 2.")
    assert "faster than the fastest compressor, top_k" in verdict.reason


def test_a_gain_of_a_few_per_cent_is_none() -> None:
    """Ten seconds of the workers' own computing hide what three seconds of network could save."""
    verdict = judged(network(1e8), TOP_K, compute_s=100.0)
    assert verdict.ranked[0].costs.name == "top_k"
    assert not verdict.compress
    assert "the fastest, top_k, saves 6 % of a round only" in verdict.reason
    assert "in the workers" in verdict.reason


@pytest.mark.parametrize(("dense_s", "compress"), [(WORTH * 1.001, True), (WORTH * 0.999, False)])
def test_the_limit(dense_s: float, compress: bool) -> None:
    def seconds(name: str, total: float) -> Prediction:
        return Prediction(costs=costs(name, 1), compute_s=total, compress_s=0, up_s=0, server_s=0, down_s=0, apply_s=0)

    assert judge(seconds("identity", dense_s), [seconds("x", 1.0)]).compress is compress


def test_the_fastest_with_little_error_is_named_where_it_is_worth_it() -> None:
    lossy = costs("top_k", 1e5, error=0.9)
    fine, finer = costs("int8", 1e7, error=0.01), costs("half", 2e7, error=1e-3)
    verdict = judged(network(1e8), lossy, fine, finer)
    assert verdict.gentle is not None
    assert verdict.gentle.costs is fine
    assert judged(network(1e8), lossy).gentle is None
    assert judged(network(1e8), fine, compute_s=1000.0).gentle is None, "not worth it"


def test_with_nothing_to_compare_dense_it_is() -> None:
    verdict = judged(network(1e8))
    assert not verdict.compress
    assert verdict.speedups == (1.0,)
    assert verdict.reason.startswith("do not compress: there is nothing to compare")
