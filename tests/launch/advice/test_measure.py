from __future__ import annotations

import time

import numpy as np
import pytest

from saddlebag.algorithms import Message
from saddlebag.compression import Concat, Dense, Draws, Identity, Natural, RandK, RankR, TopK, Total
from saddlebag.launch.advice.entropy import log2_binomial
from saddlebag.launch.advice.measure import SEED, family_of, measure, timed
from saddlebag.launch.advice.vectors import synthetic
from saddlebag.proto.codec import encode


def test_what_is_measured_is_what_is_encoded() -> None:
    x_D = synthetic("gaussian", 2000)
    got = measure(TopK(k=20), x_D, draws=2, seconds=0.001)
    payload = TopK(k=20).encode(x_D, Draws(SEED, 0, 0))
    data = b"".join(encode(Message((payload,))))
    assert got.encoded_bytes == len(data)
    assert got.entropy_bytes == pytest.approx((640 + log2_binomial(2000, 20)) / 8)
    assert got.index_bits == (len(data) - 81) * 8 / 20, "20 float32 and their layout byte are the values"
    assert got.index_bound_bits == pytest.approx(log2_binomial(2000, 20) / 20)
    assert got.model_bits == TopK(k=20).bits(2000)
    assert got.error2 == pytest.approx(
        1 - np.sort(x_D.astype(np.float64) ** 2)[-20:].sum() / (x_D.astype(np.float64) ** 2).sum()
    )
    assert min(got.compress_s, got.encode_s, got.decode_s, got.apply_s) > 0


def test_errors_are_means_over_draws() -> None:
    """Equal magnitudes: every support has the same error, and it is omega."""
    got = measure(RandK(k=5), np.ones(50, np.float32), draws=3, seconds=0.001)
    assert got.error2 == pytest.approx(RandK(k=5).omega(50))
    assert (got.index_bits, got.draws) == (None, 3)
    assert measure(Natural(), np.zeros(8), draws=1, seconds=0.001).error2 == 0


def test_families() -> None:
    x_D, draws = synthetic("gaussian", 64), Draws(0, 0, 0)
    dense = Dense(x_D)
    for payload, family in (
        (TopK(k=3).encode(x_D, draws), "chosen coordinates"),
        (RandK(k=3).encode(x_D, draws), "seeded coordinates"),
        (RankR(rank=1).encode(x_D, draws), "low rank"),
        (Natural().encode(x_D, draws), "quantised"),
        (Identity().encode(x_D, draws), "quantised"),
        (Concat((dense, dense)), "combined"),
        (Total((dense, dense)), "combined"),
    ):
        assert family_of(payload) == family


def test_timing_keeps_its_budget_and_runs_three_times_at_least() -> None:
    calls: list[float] = []
    timed(lambda: calls.append(0.0), 1.0)
    assert len(calls) == 25
    timed(lambda: calls.append(0.0), 0.0)
    assert len(calls) == 28


def test_timing_is_that_of_the_fastest_run() -> None:
    seconds = iter([0.05, 0.0, 0.0])

    def call() -> None:
        end = time.process_time() + next(seconds)
        while time.process_time() < end:
            pass

    assert timed(call, 0.0) < 0.02
