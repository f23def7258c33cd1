"""Planes of 16-bit numbers: round trips, and lengths where exponents repeat and where they do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saddlebag.proto.coding.planes import decode_planes, encode_planes
from saddlebag.proto.reader import Reader


def bfloat16(x_D: Any) -> Any:
    return (x_D.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)


@given(st.sampled_from([0, 127, 128, 129, 1000, 40_000]), st.integers(0, 16), st.integers(0, 2**32))
def test_planes_are_read_again_or_not_written(count: int, bits: int, seed: int) -> None:
    bits_D = np.random.default_rng(seed).integers(0, 2**bits, count).astype(np.uint16)
    data = encode_planes(bits_D)
    if data is None:
        assert count < 128 or bits > 8
        return
    assert len(data) <= 0.95 * 2 * count
    reader = Reader(data + b"next")
    assert (decode_planes(reader, count) == bits_D).all()
    assert reader.left == 4


@pytest.mark.parametrize("count", [1000, 30_000, 200_000])
def test_gaussian_values_take_eleven_bits_and_the_largest_of_them_seven(count: int) -> None:
    x_D = np.random.default_rng(0).standard_normal(100 * count)
    for value_D, bits in ((x_D[:count], 11.2), (x_D[np.abs(x_D) > 2.5758][:count], 7.8)):
        bits_D = bfloat16(value_D)
        data = encode_planes(bits_D)
        assert data is not None
        assert 8 * len(data) <= bits * len(bits_D)
        assert (decode_planes(Reader(data), len(bits_D)) == bits_D).all()


def test_noise_is_left_as_it_is() -> None:
    for count in (1000, 100_000):
        assert encode_planes(np.random.default_rng(1).integers(0, 2**16, count).astype(np.uint16)) is None
