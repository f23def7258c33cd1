from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from saddlebag.compression import Dense, Draws, TopK
from saddlebag.compression.compressors.sparsifiers.top_k import top_k_index
from saddlebag.errors import ConfigError

HALF_ULP, HALF_SUBNORMAL = Fraction(1, 2**24), Fraction(1, 2**150)  # of float32: what a sent value may be off by
WIDTHS = {np.float16: 16, np.float32: 32, np.float64: 64}


@st.composite
def vectors(draw: st.DrawFn) -> np.ndarray:
    """All float types within the range of float32; often with ties."""
    dtype = draw(st.sampled_from(sorted(WIDTHS, key=WIDTHS.__getitem__)))
    limit = float(min(np.finfo(dtype).max, np.finfo(np.float32).max))
    elements = st.floats(-limit, limit, width=WIDTHS[dtype])
    if draw(st.booleans()):
        elements = st.sampled_from(draw(st.lists(elements, min_size=1, max_size=3))).flatmap(lambda x: st.sampled_from([x, -x]))
    return draw(hnp.arrays(dtype, st.integers(1, 12), elements=elements))


def square(values: list[Fraction]) -> Fraction:
    return sum((value**2 for value in values), Fraction(0))


def by_definition(x_D: np.ndarray, k: int) -> list[int]:
    """Sorting is stable, so of equal magnitudes the lowest coordinate comes first."""
    return sorted(sorted(range(len(x_D)), key=lambda i: -abs(x_D[i]))[:k])


@given(vectors(), st.data())
@example(np.zeros(5), None)
@example(np.array([5e-324, -5e-324, 0.0]), None)
@example(np.array([1e-46, 1e-60]), None)
@example(np.full(12, -1e-45, np.float32), None)
def test_contracts_every_vector(x_D: np.ndarray, data: st.DataObject | None) -> None:
    for k in [data.draw(st.integers(1, len(x_D)))] if data else range(1, len(x_D) + 1):
        payload = TopK(k=k).encode(x_D, Draws(0, 0))
        index_K = payload.index_K.tolist()
        assert index_K == by_definition(x_D, k)
        assert isinstance(payload.value, Dense)
        assert payload.value.value_D.tobytes() == x_D[index_K].astype(np.float32).tobytes()
        exact = [Fraction(x) for x in x_D.tolist()]
        left_out = square([value for i, value in enumerate(exact) if i not in index_K])
        assert left_out <= (1 - Fraction(k, len(x_D))) * square(exact)
        rounding = square([max(HALF_ULP * abs(exact[i]), HALF_SUBNORMAL) for i in index_K])
        sent = [Fraction(value) for value in payload.dense().tolist()]
        assert square([a - b for a, b in zip(exact, sent, strict=True)]) <= left_out + rounding
    assert TopK(k=k).alpha(len(x_D)) == k / len(x_D)


def test_equal_magnitudes_attain_alpha() -> None:
    x_D = np.array([1.0, -1.0, 1.0, -1.0])
    error_D = x_D - TopK(k=1).encode(x_D, Draws(0, 0)).dense()
    assert error_D @ error_D == (1 - TopK(k=1).alpha(4)) * (x_D @ x_D)


@pytest.mark.parametrize(
    ("x", "k", "index"),
    [
        ([1, -1, 1, -1], 2, [0, 1]),
        ([0, 0, 0], 2, [0, 1]),
        ([0.0, -0.0, 2, 0], 2, [0, 2]),
        ([3, 5, -3, 5, 3], 3, [0, 1, 3]),
        ([1, 2, 3], 3, [0, 1, 2]),
        ([7], 1, [0]),
    ],
)
def test_ties_go_to_the_lowest_coordinate(x: list[float], k: int, index: list[int]) -> None:
    index_K = top_k_index(np.array(x, np.float64), k)
    assert index_K.dtype == np.int64
    assert index_K.tolist() == index


def test_a_large_vector_with_ties_equals_the_definition() -> None:
    x_D = np.random.default_rng(0).integers(-50, 50, 3000).astype(np.float32)
    for k in (1, 59, 60, 1500, 2999, 3000):
        assert top_k_index(x_D, k).tolist() == by_definition(x_D, k)


def test_the_draws_do_not_matter() -> None:
    x_D = np.random.default_rng(0).standard_normal(20)
    assert np.array_equal(TopK(k=4).encode(x_D, Draws(0, 0, 0)).index_K, TopK(k=4).encode(x_D, Draws(9, 9, 9)).index_K)


@pytest.mark.parametrize(("d", "k"), [(1, 1), (10, 3), (40, 40), (30, 1)])
def test_bits_are_values_and_the_entropy_of_the_support(d: int, k: int) -> None:
    assert math.isclose(TopK(k=k).bits(d), 32 * k + math.log2(math.comb(d, k)), rel_tol=1e-12)


def test_the_dimension_must_hold_k() -> None:
    with pytest.raises(ConfigError, match="top_k needs 1 <= k <= d, got k=5 for d=4"):
        TopK(k=5).encode(np.ones(4), Draws(0, 0))
