from __future__ import annotations

import numpy as np
import pytest

from saddlebag.compression import (
    Draws,
    Identity,
    Natural,
    PermK,
    RandK,
    Ternary,
    TopK,
    Unbiased,
    UnscaledRandK,
    errors_average,
    kind_of,
    mean_noise,
)


def test_kind_names_the_declared_constants() -> None:
    assert kind_of(RandK(k=1)) == kind_of(Natural()) == "unbiased"
    assert kind_of(TopK(k=1)) == kind_of(UnscaledRandK(k=1)) == "contractive"
    assert kind_of(Identity()) == "unbiased and contractive"


def test_errors_average_unless_the_draws_are_common() -> None:
    assert errors_average(RandK(k=1))
    assert errors_average(Natural())
    assert not errors_average(RandK(k=1, support="common"))


def test_the_noise_of_a_mean() -> None:
    assert mean_noise(RandK(k=1), 9, 4) == (2.0, 0.0)
    assert mean_noise(RandK(k=1, support="common"), 9, 4) == (0.0, -8.0)
    assert mean_noise(PermK(workers=4), 9, 4) == (1.0, 1.0)


@pytest.mark.parametrize("compressor", [RandK(k=2), RandK(k=2, support="common"), PermK(workers=3), Ternary()], ids=repr)
def test_the_noise_bounds_what_a_mean_of_workers_shows(compressor: Unbiased) -> None:
    d, workers, num_draws = 6, 3, 3000
    x_MD = np.random.default_rng(0).standard_normal((workers, d)) + 1.0
    a, b = mean_noise(compressor, d, workers)
    mean_D = x_MD.mean(axis=0)
    error2 = []
    for round_ in range(num_draws):
        sent = [compressor.encode(x_D, Draws(0, round_, m)).dense() for m, x_D in enumerate(x_MD)]
        error2.append(((np.mean(sent, axis=0) - mean_D) ** 2).sum())
    bound = a * (x_MD**2).sum() / workers - b * (mean_D @ mean_D)
    sigma = np.std(error2) / np.sqrt(num_draws)
    assert np.mean(error2) <= bound + 6 * sigma
    if not isinstance(compressor, Ternary):  # whose constant is for the worst vector
        assert np.mean(error2) >= bound - 6 * sigma
