from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from saddlebag.compression import (
    Dense,
    Draws,
    Flat,
    Levels,
    LowRank,
    Payload,
    PowersOfTwo,
    Purpose,
    Scope,
    Seeded,
    Spacing,
    Sparse,
    Support,
    flat,
    uniform_subset,
)

POWERS = st.builds(lambda sign, power: sign * 2.0**power, st.sampled_from([-1, 0, 1]), st.integers(-126, 127))


@st.composite
def flats(draw: st.DrawFn, size: int) -> Flat:
    if draw(st.booleans()):
        return PowersOfTwo(draw(hnp.arrays(np.float32, size, elements=POWERS)))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    elements = st.floats(-(2.0**100), 2.0**100, width=32) if dtype == np.float32 else st.floats(-1e300, 1e300)
    return Dense(draw(hnp.arrays(dtype, size, elements=elements)))


@st.composite
def payloads(draw: st.DrawFn) -> Payload:
    d = draw(st.integers(1, 20))
    layout = draw(st.sampled_from(["flat", "sparse", Scope.OWN, Scope.COMMON]))
    if layout == "flat":
        return draw(flats(d))
    k = draw(st.integers(1, d))
    if isinstance(layout, Scope):
        support = Support(d, k, layout)
        return Seeded(support, support.index_K(Draws(draw(st.integers(0, 9)), 1, 2)), draw(flats(k)))
    index_K = np.array(sorted(draw(st.sets(st.integers(0, d - 1), min_size=k, max_size=k))))
    return Sparse(d, index_K, draw(flats(k)))


@given(payloads(), st.data())
def test_adding_is_adding_the_dense_vector(payload: Payload, data: st.DataObject) -> None:
    out_D = data.draw(hnp.arrays(np.float64, payload.dimension, elements=st.floats(-1e300, 1e300)))
    dense_D = payload.dense()
    assert dense_D.shape == (payload.dimension,)
    assert dense_D.dtype == np.float64
    expected_D = out_D + dense_D
    payload.add_to(out_D)
    assert np.array_equal(out_D, expected_D)
    touched = dense_D != 0
    assert out_D[touched].tobytes() == expected_D[touched].tobytes()


@given(payloads())
def test_dense_is_the_receivers_own(payload: Payload) -> None:
    first_D = payload.dense()
    before = first_D.tobytes()
    first_D += 1.0
    assert payload.dense().tobytes() == before


def test_adding_works_on_a_slice() -> None:
    out_D = np.zeros(6)
    Dense(np.array([1.0, 2.0])).add_to(out_D[2:4])
    Sparse(2, np.array([1]), Dense(np.array([5.0]))).add_to(out_D[4:])
    assert out_D.tolist() == [0, 0, 1, 2, 0, 5]


@pytest.mark.parametrize(("dimension", "size"), [(1, 1), (9, 4), (2000, 3), (2000, 1500)])
def test_supports_are_drawn_alike_or_apart_as_their_scope_says(dimension: int, size: int) -> None:
    own, common = Support(dimension, size, Scope.OWN), Support(dimension, size, Scope.COMMON)
    mine, yours = Draws(3, 5, 0), Draws(3, 5, 1)
    assert np.array_equal(common.index_K(mine), common.index_K(yours))
    assert np.array_equal(common.index_K(mine), uniform_subset(mine.common(Purpose.SUPPORT), dimension, size))
    assert np.array_equal(own.index_K(yours), uniform_subset(yours.own(Purpose.SUPPORT), dimension, size))
    if dimension == 2000:
        assert not np.array_equal(own.index_K(mine), own.index_K(yours))
        assert not np.array_equal(common.index_K(mine), common.index_K(Draws(3, 6, 0)))
        assert not np.array_equal(common.index_K(mine), common.index_K(Draws(4, 5, 0)))


def test_a_shared_support_cannot_be_altered() -> None:
    index_K = Support(9, 4, Scope.COMMON).index_K(Draws(0, 0))
    with pytest.raises(ValueError, match="read-only"):
        index_K[0] = 1


@pytest.mark.parametrize("spacing", Spacing)
@pytest.mark.parametrize(("d", "block"), [(1, 5), (40, 7), (100, 7), (100, 100), (64, 16), (90, 45)])
def test_levels_are_added_in_pieces(spacing: Spacing, d: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bits of the whole vector, whose memory is not taken."""
    rng = np.random.default_rng(d)
    for dtype in (np.int8, np.int16):
        level_D = rng.integers(-100, 100, d).astype(dtype)
        scale_B = rng.random(-(-d // block)).astype(np.float32)
        before_D, expected_D = rng.standard_normal(d), Levels(level_D, scale_B, block, spacing).value_D
        for piece in (1, 16, 1000):
            monkeypatch.setattr(flat, "_PIECE", piece)
            payload, out_D = Levels(level_D, scale_B, block, spacing), before_D.copy()
            payload.add_to(out_D)
            assert "value_D" not in vars(payload)
            assert out_D.tobytes() == (before_D + expected_D).tobytes()


def test_the_table_of_dyadic_levels_is_the_formula() -> None:
    level_D = np.tile(np.arange(-128, 128), 3).astype(np.int8)  # longer than the table
    by_formula = [math.copysign(2.0 ** (1 - abs(level)), level) if level else 0.0 for level in level_D.tolist()]
    assert Levels(level_D, np.ones(1, np.float32), len(level_D), Spacing.DYADIC).value_D.tolist() == by_formula


@pytest.mark.parametrize(("rows", "columns", "cut"), [(7, 3, 2), (300, 257, 5), (2, 40_000, 0), (40_000, 1, 0)])
def test_a_low_rank_product_is_summed_in_order_whatever_its_blocks(rows: int, columns: int, cut: int) -> None:
    """The bits of plain outer products, one after the other; shapes within, across and beyond a block."""
    rng = np.random.default_rng(0)
    p_RK, q_CK = (rng.standard_normal((size, 3)).astype(np.float32) for size in (rows, columns))
    expected = np.zeros((rows, columns))
    for p_R, q_C in zip(p_RK.T, q_CK.T, strict=True):
        expected += np.multiply.outer(p_R.astype(np.float64), q_C.astype(np.float64))
    payload = LowRank(rows * columns - cut, p_RK, q_CK)
    assert np.array_equal(payload.dense(), expected.reshape(-1)[: payload.dimension])
