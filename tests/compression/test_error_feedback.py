from __future__ import annotations

import numpy as np
import pytest

from saddlebag.compression import Compressor, Draws, Identity, Natural, RandK, TopK, UnscaledRandK, feed_back

D, NUM_ROUNDS = 30, 300
# what is left of a number after rounding it to fewer bits, or to a neighbouring power of two, is a float64
EXACT: list[Compressor] = [
    TopK(k=3),
    TopK(k=D),
    UnscaledRandK(k=4),
    UnscaledRandK(k=4, support="common"),
    Identity(),
    Natural(),
]
each = pytest.mark.parametrize("compressor", EXACT, ids=repr)


@each
def test_every_round_sends_and_carries_what_is_owed_to_the_last_bit(compressor: Compressor) -> None:
    rng, memory_D = np.random.default_rng(0), np.zeros(D)
    for round_ in range(NUM_ROUNDS):
        x_D = rng.standard_normal(D) * 10.0 ** rng.integers(-30, 30, D)
        owed_D = memory_D + x_D
        payload, memory_D = feed_back(compressor, x_D, memory_D, Draws(0, round_, 1))
        assert memory_D.dtype == np.float64
        assert np.array_equal(payload.dense() + memory_D, owed_D)


@each
def test_sent_plus_carried_is_the_sum_of_the_inputs(compressor: Compressor) -> None:
    """Exactly: inputs are multiples of 2^-20 and sums stay below 2^30, which float64 holds without rounding."""
    rng = np.random.default_rng(1)
    sent_D, memory_D, sum_D = np.zeros(D), np.zeros(D), np.zeros(D)
    for round_ in range(NUM_ROUNDS):
        x_D = rng.integers(-(2**30), 2**30, D) * 2.0**-20
        payload, memory_D = feed_back(compressor, x_D, memory_D, Draws(1, round_, 0))
        payload.add_to(sent_D)
        sum_D += x_D
    assert np.abs(sum_D).max() < 2**30
    assert np.array_equal(sent_D + memory_D, sum_D)


@each
def test_sums_of_any_numbers_agree_to_rounding(compressor: Compressor) -> None:
    rng = np.random.default_rng(2)
    sent_D, memory_D, sum_D, size_D = (np.zeros(D) for _ in range(4))
    for round_ in range(NUM_ROUNDS):
        x_D = rng.standard_normal(D)
        payload, memory_D = feed_back(compressor, x_D, memory_D, Draws(2, round_, 0))
        payload.add_to(sent_D)
        sum_D += x_D
        size_D += np.abs(x_D) + np.abs(memory_D)
    assert (np.abs(sent_D + memory_D - sum_D) <= 1e-12 * size_D).all()  # 3 additions of 1e-16 in each of 300 rounds


def test_the_memory_subtracts_the_payload_after_its_rounding() -> None:
    x_D = np.array([1 / 3, 1.0])
    payload, memory_D = feed_back(TopK(k=2), x_D, np.zeros(2), Draws(0, 0))
    assert memory_D.tolist() == [1 / 3 - float(np.float32(1 / 3)), 0.0]
    assert np.array_equal(payload.dense(), x_D.astype(np.float32))


def test_the_arguments_are_left_alone() -> None:
    x_D, memory_D = np.ones(4), np.full(4, 0.25)
    feed_back(RandK(k=2), x_D, memory_D, Draws(0, 0, 0))
    assert x_D.tolist() == [1.0] * 4
    assert memory_D.tolist() == [0.25] * 4


def test_an_input_in_float32_meets_a_memory_in_float64() -> None:
    x_D = np.array([0.1, 5.0], np.float32)
    _, memory_D = feed_back(TopK(k=1), x_D, np.array([1e-12, 0.0]), Draws(0, 0))
    assert memory_D.tolist() == [float(x_D[0]) + 1e-12, 0.0]
