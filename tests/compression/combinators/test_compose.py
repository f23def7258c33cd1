"""Composition: the constants over every draw of both compressors, at small dimensions."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from saddlebag.compression import (
    BlockTopK,
    Contractive,
    Dithering,
    Draws,
    Levels,
    Natural,
    NearestInt4,
    PermK,
    PowersOfTwo,
    RandK,
    SampledTopK,
    Seeded,
    Sparse,
    Ternary,
    TopK,
    Unbiased,
    UnscaledRandK,
    compose,
    make_compressor,
    mean_noise,
)
from saddlebag.compression import support as supports
from saddlebag.compression.combinators.nested import independent_draws
from saddlebag.errors import ConfigError

SLACK = Fraction(1, 2**20)  # the scale is rounded up to a float32
SIZES = st.floats(2.0**-30, 2.0**30, width=32)
ELEMENTS = st.one_of(st.just(0.0), SIZES, SIZES.map(lambda x: -x))


def square(x_D: Any) -> Fraction:
    return sum((Fraction(x) ** 2 for x in x_D), Fraction(0))


@pytest.mark.parametrize("values", [Ternary(), Dithering(levels=2), Dithering(levels=5, norm="max")], ids=repr)
@settings(max_examples=20)
@given(x_D=hnp.arrays(np.float32, st.integers(1, 8), elements=ELEMENTS), data=st.data())
def test_top_k_then_unbiased_values_over_all_words(values: Any, x_D: np.ndarray, data: st.DataObject, moments: Any) -> None:
    k = data.draw(st.integers(1, len(x_D)))
    compressor = compose(sparsifier=TopK(k=k), values=values)
    assert isinstance(compressor, Contractive)
    assert not isinstance(compressor, Unbiased)
    assert math.isclose(compressor.alpha(len(x_D)), k / len(x_D) / (1 + values.omega(k)))
    exact, error2 = moments_of_kept(compressor, x_D, moments)
    assert error2 <= (1 - Fraction(compressor.alpha(len(x_D))) + SLACK) * exact


def moments_of_kept(compressor: Any, x_D: np.ndarray, moments: Any) -> tuple[Fraction, Fraction]:
    """|x|^2 and E|C(x) - x|^2; the words go to the kept entries in order."""
    index_K = compressor.sparsifier.encode(x_D, Draws(0, 0)).index_K

    class Values:
        """What is sent of the kept entries, as a map that `moments` can enumerate."""

        def encode(self, kept_K: np.ndarray, draws: Draws) -> Any:
            whole_D = np.zeros(len(x_D), kept_K.dtype)
            whole_D[:] = x_D
            return compressor.encode(whole_D, draws).value

    _, error2 = moments(Values(), x_D[index_K])
    left_out = square(x_D.tolist()) - square(x_D[index_K].tolist())
    return square(x_D.tolist()), left_out + error2


def test_the_composed_alpha_is_attained_where_both_are(moments: Any) -> None:
    """Equal magnitudes are the worst of Top-k and of dithering with the l2 norm."""
    compressor = compose(sparsifier=TopK(k=16), values=Dithering(levels=1))
    exact, error2 = moments_of_kept(compressor, np.ones(64), moments)
    assert math.isclose(float(error2 / exact), 1 - compressor.alpha(64), rel_tol=1e-5)
    assert math.isclose(compressor.alpha(64), 16 / 64 / math.sqrt(16))


@given(hnp.arrays(np.float32, st.integers(1, 12), elements=ELEMENTS), st.data())
def test_top_k_then_nearest_values_contract_every_vector(x_D: np.ndarray, data: st.DataObject) -> None:
    d, k = len(x_D), data.draw(st.integers(1, len(x_D)))
    for sparsifier in (TopK(k=k), BlockTopK(block=3, k=1), SampledTopK(k=k, sample=d)):
        compressor = compose(sparsifier=sparsifier, values=NearestInt4(block=4))
        sent_D = compressor.encode(x_D, Draws(0, 0)).dense()
        error2 = square(Fraction(a) - Fraction(b) for a, b in zip(x_D.tolist(), sent_D.tolist(), strict=True))
        assert error2 <= (1 - Fraction(compressor.alpha(d)) + SLACK) * square(x_D.tolist())


@pytest.mark.parametrize(("d", "k"), [(3, 1), (4, 2), (5, 3), (4, 4)])
@pytest.mark.parametrize("support", ["own", "common"])
def test_rand_k_then_dithering_over_all_supports_and_words(
    d: int, k: int, support: str, moments: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = Dithering(levels=2)
    compressor = compose(sparsifier=RandK(k=k, support=support), values=values)
    assert math.isclose(compressor.omega(d), d / k * (1 + values.omega(k)) - 1)
    x_D = np.array([3.0, -1.0, 0.0, 2.5, 7.0])[:d]
    chosen = list(itertools.combinations(range(d), k))
    mean_D, error2 = [Fraction(0)] * d, Fraction(0)
    for index in chosen:
        monkeypatch.setattr(supports.Support, "index_K", lambda self, draws, index=index: np.array(index))

        class Values:
            def encode(self, kept_K: np.ndarray, draws: Draws) -> Any:
                return compressor.encode(x_D, draws).value

        mean_K, _ = moments(Values(), x_D[list(index)])
        _, spread2 = moments(Values(), np.array([float(m) for m in mean_K]))
        for i, m in zip(index, mean_K, strict=True):
            mean_D[i] += m / len(chosen)
        expected_D = [mean_K[index.index(i)] if i in index else Fraction(0) for i in range(d)]
        error2 += (spread2 + square(m - Fraction(x) for m, x in zip(expected_D, x_D.tolist(), strict=True))) / len(chosen)
    assert all(abs(m - Fraction(x)) <= Fraction(1, 10**6) for m, x in zip(mean_D, x_D.tolist(), strict=True))
    assert error2 <= Fraction(compressor.omega(d)) * square(x_D.tolist()) * (1 + SLACK)


def test_the_payload_keeps_the_support_and_codes_the_values() -> None:
    x_D = np.random.default_rng(0).standard_normal(100)
    payload = compose(sparsifier=TopK(k=10), values=Ternary()).encode(x_D, Draws(0, 0, 0))
    assert isinstance(payload, Sparse)
    assert isinstance(payload.value, Levels)
    payload = compose(sparsifier=RandK(k=10, support="common"), values=Natural()).encode(x_D, Draws(0, 0, 0))
    assert isinstance(payload, Seeded)
    assert isinstance(payload.value, PowersOfTwo)
    assert np.array_equal(payload.index_K, payload.support.index_K(Draws(0, 0, 3)))


def test_values_round_with_bits_of_their_own() -> None:
    seeds = {independent_draws(Draws(7, 1, 2), number).seed for number in range(5)}
    assert len(seeds) == 5
    assert 7 not in seeds
    assert independent_draws(Draws(7, 1, 2), 1).worker == 2
    x_D = np.random.default_rng(0).standard_normal(50)
    composed = compose(sparsifier=RandK(k=50), values=Ternary()).encode(x_D, Draws(0, 0, 0))
    alone = Ternary().encode(x_D.astype(np.float32), Draws(0, 0, 0))
    assert not np.array_equal(composed.value.level_D, alone.level_D)


def test_an_empty_choice_travels_as_it_is() -> None:
    compressor = compose(sparsifier=SampledTopK(k=1, sample=2), values=Ternary())
    assert not compressor.encode(np.zeros(5), Draws(0, 0, 0)).dense().any()


@pytest.mark.parametrize(
    ("sparsifier", "values", "common", "jointly"),
    [
        (RandK(k=2), Ternary(), False, 0),
        (RandK(k=2, support="common"), Ternary(), True, 0),
        (PermK(workers=3), Ternary(), False, 3),
    ],
    ids=repr,
)
def test_the_noise_of_a_mean_of_workers(sparsifier: Any, values: Any, common: bool, jointly: int) -> None:
    compressor: Any = compose(sparsifier=sparsifier, values=values)
    assert (compressor.common_draws, compressor.jointly) == (common, jointly)
    d, workers, num_draws = 6, 3, 2000
    x_MD = np.random.default_rng(0).standard_normal((workers, d)) + 1.0
    a, b = mean_noise(compressor, d, workers)
    mean_D, error2 = x_MD.mean(axis=0), []
    for round_ in range(num_draws):
        sent = [compressor.encode(x_D, Draws(0, round_, m)).dense() for m, x_D in enumerate(x_MD)]
        error2.append(((np.mean(sent, axis=0) - mean_D) ** 2).sum())
    bound = a * (x_MD**2).sum() / workers - b * (mean_D @ mean_D)
    assert 0.3 * bound <= np.mean(error2) <= bound + 6 * np.std(error2) / math.sqrt(num_draws)


def test_bits_are_the_indices_and_the_coded_values() -> None:
    d, k = 10**6, 10**4
    plain, coded = TopK(k=k), make_compressor("compose", sparsifier={"name": "top_k", "k": k}, values={"name": "block_int8"})
    assert math.isclose(coded.bits(d), plain.bits(d) - 32 * k + 8 * k + 32 * math.ceil(k / 512))


@pytest.mark.parametrize(
    ("sparsifier", "values", "message"),
    [
        ("top_k", {"name": "natural"}, r"compose.sparsifier must be a compressor or a table that names one, got 'top_k'"),
        ({"k": 3}, {"name": "natural"}, r"compose.sparsifier.name is missing"),
        ({"name": "top_k"}, {"name": "natural"}, r"compose.sparsifier: top_k needs exactly one of k and fraction"),
        ({"name": "natural"}, {"name": "natural"}, r"compose.sparsifier must choose coordinates"),
        ({"name": "top_k", "k": 1}, {"name": "hard_threshold", "threshold": 1.0}, "contractive with values that are absolute"),
        ({"name": "rand_k", "k": 1}, {"name": "nearest_int8"}, "cannot join a sparsifier that is unbiased"),
        ({"name": "rand_k", "k": 1}, {"name": "blok"}, "compose.values: unknown compressor 'blok'"),
    ],
)
def test_what_does_not_go_together_is_named(sparsifier: Any, values: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_compressor("compose", sparsifier=sparsifier, values=values)


def test_faults_that_show_at_work_are_named() -> None:
    with pytest.raises(ConfigError, match=r"compose.values must give every entry a value, .* gave Seeded"):
        compose(sparsifier=RandK(k=4), values=RandK(k=1)).encode(np.ones(8), Draws(0, 0, 0))

    class Doubling(UnscaledRandK):
        def encode(self, x_D: np.ndarray, draws: Draws) -> Seeded:
            return super().encode(2 * x_D, draws)

    with pytest.raises(ConfigError, match=r"compose.sparsifier must keep entries as they are"):
        compose(sparsifier=Doubling(k=4), values=Ternary()).encode(np.ones(8), Draws(0, 0, 0))
