from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from saddlebag.compression import Draws, RandK, Scheme, Scope, Support, UnscaledRandK
from saddlebag.compression.compressors.sparsifiers.rand_k import rand_k_at
from saddlebag.errors import ConfigError, NotFiniteError

SMALL = [(d, k) for d in range(1, 8) for k in range(1, d + 1)]


def outcomes(x_D: np.ndarray, k: int, scale: float) -> list[list[Fraction]]:
    """Q(x) for each of the C(d, k) supports, exactly."""
    result = []
    for support in itertools.combinations(range(len(x_D)), k):
        value_K = rand_k_at(x_D, np.array(support), scale)
        assert value_K.dtype == np.float32
        kept = dict(zip(support, map(Fraction, value_K.tolist()), strict=True))
        result.append([kept.get(i, Fraction(0)) for i in range(len(x_D))])
    return result


def mean_square_error(all_outcomes: list[list[Fraction]], x_D: np.ndarray) -> Fraction:
    errors = [sum((q - Fraction(x)) ** 2 for q, x in zip(q_D, x_D.tolist(), strict=True)) for q_D in all_outcomes]
    return sum(errors, Fraction(0)) / len(errors)


def norm2(x_D: np.ndarray) -> Fraction:
    return sum((Fraction(x) ** 2 for x in x_D.tolist()), Fraction(0))


