"""The cost models against the length of what the codec writes."""

from __future__ import annotations

import numpy as np
import pytest

from saddlebag.algorithms.base import Message
from saddlebag.compression import (
    Bernoulli,
    BlockInt4,
    BlockInt8,
    BlockTopK,
    Cast,
    Compressor,
    Dithering,
    Draws,
    Identity,
    Natural,
    NaturalDithering,
    NearestInt4,
    NearestInt8,
    PermK,
    RandK,
    SampledTopK,
    ScaledSign,
    StochasticBfloat16,
    Ternary,
    TopK,
    UnscaledRandK,
)
from saddlebag.proto.codec import LoopbackWire

D = 40_000
HEADER_BITS = 8 * 40
FIXED: list[Compressor] = [
    Identity(),
    Identity(dtype="float64"),
    RandK(k=400),
    UnscaledRandK(fraction=0.1),
    Cast(),
    Cast(dtype="float16"),
    StochasticBfloat16(),
    RandK(k=300, draw="strata", support="common"),
    PermK(workers=4),
    Bernoulli(probability=1.0),
]
# at most the model: levels and exponents are written in whole bits or, where that is shorter, near their entropy
AT_MOST: list[Compressor] = [
    Natural(),
    BlockInt4(),
    BlockInt8(),
    NearestInt4(),
    NearestInt8(),
    Dithering(levels=7, norm="max", block=256),
    Dithering(levels=2000),
    NaturalDithering(),
]


def encoded_bits(compressor: Compressor, x_D: np.ndarray) -> int:
    draws = Draws(0, 1, 2)
    payload = compressor.encode(x_D, draws)
    message, size = LoopbackWire().carry(Message((payload,)), (len(x_D),), draws)
    assert message.parts[0].dense().tobytes() == payload.dense().tobytes()
    return 8 * size


@pytest.fixture(scope="module")
def x_D() -> np.ndarray:
    return np.random.default_rng(0).standard_normal(D)


@pytest.mark.parametrize("compressor", FIXED, ids=repr)
def test_fixed_sizes_are_exact_but_for_the_header(compressor: Compressor, x_D: np.ndarray) -> None:
    assert 0 <= encoded_bits(compressor, x_D) - compressor.bits(D) <= HEADER_BITS


@pytest.mark.parametrize("compressor", AT_MOST, ids=repr)
def test_levels_take_at_most_their_whole_bits(compressor: Compressor, x_D: np.ndarray) -> None:
    size = encoded_bits(compressor, x_D)
    assert size <= compressor.bits(D) + HEADER_BITS
    assert size >= 0.4 * compressor.bits(D)


@pytest.mark.parametrize("fraction", [0.01, 0.1])
def test_top_k_comes_near_the_entropy_of_its_support(fraction: float, x_D: np.ndarray) -> None:
    for compressor in (TopK(fraction=fraction), BlockTopK(block=500, fraction=fraction)):
        assert compressor.bits(D) <= encoded_bits(compressor, x_D) <= 1.25 * compressor.bits(D) + HEADER_BITS


@pytest.mark.parametrize("compressor", [Ternary(), ScaledSign()], ids=repr)
def test_few_levels_take_at_most_two_bits(compressor: Compressor, x_D: np.ndarray) -> None:
    assert encoded_bits(compressor, x_D) <= 2 * D + HEADER_BITS


def test_a_sampled_threshold_keeps_about_as_many_as_it_should(x_D: np.ndarray) -> None:
    """The rank of the j-th of m has relative deviation sqrt(1/j): with j = 400 of 4000, 5 %; six of them."""
    compressor = SampledTopK(fraction=0.1, sample=4000)
    assert abs(encoded_bits(compressor, x_D) / compressor.bits(D) - 1) < 0.3
