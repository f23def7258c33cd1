"""Payloads run by run are payloads as a whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from saddlebag.compression import Concat, Draws, LowRank, Slices, feed_back, feed_back_in_place, make_compressor, runs_of

D = 1003
COMPRESSORS: list[dict[str, Any]] = [
    {"name": "identity"},
    {"name": "identity", "dtype": "float64"},
    {"name": "cast", "dtype": "bfloat16"},
    {"name": "natural"},
    {"name": "grid", "step": 0.5},
    {"name": "grid", "step": 0.3, "block": 37},
    {"name": "nearest_int8", "block": 64},
    {"name": "natural_dithering"},
    {"name": "top_k", "k": 20},
    {"name": "rand_k", "k": 20},
    {"name": "chunk_top_k", "chunk": 64, "k": 4},
    {"name": "compose", "sparsifier": {"name": "top_k", "k": 50}, "values": {"name": "nearest_int8"}},
]


def names(table: dict[str, Any]) -> str:
    return "-".join(str(value) for value in table.values() if not isinstance(value, dict))


@pytest.fixture
def x_D() -> np.ndarray:
    return np.random.default_rng(0).standard_normal(D).astype(np.float32)


@pytest.mark.parametrize("table", COMPRESSORS, ids=names)
@pytest.mark.parametrize("size", [1, 7, 100, D])
def test_runs_are_slices_of_the_vector(table: dict[str, Any], size: int, x_D: np.ndarray) -> None:
    payload = make_compressor(**table).encode(x_D, Draws(0, 0))
    both = Concat((payload, payload))
    slices, out_D, wide_D = Slices(both), np.zeros(2 * D, np.float32), np.zeros(2 * D)
    for here in runs_of(2 * D, size):
        slices.add(here.start, out_D[here])
        slices.add(here.start, wide_D[here])
        room_B = np.full(size, np.nan, np.float32)
        assert np.array_equal(slices.read(here, room_B), both.dense()[here].astype(np.float32))
    assert np.array_equal(wide_D, both.dense())
    assert np.array_equal(out_D, both.dense().astype(np.float32))


def test_a_payload_without_runs_is_held(x_D: np.ndarray) -> None:
    payload = LowRank(D, x_D[:60].reshape(-1, 2)[:30], np.ones((34, 2), np.float32))
    out_D = np.zeros(D, np.float32)
    for here in runs_of(D, 64):
        Slices(payload).add(here.start, out_D[here])
    assert np.array_equal(out_D, payload.dense().astype(np.float32))


@pytest.mark.parametrize("table", COMPRESSORS, ids=names)
def test_feedback_in_place_sends_the_same_and_owes_the_same(table: dict[str, Any], x_D: np.ndarray) -> None:
    compressor, owed_D = make_compressor(**table), x_D.copy()
    sent = feed_back_in_place(compressor, owed_D, Draws(0, 0))
    expected, rest_D = feed_back(compressor, x_D, np.zeros(D, np.float32), Draws(0, 0))
    assert np.array_equal(sent.dense(), expected.dense())
    assert owed_D.dtype == np.float32
    assert owed_D == pytest.approx(rest_D, rel=1e-5, abs=1e-6)
    assert np.array_equal(owed_D, x_D - sent.dense().astype(np.float32))
