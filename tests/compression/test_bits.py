"""The cost models against the length of what the codec writes, and the round trip of every kind of message."""

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
    Grid,
    Identity,
    Natural,
    NaturalDithering,
    NearestInt4,
    NearestInt8,
    PermK,
    RandK,
    Rule,
    SampledTopK,
    ScaledSign,
    StochasticBfloat16,
    Tensor,
    Ternary,
    TopK,
    UnscaledRandK,
    compose,
    induced,
    per_tensor,
    scaled,
)
from saddlebag.proto.codec import LoopbackWire

D = 40_000
HEADER_BITS = 8 * 40
FIXED: list[Compressor] = [
    Identity(),
    Identity(dtype="float64"),
    RandK(k=400),
    RandK(k=300, draw="strata", support="common"),
    UnscaledRandK(fraction=0.1),
    PermK(workers=4),
    Bernoulli(probability=1.0),
]
# at most the model: levels, exponents and halves are written as modelled or, where that is shorter, near their entropy
AT_MOST: list[Compressor] = [
    Natural(),
    StochasticBfloat16(),
    Cast(dtype="float16"),
    Cast(),
    BlockInt4(),
    BlockInt8(),
    NearestInt4(),
    NearestInt8(),
    Dithering(levels=7, norm="max", block=256),
    Dithering(levels=200),
    Dithering(levels=2000),
    NaturalDithering(),
    Ternary(),
    Ternary(block=64),
    ScaledSign(),
    ScaledSign(block=64),
    Grid(),
    scaled(unbiased=Natural()),
    compose(sparsifier=RandK(k=400), values=StochasticBfloat16()),
    compose(sparsifier=RandK(fraction=0.1), values=Ternary()),
]
# explicit coordinates: within half a per cent of the entropy of a uniform support
CHOSEN: list[Compressor] = [
    TopK(fraction=0.01),
    TopK(fraction=0.1),
    BlockTopK(block=500, fraction=0.01),
    induced(contractive=TopK(fraction=0.01), unbiased=RandK(fraction=0.01)),
    per_tensor(
        tensors=[Tensor("weight", (39_000,)), Tensor("bias", (1000,))],
        rules=[Rule(match="bias", use=Identity()), Rule(use=TopK(fraction=0.05))],
    ),
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
def test_levels_take_at_most_what_the_model_says(compressor: Compressor, x_D: np.ndarray) -> None:
    assert encoded_bits(compressor, x_D) <= 1.01 * compressor.bits(D) + HEADER_BITS


@pytest.mark.parametrize("compressor", CHOSEN, ids=repr)
def test_chosen_coordinates_come_near_their_entropy(compressor: Compressor, x_D: np.ndarray) -> None:
    assert 0.995 * compressor.bits(D) <= encoded_bits(compressor, x_D) <= 1.005 * compressor.bits(D) + HEADER_BITS


def test_a_sampled_threshold_keeps_about_as_many_as_it_should(x_D: np.ndarray) -> None:
    """The rank of the j-th of m has relative deviation sqrt(1/j): with j = 400 of 4000, 5 %; six of them."""
    compressor = SampledTopK(fraction=0.1, sample=4000)
    assert abs(encoded_bits(compressor, x_D) / compressor.bits(D) - 1) < 0.3


def test_top_k_with_8_bit_values_takes_half_of_float32_values(x_D: np.ndarray) -> None:
    compressor = compose(sparsifier=TopK(fraction=0.01), values=BlockInt8())
    assert encoded_bits(compressor, x_D) <= 16.4 * 400 + HEADER_BITS
