"""Perm-k: the laws of one worker and of all together, over every permutation and every shift."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest

from saddlebag.compression import Draws, PermK, Scheme, Support, mean_noise
from saddlebag.compression import support as supports
from saddlebag.errors import ConfigError, NotFiniteError

if TYPE_CHECKING:
    from collections.abc import Iterator

# M divides d, M = d, d divides M, neither, one worker, one coordinate
CASES = [(4, 2), (3, 3), (2, 4), (1, 4), (5, 2), (5, 3), (4, 3), (3, 4), (3, 5), (2, 5), (3, 1), (1, 1)]
each = pytest.mark.parametrize(("d", "workers"), CASES)


def every_draw(d: int, workers: int, x_MD: np.ndarray, patch: pytest.MonkeyPatch) -> Iterator[list[list[Fraction]]]:
    """Q_1(x_1), ..., Q_M(x_M), exactly, for each permutation and shift."""
    compressor = PermK(workers=workers)
    for order in itertools.permutations(range(d)):
        order_D = np.array(order)
        patch.setattr(supports, "_permutation", lambda seed, round_, dimension, order_D=order_D: order_D)
        for shift in range(workers):
            patch.setattr(supports, "_place", lambda draws, workers, shift=shift: (draws.worker + shift) % workers)
            payloads = [compressor.encode(x_D, Draws(0, 0, m)) for m, x_D in enumerate(x_MD)]
            yield [list(map(Fraction, payload.dense().tolist())) for payload in payloads]


def mean_of(rows: list[list[Fraction]]) -> list[Fraction]:
    return [sum(column, Fraction(0)) / len(rows) for column in zip(*rows, strict=True)]


def square(row: list[Fraction]) -> Fraction:
    return sum((value**2 for value in row), Fraction(0))


def vectors(d: int, workers: int) -> np.ndarray:
    """Whole numbers that M / c leaves whole, so the enumeration knows no rounding."""
    return 60.0 * np.random.default_rng(7).integers(-5, 6, (workers, d))


@each
def test_each_worker_is_unbiased_with_omega_attained(d: int, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x_MD = vectors(d, workers)
    draws = list(every_draw(d, workers, x_MD, monkeypatch))
    for m, x_D in enumerate(x_MD):
        exact = list(map(Fraction, x_D.tolist()))
        assert mean_of([draw[m] for draw in draws]) == exact
        error2 = sum((square([q - x for q, x in zip(draw[m], exact, strict=True)]) for draw in draws), Fraction(0)) / len(draws)
        assert abs(error2 - Fraction(PermK(workers=workers).omega(d)) * square(exact)) <= Fraction(1, 10**9) * square(exact)


@each
def test_the_mean_square_identity(d: int, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x_MD = vectors(d, workers)
    exact = [list(map(Fraction, x_D.tolist())) for x_D in x_MD]
    means = [mean_of(draw) for draw in every_draw(d, workers, x_MD, monkeypatch)]
    assert mean_of(means) == mean_of(exact)
    second = sum(map(square, means), Fraction(0)) / len(means)
    mean_square = sum(map(square, exact), Fraction(0)) / workers
    if d >= workers:
        assert second == mean_square
    else:
        assert second <= mean_square
    a, b = mean_noise(PermK(workers=workers), d, workers)
    noise = second - square(mean_of(exact))
    assert noise <= Fraction(a) * mean_square - Fraction(b) * square(mean_of(exact))


@each
def test_the_mean_of_equal_vectors_is_exact_in_every_draw(d: int, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x_D = vectors(d, 1)[0]
    for draw in every_draw(d, workers, np.tile(x_D, (workers, 1)), monkeypatch):
        assert mean_of(draw) == list(map(Fraction, x_D.tolist()))


@pytest.mark.parametrize(("d", "workers"), [(3, 2), (7, 3), (3, 7), (2, 3), (1000, 16), (5, 5)])
def test_the_real_draws_deal_every_coordinate(d: int, workers: int) -> None:
    owners = []
    for round_ in range(900):
        shares = [Support.share(d, workers, Draws(3, round_, m)) for m in range(workers)]
        dealt = [share.index_K(Draws(3, round_, m)) for m, share in enumerate(shares)]
        count_D = np.bincount(np.concatenate(dealt), minlength=d)
        assert count_D.min() >= 1
        assert count_D.max() <= -(-workers // d) if d < workers else count_D.max() == 1
        for m, (share, index_K) in enumerate(zip(shares, dealt, strict=True)):
            assert share.scheme is Scheme.PERMUTATION
            assert share.owners(Draws(3, round_, m)) == count_D[index_K[0]]
        owners.append([0 in index_K for index_K in dealt])
    share = np.mean(owners, axis=0)
    expected = 1 / workers if d >= workers else 1 / d
    assert np.abs(share - expected).max() <= 6 * 0.5 / 30  # six sigma of 900 coins


def test_bits_and_faults() -> None:
    assert PermK(workers=4).bits(100) == 32 * 25
    assert PermK(workers=200).bits(100) == 32
    with pytest.raises(ConfigError, match=r"perm_k.workers must be a whole number from 1, got 0"):
        PermK(workers=0)
    with pytest.raises(ConfigError, match="a permutation dealt to 3 workers has no share for sender 3"):
        PermK(workers=3).encode(np.ones(4), Draws(0, 0, 3))
    with pytest.raises(ConfigError, match=r"perm_k.workers is 3, but 4 workers take part"):
        mean_noise(PermK(workers=3), 10, 4)
    with pytest.raises(NotFiniteError):
        PermK(workers=2).encode(np.array([1.0, np.inf]), Draws(0, 0, 0))
