from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saddlebag.compression import (
    Contractive,
    Draws,
    Identity,
    Natural,
    PermK,
    RandK,
    TopK,
    Unbiased,
    check_compressor,
    errors_average,
    make_compressor,
    mean_noise,
)
from saddlebag.compression.combinators.schedule import scheduled
from saddlebag.errors import ConfigError

X = np.random.default_rng(0).standard_normal(64)


@given(rounds=st.lists(st.integers(1, 40), max_size=5, unique=True), worker=st.integers(0, 9), seed=st.integers(0, 2**63))
def test_the_piece_is_a_function_of_the_round_alone(rounds: list[int], worker: int, seed: int) -> None:
    starts = [0, *sorted(rounds)]
    compressor: Any = scheduled([(start, TopK(k=number + 1)) for number, start in enumerate(starts)])
    for round_ in range(42):
        expected = max(number for number, start in enumerate(starts) if start <= round_) + 1
        assert compressor._at(round_) == TopK(k=expected)
        assert len(compressor.encode(X, Draws(seed, round_, worker)).index_K) == expected


def test_constants_are_the_worst_of_the_pieces() -> None:
    unbiased: Any = scheduled([(0, RandK(k=32)), (9, RandK(k=2)), (20, Natural())])
    assert (unbiased.omega(64), unbiased.bits(64)) == (31, 1024)
    assert not isinstance(unbiased, Contractive)
    contractive: Any = scheduled([(0, TopK(k=32)), (9, Identity())])
    assert (contractive.alpha(64), contractive.bits(64)) == (0.5, 2048)
    assert not isinstance(contractive, Unbiased), "top_k is not"
    both = scheduled([(0, Identity()), (3, Identity(dtype="float64"))])
    assert isinstance(both, Unbiased)
    assert isinstance(both, Contractive)
    check_compressor(scheduled([(0, RandK(k=1)), (100, Natural())]), dimensions=(1, 7), num_draws=400)


def test_shared_draws_of_one_piece_are_shared_draws() -> None:
    own, common = RandK(k=1), RandK(k=1, support="common")
    assert errors_average(scheduled([(0, own), (1, own)]))
    assert not errors_average(scheduled([(0, own), (1, common)]))


def test_the_noise_of_a_mean_is_the_worst_of_the_pieces() -> None:
    """A mixture of laws about the mean: neither Perm-k's nor a common support's holds in the other's rounds."""
    own, common, dealt = RandK(k=16), RandK(k=32, support="common"), PermK(workers=4)
    assert mean_noise(own, 64, 4) == (0.75, 0.0)
    assert mean_noise(common, 64, 4) == (0.0, -1.0)
    assert mean_noise(dealt, 64, 4) == (1.0, 1.0)
    both: Any = scheduled([(0, own), (1, common), (2, dealt)])
    assert mean_noise(both, 64, 4) == (1.0, -1.0)
    assert mean_noise(scheduled([(0, own), (1, RandK(k=32))]), 64, 4) == (0.75, 0.0)
    assert both.jointly == 4, "so a run with another number of workers refuses it"
    assert scheduled([(0, own)]).jointly == 0  # type: ignore[attr-defined]


def test_a_table_of_pieces() -> None:
    pieces = [{"round": 0, "name": "top_k", "k": 8}, {"round": 100, "name": "top_k", "fraction": 0.01}]
    assert make_compressor("schedule", pieces=pieces) == scheduled([(0, TopK(k=8)), (100, TopK(fraction=0.01))])


def test_geometric_decay() -> None:
    def table(**params: Any) -> list[tuple[int, float]]:
        compressor: Any = make_compressor("decay", **params)
        return [(round_, piece.k or piece.fraction) for round_, piece in compressor.pieces]

    down = {"of": "top_k", "parameter": "k", "ratio": 0.5}
    assert table(**down, first=8, every=10, last=1) == [(0, 8), (10, 4), (20, 2), (30, 1)]
    assert table(**down, first=8, every=10, last=3) == [(0, 8), (10, 4), (20, 3)]
    assert table(**down, first=3.0, every=1, last=1.0) == [(0, 3), (1, 2), (2, 1)], "1.5 rounds to 2, 0.75 is below the last"
    up = {"of": "rand_k", "parameter": "fraction", "ratio": 2.0, "support": "common"}
    assert table(**up, first=0.1, every=5, last=0.3) == [(0, 0.1), (5, 0.2), (10, 0.3)]


def test_every_value_of_a_slow_decay_is_used_once() -> None:
    slow: Any = make_compressor("decay", of="top_k", parameter="k", first=5, ratio=0.9, every=2, last=1)
    values = [piece.k for _, piece in slow.pieces]
    assert values == sorted(set(values), reverse=True)
    assert (values[0], values[-1]) == (5, 1)
    assert [slow._at(2 * j).k for j in range(20)] == [max(1, round(5 * 0.9**j)) for j in range(20)]


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("schedule", {"pieces": []}, r"must start at rounds that ascend strictly from 0, got \[\]"),
        ("schedule", {"pieces": [{"round": 1, "name": "natural"}]}, r"ascend strictly from 0, got \[1\]"),
        ("schedule", {"pieces": [{"round": 0.0, "name": "natural"}]}, r"ascend strictly from 0, got \[0.0\]"),
        ("schedule", {"pieces": [{"round": 0, "name": "natural"}] * 2}, r"ascend strictly from 0, got \[0, 0\]"),
        ("schedule", {"pieces": [{"name": "natural"}]}, "pieces.0 must be a table with round and name"),
        ("schedule", {"pieces": [{"round": 0, "name": "top_k", "k": 0}]}, "pieces.0: top_k.k must be a whole number"),
        (
            "schedule",
            {"pieces": [{"round": 0, "name": "natural"}, {"round": 1, "name": "top_k", "k": 1}]},
            "must be all unbiased or all contractive: Natural is unbiased, TopK is contractive",
        ),
        ("decay", {"first": 8, "ratio": 2.0, "every": 1, "last": 1}, "decay needs 0 < ratio that leads from first to last"),
        ("decay", {"first": 8, "ratio": 1.0, "every": 1, "last": 1}, "decay needs 0 < ratio"),
        ("decay", {"first": 8, "ratio": 0.5, "every": 0, "last": 1}, "decay.every must be a whole number of at least 1, got 0"),
        ("decay", {"first": 0.9, "ratio": 0.999, "every": 1, "last": 0.1}, "has more than 1000 pieces; change the ratio"),
    ],
)
def test_refusals(name: str, params: dict[str, Any], message: str) -> None:
    extra = {"of": "top_k", "parameter": "fraction" if params.get("first") == 0.9 else "k"} if name == "decay" else {}
    with pytest.raises(ConfigError, match=message):
        make_compressor(name, **extra, **params)
