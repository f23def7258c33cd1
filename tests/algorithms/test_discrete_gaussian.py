"""Noise on levels: the law, its sums, and what an account of privacy is told of both."""

import math

import numpy as np
import pytest

from saddlebag.algorithms.discrete_gaussian import _thresholds, defect, discrete_gaussian, most
from saddlebag.compression import Draws
from saddlebag.compression.stream import Purpose
from saddlebag.errors import ConfigError


def _words(count, worker=0):
    return Draws(5, 0, worker).own(Purpose.NOISE).words(count)


@pytest.mark.parametrize("sigma", [3.0, 17.5, 200.0])
def test_the_table_is_the_law_to_the_last_word(sigma):
    edges = [0, *map(int, _thresholds(sigma)), 2**64]
    k = np.arange(-most(sigma), most(sigma) + 1)
    wanted = np.exp(-(k.astype(np.longdouble) ** 2) / (2 * np.longdouble(sigma) ** 2))
    wanted /= wanted.sum()
    found = np.diff(np.array(edges, dtype=object)).astype(np.longdouble) / np.longdouble(2**64)
    assert float(np.abs(found - wanted).sum() / 2) < 1e-15 + defect(sigma)
    assert defect(sigma) < 1e-15


def test_the_smallest_and_the_largest_word_are_the_ends():
    ends = discrete_gaussian(3.0, np.array([0, 2**63, 2**64 - 1], np.uint64))
    assert ends[0] <= -26  # words of 64 bits do not reach the very last numbers
    assert ends[1] in (-1, 0)
    assert ends[2] <= most(3.0)


def test_moments_are_those_of_the_law():
    """200,000 numbers: six standard errors of mean and variance."""
    for sigma in (3.0, 40.0):
        noise = discrete_gaussian(sigma, _words(200_000)).astype(float)
        assert abs(noise.mean()) < 6 * sigma / math.sqrt(200_000)
        assert abs(noise.var() / sigma**2 - 1) < 6 * math.sqrt(2 / 200_000)


def test_shares_of_workers_add_up_to_the_whole_noise():
    """Five shares of 20: their sum's variance is 5 * 20^2, and its tails are those of a Gaussian."""
    total = sum(discrete_gaussian(20.0, _words(100_000, worker)) for worker in range(5)).astype(float)
    whole = 20.0 * math.sqrt(5)
    assert abs(total.var() / whole**2 - 1) < 6 * math.sqrt(2 / 100_000)
    beyond = (np.abs(total) > 2 * whole).mean()
    assert abs(beyond - math.erfc(math.sqrt(2))) < 0.005  # a step of the grid is 0.02 sigma


@pytest.mark.parametrize("sigma", [0.0, 2.9, 1e7, math.nan])
def test_shares_that_are_too_small_or_too_large_are_refused(sigma):
    with pytest.raises(ConfigError, match="needs a sigma from 3 to 1e\\+06"):
        discrete_gaussian(sigma, _words(3))
