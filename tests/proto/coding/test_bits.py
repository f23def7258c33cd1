"""Packed numbers of one width."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saddlebag.proto.coding.bits import pack, packed_bytes, unpack


@given(st.integers(0, 64).flatmap(lambda width: st.tuples(st.just(width), st.lists(st.integers(0, 2**width - 1), max_size=40))))
def test_packed_numbers_are_read_again(case: tuple[int, list[int]]) -> None:
    width, numbers = case
    dtype = next(f"u{size}" for size in (1, 2, 4, 8) if width <= 8 * size)
    data = pack(np.array(numbers, dtype), width)
    assert len(data) == packed_bytes(len(numbers), width)
    assert unpack(memoryview(data), len(numbers), width).tolist() == numbers


@pytest.mark.parametrize("width", range(1, 8))
def test_bits_stand_one_after_the_other(width: int) -> None:
    number_N = np.random.default_rng(width).integers(0, 2**width, 1001).astype(np.uint8)
    bits = ((number_N[:, None] >> np.arange(width)) & 1).astype(np.uint8).reshape(-1)
    assert pack(number_N, width) == np.packbits(bits, bitorder="little").tobytes()


def test_whole_bytes_come_first_in_planes() -> None:
    assert pack(np.array([0x1FF, 0x0AB, 0x100], np.uint16), 9) == bytes((0xFF, 0xAB, 0x00, 0b101))
