from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from saddlebag.algorithms import make_method
from saddlebag.algorithms.problems import BilinearGame
from saddlebag.compression import Absolute, Contractive, Draws, HardThreshold, SampledTopK, Unbiased, feed_back, kind_of
from saddlebag.compression.compressors.sparsifiers.threshold import sampled_top_k_at
from saddlebag.errors import ConfigError

ELEMENTS = st.floats(-(2.0**100), 2.0**100, width=32)


@given(hnp.arrays(np.float32, st.integers(1, 12), elements=ELEMENTS), st.floats(2.0**-100, 2.0**100, width=32))
def test_a_hard_threshold_has_an_absolute_error(x_D: np.ndarray, threshold: float) -> None:
    compressor = HardThreshold(threshold=threshold)
    payload = compressor.encode(x_D, Draws(0, 0))
    assert payload.index_K.tolist() == [i for i, x in enumerate(x_D.tolist()) if abs(x) >= threshold]
    error = math.sqrt(sum((a - b) ** 2 for a, b in zip(x_D.tolist(), payload.dense().tolist(), strict=True)))
    assert error <= compressor.absolute_error(len(x_D)) * (1 + 1e-12)
    assert error <= np.linalg.norm(x_D.astype(np.float64)) * (1 + 1e-12)


def test_a_hard_threshold_is_refused_where_a_constant_is_needed() -> None:
    compressor = HardThreshold(threshold=1.0)
    assert isinstance(compressor, Absolute)
    assert not isinstance(compressor, Contractive | Unbiased)
    assert kind_of(compressor) == "absolute"
    assert not HardThreshold(threshold=1.0).encode(np.full(9, 0.99), Draws(0, 0)).dense().any()  # no alpha > 0 can hold
    problem = BilinearGame(n=2, num_workers=2)
    for method in ("masha1", "masha2"):
        with pytest.raises(ConfigError, match=f"{method} needs .*absolute"):
            make_method(method, problem, up=compressor, down=compressor, step_size=0.1)


def test_its_error_memory_stays_below_the_threshold() -> None:
    rng, memory_D = np.random.default_rng(0), np.zeros(50)
    for round_ in range(200):
        _, memory_D = feed_back(HardThreshold(threshold=3.0), rng.standard_normal(50), memory_D, Draws(0, round_))
        assert np.abs(memory_D).max() < 3.0


@pytest.mark.parametrize(
    ("d", "k", "sample"), [(d, k, m) for d in (1, 2, 5, 6) for k in {1, (d + 1) // 2, d} for m in (1, 3, 9)]
)
def test_a_sampled_threshold_keeps_k_in_the_mean_over_all_samples(d: int, k: int, sample: int) -> None:
    compressor = SampledTopK(k=k, sample=sample)
    size, rank = compressor._sample(d)
    assert size == min(d, sample)
    samples = [np.array(chosen) for chosen in itertools.combinations(range(d), size)]
    for x_D in (np.arange(1.0, d + 1), np.ones(d), np.zeros(d), np.where(np.arange(d) % 2, 0.0, -2.0)):
        counts, errors = [], []
        for sample_M in samples:
            kept = set(sampled_top_k_at(x_D, sample_M, rank).tolist())
            counts.append(len(kept))
            errors.append(sum((Fraction(x) ** 2 for i, x in enumerate(x_D.tolist()) if i not in kept), Fraction(0)))
        norm2 = sum((Fraction(x) ** 2 for x in x_D.tolist()), Fraction(0))
        assert sum(errors) / len(errors) <= (1 - Fraction(compressor.alpha(d)) + Fraction(1, 10**12)) * norm2
        if len(set(np.abs(x_D)) - {0.0}) == d:
            assert math.isclose(sum(counts) / len(counts), d * compressor.alpha(d), rel_tol=1e-12)
    assert compressor.alpha(d) >= k / d - 1e-12


def test_alpha_is_approached_by_nearly_equal_magnitudes() -> None:
    d, compressor = 6, SampledTopK(k=2, sample=3)
    x_D = 1.0 + 1e-6 * np.arange(d)
    size, rank = compressor._sample(d)
    samples = list(itertools.combinations(range(d), size))
    kept = [len(sampled_top_k_at(x_D, np.array(sample), rank)) for sample in samples]
    assert math.isclose(np.mean(kept) / d, compressor.alpha(d), rel_tol=1e-12)


def test_encode_samples_from_the_workers_own_stream() -> None:
    x_D = np.random.default_rng(0).standard_normal(100_000)
    payload = SampledTopK(fraction=0.01, sample=5000).encode(x_D, Draws(0, 0, 0))
    threshold = np.abs(payload.value.value_D).min()
    assert np.array_equal(payload.index_K, np.flatnonzero(np.abs(x_D.astype(np.float32)) >= threshold))
    assert 500 < len(payload.index_K) < 1500  # 50 of 5000 set the threshold: 14 % a sigma
    other = SampledTopK(fraction=0.01, sample=5000).encode(x_D, Draws(0, 0, 1))
    assert len(payload.index_K) != len(other.index_K)


def test_parameters_that_do_not_fit_are_named() -> None:
    with pytest.raises(ConfigError, match=r"hard_threshold.threshold must be positive and finite, got 0"):
        HardThreshold(threshold=0.0)
    with pytest.raises(ConfigError, match=r"sampled_top_k.sample must be a whole number of at least 1, got 0"):
        SampledTopK(k=1, sample=0)
    with pytest.raises(ConfigError, match="sampled_top_k needs exactly one of k and fraction"):
        SampledTopK()


def test_an_entry_of_exactly_the_threshold_is_kept() -> None:
    x_D = np.array([0.25, -0.5, 0.0, 0.5, -0.75])
    assert HardThreshold(threshold=0.5).encode(x_D, Draws(0, 0, 0)).index_K.tolist() == [1, 3, 4]


def test_a_threshold_of_zero_sends_no_zeros() -> None:
    """A sample of zeros sets the threshold 0, which every entry would reach."""
    x_D = np.zeros(50)
    x_D[[7, 31]] = -1e-300, 2.0
    assert sampled_top_k_at(x_D, np.array([0, 1, 2]), 2).tolist() == [7, 31]
    assert sampled_top_k_at(x_D, np.array([0]), 5).tolist() == [7, 31]


def test_an_empty_vector_keeps_nothing_and_the_bound_is_a_float_a_coordinate() -> None:
    compressor = HardThreshold(threshold=0.5)
    assert len(compressor.encode(np.zeros(0), Draws(0, 0, 0)).index_K) == 0
    assert (compressor.bits(0), compressor.bits(10)) == (0.0, 320.0)
