"""The Frechet distance: closed forms, a metric's laws, and the order it gives to pictures that anybody would order so."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.linalg import sqrtm

from saddlebag.algorithms.networks.images.frechet import Frechet, frechet_distance, normals
from saddlebag.compression import Draws
from saddlebag.compression.stream import Purpose
from saddlebag.errors import ConfigError


def _law(rng: np.random.Generator, dimension: int = 6) -> tuple[np.ndarray, np.ndarray]:
    root = rng.standard_normal((dimension, dimension))
    return rng.standard_normal(dimension), root @ root.T


def test_it_is_the_formula_with_a_general_matrix_root() -> None:
    rng = np.random.default_rng(0)
    (mean, covariance), (other_mean, other) = _law(rng), _law(rng)
    expected = np.sum((mean - other_mean) ** 2) + np.trace(covariance + other - 2 * sqrtm(covariance @ other).real)
    got = frechet_distance(mean, covariance, other_mean, other)
    assert got == pytest.approx(expected, rel=1e-10)
    assert got == pytest.approx(frechet_distance(other_mean, other, mean, covariance), rel=1e-10)
    assert frechet_distance(mean, covariance, mean, covariance) < 1e-10 * np.trace(covariance)


def test_laws_that_commute_have_a_closed_form() -> None:
    a, b = np.array([4.0, 1.0, 0.0]), np.array([1.0, 9.0, 4.0])
    got = frechet_distance(np.zeros(3), np.diag(a), np.ones(3), np.diag(b))
    assert got == pytest.approx(3 + np.sum((np.sqrt(a) - np.sqrt(b)) ** 2), rel=1e-12)


def test_it_orders_pictures_by_how_they_are_damaged() -> None:
    rng = np.random.default_rng(1)
    prototypes = rng.random((10, 36))
    real, more = (prototypes[rng.integers(0, 10, 1000)] + 0.1 * rng.standard_normal((1000, 36)) for _ in range(2))
    distance = Frechet.of(real)
    noisy, one_mode = more + 0.3 * rng.standard_normal(more.shape), prototypes[0] + 0.1 * rng.standard_normal((1000, 36))
    found = [distance(pictures) for pictures in (real, more, noisy, one_mode)]
    assert found[0] < 1e-8
    assert found == sorted(found)
    assert found[1] < 0.1 * found[2], "as many real pictures again are nearer than noisy ones, by far"
    assert math.isnan(distance(np.full((3, 36), np.inf)))


def test_pictures_that_say_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 2 pictures that differ, got 5 with deviation 0"):
        Frechet.of(np.ones((5, 4)))


def test_normals_are_normal_and_a_function_of_the_key() -> None:
    x = normals(Draws(1, 2, 3), Purpose.SAMPLE, 101, 97)
    np.testing.assert_array_equal(x, normals(Draws(1, 2, 3), Purpose.SAMPLE, 101, 97))
    for other in (Draws(1, 2, 4), Draws(1, 3, 3)):
        assert not np.array_equal(x, normals(other, Purpose.SAMPLE, 101, 97))
    n = x.size
    for power, moment in ((1, 0), (2, 1), (3, 0), (4, 3)):
        variance = {1: 1, 2: 2, 3: 15, 4: 96}[power]  # E x^(2 power) - moment^2
        assert abs(np.mean(x**power) - moment) < 5 * math.sqrt(variance / n)
