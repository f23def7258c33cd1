from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from saddlebag.compression import BlockInt4, BlockInt8, Draws, NearestInt4, NearestInt8
from saddlebag.errors import ConfigError

NEAREST = [NearestInt8(), NearestInt8(block=3), NearestInt4(), NearestInt4(block=2)]
SIZES = st.one_of(st.just(0.0), st.floats(2.0**-100, 2.0**100), st.floats(-(2.0**100), -(2.0**-100)))


def square(value_D: np.ndarray) -> Fraction:
    return sum((Fraction(value) ** 2 for value in value_D.tolist()), Fraction(0))


@pytest.mark.parametrize("compressor", NEAREST, ids=repr)
@given(x_D=hnp.arrays(np.float64, st.integers(1, 9), elements=SIZES))
@example(x_D=np.array([1.0, 0.5 / 127, 1.5 / 127]))
@example(x_D=np.zeros(4))
def test_the_nearest_level_contracts_every_vector(compressor: NearestInt8, x_D: np.ndarray) -> None:
    payload = compressor.encode(x_D, Draws(0, 0, 0))
    error2 = sum(((Fraction(a) - Fraction(b)) ** 2 for a, b in zip(payload.dense(), x_D.tolist(), strict=True)), Fraction(0))
    assert error2 <= (1 - Fraction(compressor.alpha(len(x_D))) + Fraction(1, 2**21)) * square(x_D)
    assert np.abs(payload.level_D).max() <= compressor._levels


@pytest.mark.parametrize("compressor", [NearestInt8(), NearestInt4()], ids=repr)
def test_alpha_is_attained_by_halves(compressor: NearestInt8) -> None:
    d = compressor.block
    x_D = np.full(d, 0.4999999)  # below one half, and the scale, rounded up, cannot lift it above
    x_D[0] = compressor._levels
    payload = compressor.encode(x_D, Draws(0, 0, 0))
    assert payload.level_D.tolist() == [compressor._levels] + [0] * (d - 1)
    assert math.isclose(float(((payload.dense() - x_D) ** 2).sum() / (x_D @ x_D)), 1 - compressor.alpha(d), rel_tol=1e-5)


@pytest.mark.parametrize(("random", "nearest"), [(BlockInt8, NearestInt8), (BlockInt4, NearestInt4)])
def test_random_and_nearest_share_levels_scales_and_size(random: type[BlockInt8], nearest: type[NearestInt8]) -> None:
    x_D = np.random.default_rng(0).standard_normal(1000)
    one, other = random().encode(x_D, Draws(0, 0, 0)), nearest().encode(x_D, Draws(0, 0, 0))
    assert np.array_equal(one.scale_B, other.scale_B)
    assert len(one.scale_B) == math.ceil(1000 / random().block)
    assert np.abs(one.level_D.astype(int) - other.level_D).max() == 1
    width = 8 if random is BlockInt8 else 4
    assert random().bits(1000) == nearest().bits(1000) == width * 1000 + 32 * len(one.scale_B)


def test_what_is_lost_at_the_default_blocks() -> None:
    assert math.isclose(BlockInt8().omega(10**6), 0.00786, rel_tol=1e-2)
    assert math.isclose(BlockInt4().omega(10**6), 0.256, rel_tol=1e-2)
    assert math.isclose(NearestInt8().alpha(10**6), 0.9921, rel_tol=1e-3)
    assert math.isclose(NearestInt4().alpha(10**6), 0.757, rel_tol=1e-3)


def test_the_block_is_checked() -> None:
    with pytest.raises(ConfigError, match="block must be a whole number of at least 1, got 0"):
        BlockInt8(block=0)
