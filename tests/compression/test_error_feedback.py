from __future__ import annotations

import math

import numpy as np
import pytest

from saddlebag.compression import (
    BlockTopK,
    Cast,
    Compressor,
    Contractive,
    Dense,
    Draws,
    Grid,
    HardThreshold,
    Identity,
    Natural,
    NearestInt4,
    RandK,
    SampledTopK,
    ScaledSign,
    Sparse,
    StochasticBfloat16,
    TopK,
    UnscaledRandK,
    Vector,
    compose,
    feed_back,
    track,
)

D, NUM_ROUNDS = 30, 300
# what is left of a number after rounding it to fewer bits, or to a neighbouring power of two, is a float64
EXACT: list[Compressor] = [
    TopK(k=3),
    TopK(k=D),
    UnscaledRandK(k=4),
    UnscaledRandK(k=4, support="common"),
    Identity(),
    Natural(),
    BlockTopK(block=7, k=1),
    HardThreshold(threshold=1.0),
    SampledTopK(k=3, sample=10),
    UnscaledRandK(k=4, draw="strata"),
    Cast(),
    StochasticBfloat16(),
    compose(sparsifier=TopK(k=3), values=Cast()),
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


# innovations (EF21): what the other side knows

CONTRACTIVE: list[Compressor] = [
    TopK(k=3),
    BlockTopK(block=10, k=2),
    Grid(block=10),
    NearestInt4(block=8),
    ScaledSign(block=5),
    compose(sparsifier=TopK(k=6), values=NearestInt4()),
]
tracked = pytest.mark.parametrize("compressor", CONTRACTIVE, ids=repr)


@tracked
def test_what_is_known_comes_nearer_to_a_fixed_vector_by_alpha(compressor: Contractive) -> None:
    """|known' - x|^2 <= (1 - alpha)|known - x|^2: in every round, for these are deterministic."""
    x_D, known_D = np.random.default_rng(3).standard_normal(D), np.zeros(D)
    kept = 1.0 - compressor.alpha(D)
    for round_ in range(60):
        before = float(((known_D - x_D) ** 2).sum())
        _, known_D = track(compressor, x_D, known_D, Draws(0, round_, 1))
        after = float(((known_D - x_D) ** 2).sum())
        if before > 1e-24:  # float64 ends here
            assert after <= kept * before * (1 + 1e-6)


@tracked
def test_the_memory_of_a_drifting_vector_obeys_the_lemma(compressor: Contractive) -> None:
    """Richtarik et al. 2021, Lemma 3: G' <= (1 - theta) G + beta |drift|^2, theta = 1 - sqrt(1 - alpha).

    And beta = (1 - alpha) / theta.
    """
    rng, x_D, known_D = np.random.default_rng(4), np.zeros(D), np.zeros(D)
    root = math.sqrt(1.0 - compressor.alpha(D))
    theta = 1.0 - root
    beta = (1.0 - compressor.alpha(D)) / theta
    error2 = 0.0
    for round_ in range(100):
        drift_D = rng.standard_normal(D) * 10.0 ** rng.uniform(-3, 1)
        x_D = x_D + drift_D
        _, known_D = track(compressor, x_D, known_D, Draws(0, round_, 1))
        now2 = float(((known_D - x_D) ** 2).sum())
        assert now2 <= ((1.0 - theta) * error2 + beta * float(drift_D @ drift_D)) * (1 + 1e-6)
        error2 = now2


@tracked
def test_both_sides_know_the_same_bits(compressor: Contractive) -> None:
    rng, mine_D, yours_D = np.random.default_rng(5), np.zeros(D), np.zeros(D)
    for round_ in range(50):
        payload, mine_D = track(compressor, rng.standard_normal(D), mine_D, Draws(0, round_, 1))
        payload.add_to(yours_D)
        assert mine_D.tobytes() == yours_D.tobytes()


def test_tracking_leaves_its_arguments_alone() -> None:
    x_D, known_D = np.ones(4), np.full(4, 0.25)
    _, after_D = track(TopK(k=2), x_D, known_D, Draws(0, 0, 0))
    assert x_D.tolist() == [1.0] * 4
    assert known_D.tolist() == [0.25] * 4
    assert after_D.tolist() == [1.0, 1.0, 0.25, 0.25]


@tracked
def test_a_fed_back_memory_stays_within_the_bound_of_theory(compressor: Contractive) -> None:
    """Karimireddy et al. 2019, Lemma 3: |e|^2 <= 4 (1 - alpha) / alpha^2 max|x|^2."""
    rng, memory_D, largest2 = np.random.default_rng(6), np.zeros(D), 0.0
    alpha = compressor.alpha(D)
    for round_ in range(300):
        x_D = rng.standard_normal(D) + 1.0  # a mean, which the memory piles up
        largest2 = max(largest2, float(x_D @ x_D))
        _, memory_D = feed_back(compressor, x_D, memory_D, Draws(0, round_, 1))
        assert memory_D @ memory_D <= 4 * (1 - alpha) / alpha**2 * largest2


class FirstValues:
    """Sends the first three values as they lie in its input: a view, not a copy."""

    def encode(self, x_D: Vector, draws: Draws) -> Sparse:
        return Sparse(len(x_D), np.arange(3), Dense(x_D[:3]))

    def bits(self, d: int) -> float:
        return 96.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_payload_that_views_its_input_is_left_alone(dtype: type) -> None:
    x_D = np.arange(1.0, 7.0, dtype=dtype)
    payload, memory_D = feed_back(FirstValues(), x_D, np.zeros(6, dtype), Draws(0, 0))
    assert payload.dense().tolist() == [1.0, 2.0, 3.0, 0.0, 0.0, 0.0]
    assert memory_D.tolist() == [0.0, 0.0, 0.0, 4.0, 5.0, 6.0]
    assert memory_D.dtype == np.float64
    assert x_D.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
