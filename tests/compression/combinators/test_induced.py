from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from saddlebag.compression import (
    Contractive,
    Draws,
    Natural,
    PermK,
    RandK,
    Ternary,
    TopK,
    Total,
    Unbiased,
    compose,
    induced,
    make_compressor,
    mean_noise,
    scaled,
)
from saddlebag.compression import support as supports
from saddlebag.errors import ConfigError


def square(values: Any) -> Fraction:
    return sum((Fraction(value) ** 2 for value in values), Fraction(0))


@pytest.mark.parametrize(("d", "k", "kept"), [(4, 1, 1), (5, 2, 1), (6, 2, 3), (3, 3, 1), (1, 1, 1)])
def test_top_k_and_rand_k_of_the_rest_over_all_supports(d: int, k: int, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exactly, in numbers that float32 and d/k leave whole."""
    compressor = induced(contractive=TopK(k=k), unbiased=RandK(k=kept))
    assert isinstance(compressor, Unbiased)
    assert not isinstance(compressor, Contractive)
    assert math.isclose(compressor.omega(d), (d / kept - 1) * (1 - k / d), abs_tol=1e-15)
    for x_D in (np.full(d, 6.0), 6.0 * np.arange(1, d + 1), np.zeros(d)):
        every = []
        for index in itertools.combinations(range(d), kept):
            monkeypatch.setattr(supports.Support, "index_K", lambda self, draws, index=index: np.array(index))
            every.append([Fraction(value) for value in compressor.encode(x_D, Draws(0, 0, 0)).dense().tolist()])
        exact = [Fraction(x) for x in x_D.tolist()]
        assert [sum(column, Fraction(0)) / len(every) for column in zip(*every, strict=True)] == exact
        error2 = sum((square(q - x for q, x in zip(row, exact, strict=True)) for row in every), Fraction(0)) / len(every)
        assert error2 <= Fraction(d - kept, kept) * Fraction(d - k, d) * square(exact)
        if len(set(exact)) == 1:  # equal magnitudes are the worst of Top-k, and any vector of Rand-k
            assert error2 == Fraction(d - kept, kept) * Fraction(d - k, d) * square(exact)


def test_top_k_and_a_ternary_rest_over_all_words(moments: Any) -> None:
    compressor = induced(contractive=TopK(k=2), unbiased=Ternary())
    x_D = np.array([5.0, -3.0, 0.7, 0.2, 0.0])
    mean, error2 = moments(compressor, x_D)
    assert math.isclose(compressor.omega(5), Ternary().omega(5) * 3 / 5)
    assert all(abs(m - Fraction(x)) < Fraction(1, 10**6) for m, x in zip(mean, x_D.tolist(), strict=True))
    assert error2 <= Fraction(compressor.omega(5)) * square(x_D.tolist())


def test_both_parts_travel_and_the_first_has_draws_of_its_own() -> None:
    x_D = np.random.default_rng(0).standard_normal(50)
    first = compose(sparsifier=TopK(k=50), values=Ternary())
    payload = induced(contractive=first, unbiased=Ternary()).encode(x_D, Draws(0, 0, 0))
    assert isinstance(payload, Total)
    contractive, unbiased = payload.parts
    assert np.array_equal(unbiased.level_D, Ternary().encode(x_D - contractive.dense(), Draws(0, 0, 0)).level_D)
    assert not np.array_equal(contractive.value.level_D, first.encode(x_D, Draws(0, 0, 0)).value.level_D)


def test_the_mean_over_draws_is_right_though_both_parts_round() -> None:
    """With shared bits the rests would be rounded in step with what left them, and the sum would be biased."""
    x_D, num_draws = np.array([1.0, 0.6, -0.3, 0.2]), 6000
    compressor = induced(contractive=scaled(unbiased=Ternary()), unbiased=Ternary())
    outcome_ND = np.stack([compressor.encode(x_D, Draws(1, round_, 0)).dense() for round_ in range(num_draws)])
    assert (np.abs(outcome_ND.mean(axis=0) - x_D) <= 6 * outcome_ND.std(axis=0) / math.sqrt(num_draws) + 1e-7).all()


@pytest.mark.parametrize("unbiased", [RandK(k=1), RandK(k=1, support="common"), PermK(workers=3), Natural()], ids=repr)
def test_the_noise_of_a_mean_of_workers(unbiased: Any) -> None:
    compressor = induced(contractive=TopK(k=2), unbiased=unbiased)
    d, workers, num_draws = 6, 3, 1000
    x_MD = np.random.default_rng(0).standard_normal((workers, d))
    a, b = mean_noise(compressor, d, workers)
    mean_D, error2 = x_MD.mean(axis=0), []
    for round_ in range(num_draws):
        sent = [compressor.encode(x_D, Draws(0, round_, m)).dense() for m, x_D in enumerate(x_MD)]
        error2.append(((np.mean(sent, axis=0) - mean_D) ** 2).sum())
    bound = a * (x_MD**2).sum() / workers - b * (mean_D @ mean_D)
    assert np.mean(error2) <= bound + 6 * np.std(error2) / math.sqrt(num_draws)


def test_what_does_not_go_together_is_named() -> None:
    with pytest.raises(ConfigError, match=r"induced.contractive must be contractive, got Natural\(\) \(unbiased\)"):
        make_compressor("induced", contractive={"name": "natural"}, unbiased={"name": "natural"})
    with pytest.raises(ConfigError, match=r"induced.unbiased must be unbiased, got TopK"):
        make_compressor("induced", contractive={"name": "top_k", "k": 1}, unbiased={"name": "top_k", "k": 1})
    seeded = make_compressor("induced", contractive={"name": "unscaled_rand_k", "k": 1}, unbiased={"name": "natural"})
    with pytest.raises(ConfigError, match=r"induced.contractive must not draw its coordinates from a seed"):
        seeded.encode(np.ones(3), Draws(0, 0, 0))
