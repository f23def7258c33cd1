"""Contraction of every vector that a search finds: all float types, ties, zeros, one coordinate, sizes far apart, tiny ones."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from saddlebag.compression import (
    BlockTopK,
    Cast,
    ChunkTopK,
    Compressor,
    Draws,
    GreedyBlocks,
    Grid,
    HardThreshold,
    NearestInt4,
    NearestInt8,
    SampledTopK,
    ScaledSign,
    TopK,
    compose,
)

WIDTHS = {np.float16: 16, np.float32: 32, np.float64: 64}
MOST = 10  # coordinates
DETERMINISTIC: list[Compressor] = [
    TopK(fraction=0.3),
    TopK(fraction=1.0),
    BlockTopK(block=3, fraction=0.5),
    ChunkTopK(chunk=3, k=2, group=2),
    ChunkTopK(chunk=MOST, k=MOST),
    GreedyBlocks(block=3, fraction=0.4),
    SampledTopK(fraction=0.3, sample=MOST),  # the sample is everything
    NearestInt8(),
    NearestInt8(block=3),
    NearestInt4(block=4),
    ScaledSign(),
    ScaledSign(block=3),
    Cast(),
    Grid(),
    Grid(step=0.3, block=4),
    compose(sparsifier=TopK(fraction=0.5), values=NearestInt4()),
    compose(sparsifier=BlockTopK(block=4, k=2), values=Cast()),
    compose(sparsifier=TopK(fraction=0.5), values=ScaledSign()),
]
each = pytest.mark.parametrize("compressor", DETERMINISTIC, ids=repr)


def limits(dtype: type[np.floating]) -> tuple[float, float]:
    """Numbers whose scales, at most 127 times smaller, and squares stay normal float32 and float64."""
    return max(2.0**-110, float(np.finfo(dtype).smallest_subnormal)), min(2.0**120, float(np.finfo(dtype).max))


@st.composite
def vectors(draw: st.DrawFn, *, tiny: bool = False) -> np.ndarray:
    dtype = draw(st.sampled_from(sorted(WIDTHS, key=WIDTHS.__getitem__)))
    low, high = limits(dtype)
    sizes = st.floats(0.0 if tiny else low, 2.0**-120 if tiny and dtype != np.float16 else high, width=WIDTHS[dtype])
    elements = st.one_of(st.just(0.0), sizes, sizes.map(lambda x: -x))
    if draw(st.booleans()):
        elements = st.sampled_from(draw(st.lists(elements, min_size=1, max_size=3)))
    return draw(hnp.arrays(dtype, st.integers(1, MOST), elements=elements))


def squares(compressor: Any, x_D: np.ndarray) -> tuple[Fraction, Fraction]:
    """|C(x) - x|^2 and |x|^2, exactly."""
    sent_D = compressor.encode(x_D, Draws(0, 0, 0)).dense()
    exact = [Fraction(x) for x in x_D.tolist()]
    error2 = sum(((Fraction(a) - x) ** 2 for a, x in zip(sent_D.tolist(), exact, strict=True)), Fraction(0))
    return error2, sum((x**2 for x in exact), Fraction(0))


@each
@settings(max_examples=40)
@given(x_D=vectors())
@example(x_D=np.zeros(MOST))
@example(x_D=np.full(MOST, -7.0, np.float16))
@example(x_D=np.eye(1))
@example(x_D=np.array([127.0, 0.5, 0.5, -0.5, 1.5], np.float32))
def test_the_constant_holds(compressor: Any, x_D: np.ndarray) -> None:
    x_D = x_D.reshape(-1)
    error2, norm2 = squares(compressor, x_D)
    assert error2 <= (1 - Fraction(compressor.alpha(len(x_D))) + Fraction(1, 2**20)) * norm2  # float32 values and scales


@each
@settings(max_examples=40)
@given(x_D=vectors(tiny=True))
@example(x_D=np.full(3, 5e-324))
@example(x_D=np.full(MOST, 1e-45, np.float32))
@example(x_D=np.array([2.0**-133, 2.0**-149, 1e-60]))
def test_numbers_too_small_for_the_wire_lose_no_more_than_themselves(compressor: Any, x_D: np.ndarray) -> None:
    """The relative law ends where float32's (or bfloat16's) even steps begin; a step more than |x| is not lost there."""
    error2, norm2 = squares(compressor, x_D)
    steps = len(x_D) * Fraction(2) ** (-2 * 133)
    assert math.sqrt(error2 / steps) <= math.sqrt(norm2 / steps) * (1 + 1e-6) + 1


@settings(max_examples=40)
@given(x_D=vectors())
def test_a_hard_threshold_loses_no_more_than_the_vector_and_its_bound(x_D: np.ndarray) -> None:
    error2, norm2 = squares(HardThreshold(threshold=0.5), x_D)
    rounding = norm2 * Fraction(1, 2**40)
    assert error2 <= min(norm2, len(x_D) * Fraction(1, 4)) + rounding