def vectors(d: int, k: int) -> list[np.ndarray]:
    """Multiples of k, so that x d / k is a small integer and the enumeration knows no rounding."""
    return [np.zeros(d), np.full(d, 1.0 * k), k * np.arange(-2.0, d - 2.0), np.eye(d)[d // 2] * -3 * k]


@pytest.mark.parametrize(("d", "k"), SMALL)
def test_unbiased_with_omega_attained_by_every_vector(d: int, k: int) -> None:
    omega = Fraction(d, k) - 1
    assert math.isclose(RandK(k=k).omega(d), omega, abs_tol=1e-15)
    for x_D in vectors(d, k):
        every = outcomes(x_D, k, d / k)
        assert [sum(column, Fraction(0)) / len(every) for column in zip(*every, strict=True)] == list(
            map(Fraction, x_D.tolist())
        )
        assert mean_square_error(every, x_D) == omega * norm2(x_D)


@pytest.mark.parametrize(("d", "k"), SMALL)
def test_without_the_scale_alpha_is_attained_by_every_vector(d: int, k: int) -> None:
    assert UnscaledRandK(k=k).alpha(d) == k / d
    for x_D in vectors(d, k):
        assert mean_square_error(outcomes(x_D, k, 1.0), x_D) == (1 - Fraction(k, d)) * norm2(x_D)


@pytest.mark.parametrize(("compressor", "scale"), [(RandK(k=3), 10 / 3), (UnscaledRandK(k=3), 1.0)])
@pytest.mark.parametrize("support", ["own", "common"])
def test_encode_is_the_map_at_the_drawn_support(compressor: RandK | UnscaledRandK, scale: float, support: str) -> None:
    compressor = type(compressor)(k=3, support=support)
    x_D, draws = np.random.default_rng(0).standard_normal(10), Draws(2, 8, 1)
    payload = compressor.encode(x_D, draws)
    assert payload.support == Support(10, 3, Scope.OWN if support == "own" else Scope.COMMON)
    assert np.array_equal(payload.index_K, payload.support.index_K(draws))
    assert np.array_equal(payload.value.value_D, (x_D[payload.index_K] * scale).astype(np.float32))
    assert compressor.common_draws == (support == "common")


def test_the_expectation_over_the_real_draws_lies_within_six_sigma() -> None:
    d, k, num_draws = 1500, 40, 2000  # beyond the dimension where the drawing algorithm changes
    x_D = np.random.default_rng(1).standard_normal(d)
    compressor = RandK(k=k)
    total_D = np.zeros(d)
    for round_ in range(num_draws):
        compressor.encode(x_D, Draws(0, round_, 0)).add_to(total_D)
    sigma_D = np.abs(x_D) * math.sqrt((d / k - 1) / num_draws)
    assert (np.abs(total_D / num_draws - x_D) <= 6 * sigma_D + 1e-6 * np.abs(x_D)).all()  # 1e-6: float32 values


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_scale_is_applied_in_float64(dtype: type[np.floating]) -> None:
    x_D = np.array([6.0e4, -1 / 3, 6.0e-8], dtype)  # 6e4 d / k exceeds float16
    payload = RandK(k=1).encode(x_D, Draws(0, 0, 0))
    assert payload.value.value_D.tolist() == (x_D[payload.index_K].astype(np.float64) * 3).astype(np.float32).tolist()
    everything_K = np.arange(3)
    assert rand_k_at(x_D, everything_K, 10 / 3).tolist() == (x_D.astype(np.float64) * (10 / 3)).astype(np.float32).tolist()


@pytest.mark.parametrize("huge", [1e308, -3.4e38, 1e39])
def test_an_overflow_is_refused(huge: float) -> None:
    with pytest.raises(NotFiniteError):
        RandK(k=1).encode(np.full(10, huge), Draws(0, 0, 0))


def test_what_is_not_finite_is_refused_even_when_it_is_not_kept() -> None:
    x_D = np.ones(50)
    for round_ in range(20):
        x_D[:] = 1.0
        x_D[round_] = math.nan
        with pytest.raises(NotFiniteError, match=f"got nan at coordinate {round_} of 50"):
            RandK(k=1).encode(x_D, Draws(0, round_, 0))


def test_bits_count_the_values_only() -> None:
    assert RandK(k=3).bits(10) == 96.0
    assert UnscaledRandK(fraction=0.25).bits(16) == 128.0


def test_the_dimension_must_hold_k() -> None:
    with pytest.raises(ConfigError, match="rand_k needs 1 <= k <= d, got k=5 for d=4"):
        RandK(k=5).encode(np.ones(4), Draws(0, 0, 0))


def strata(d: int, k: int) -> list[range]:
    return [range(i * d // k, (i + 1) * d // k) for i in range(k)]


@pytest.mark.parametrize(("d", "k"), SMALL)
def test_strata_are_unbiased_with_the_longest_stratum_as_constant(d: int, k: int) -> None:
    """Over every choice of one coordinate from each stratum; d = 60 x, so that each length divides."""
    runs = strata(d, k)
    compressor, unscaled = RandK(k=k, draw="strata"), UnscaledRandK(k=k, draw="strata")
    longest = max(map(len, runs))
    assert compressor.omega(d) == longest - 1
    assert unscaled.alpha(d) == 1 / longest
    chosen = list(itertools.product(*runs))
    for x_D in (60 * np.arange(-2.0, d - 2.0), np.eye(d)[d // 2] * -60):
        exact = [Fraction(x) for x in x_D.tolist()]
        for scale, scaled in ((compressor._scale(d, k), True), (1.0, False)):
            every = []
            for index in chosen:
                value_K = rand_k_at(x_D, np.array(index), scale)
                kept = dict(zip(index, map(Fraction, value_K.tolist()), strict=True))
                every.append([kept.get(i, Fraction(0)) for i in range(d)])
            error2 = mean_square_error(every, x_D)
            length = {i: len(run) for run in runs for i in run}
            if scaled:
                assert [sum(column, Fraction(0)) / len(every) for column in zip(*every, strict=True)] == exact
                assert error2 == sum((length[i] - 1) * x**2 for i, x in enumerate(exact))
                assert error2 <= (longest - 1) * norm2(x_D)
            else:
                assert error2 == sum((1 - Fraction(1, length[i])) * x**2 for i, x in enumerate(exact))


@pytest.mark.parametrize("support", ["own", "common"])
def test_strata_travel_as_their_own_kind_of_support(support: str) -> None:
    x_D, draws = np.random.default_rng(0).standard_normal(10), Draws(2, 8, 1)
    payload = RandK(k=3, support=support, draw="strata").encode(x_D, draws)
    assert payload.support.scheme is Scheme.STRATA
    assert payload.support.scope is (Scope.OWN if support == "own" else Scope.COMMON)
    assert [sum(index in run for index in payload.index_K) for run in strata(10, 3)] == [1, 1, 1]
    assert payload.value.value_D.tolist() == (x_D[payload.index_K] * [3, 3, 4]).astype(np.float32).tolist()


def test_another_draw_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"rand_k.draw must be 'subset' or 'strata', got 'floyd'"):
        RandK(k=1, draw="floyd")  # type: ignore[arg-type]
