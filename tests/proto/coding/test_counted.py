"""Counted symbols: round trips, lengths against the probabilities, bytes that lie."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saddlebag.errors import RemoteProtocolError
from saddlebag.proto.coding.counted import MOST_LETTERS, MOST_SYMBOLS, decode_counted, encode_counted
from saddlebag.proto.reader import Reader


@st.composite
def texts(draw: st.DrawFn) -> tuple[int, list[int]]:
    letters = draw(st.integers(1, MOST_LETTERS))
    return letters, draw(st.lists(st.integers(0, letters - 1), max_size=70))


def ideal_bits(symbols: list[int], letters: int) -> float:
    """- log2 of the product of (2 c + 1) / (2 t + A)."""
    seen, bits = [0] * letters, 0.0
    for number, letter in enumerate(symbols):
        bits -= math.log2((2 * seen[letter] + 1) / (2 * number + letters))
        seen[letter] += 1
    return bits


@given(texts(), st.binary(max_size=3))
def test_symbols_are_read_again_whatever_follows(text: tuple[int, list[int]], after: bytes) -> None:
    letters, symbols = text
    data = encode_counted(np.array(symbols, np.int64), letters)
    reader = Reader(data + after)
    assert decode_counted(reader, len(symbols), letters).tolist() == symbols
    assert reader.left == len(after)
    assert len(data) <= (ideal_bits(symbols, letters) + 1) / 8 + 1  # a bit for whatever follows, whole bytes


@pytest.mark.parametrize("letters", [1, 2, 3, MOST_LETTERS])
def test_the_longest_texts_are_read_again(letters: int) -> None:
    rng = np.random.default_rng(letters)
    for symbol_N in (
        rng.integers(0, letters, MOST_SYMBOLS),
        np.zeros(MOST_SYMBOLS, np.int64),
        np.full(MOST_SYMBOLS, letters - 1),
        np.arange(MOST_SYMBOLS) % letters,
        np.sort(rng.integers(0, letters, MOST_SYMBOLS)),
    ):
        data = encode_counted(symbol_N, letters)
        assert (decode_counted(Reader(data), MOST_SYMBOLS, letters) == symbol_N).all()
        assert len(data) <= (ideal_bits(symbol_N.tolist(), letters) + 1) / 8 + 1


def test_a_hundred_ternary_levels_take_about_a_byte_more_than_their_entropy() -> None:
    rng, p = np.random.default_rng(0), np.array([0.17, 0.66, 0.17])
    sizes = [len(encode_counted(rng.choice(3, 100, p=p), 3)) for _ in range(300)]
    entropy_bytes = -100 * (p * np.log2(p)).sum() / 8
    assert np.mean(sizes) <= entropy_bytes + 1.2  # log2(100) bits for two free probabilities, half a byte, a bit


@given(st.binary(max_size=12), st.integers(0, 40), st.integers(1, MOST_LETTERS))
def test_any_bytes_are_symbols_or_refused(data: bytes, count: int, letters: int) -> None:
    reader = Reader(data)
    try:
        symbol_N = decode_counted(reader, count, letters)
    except RemoteProtocolError:
        return
    assert symbol_N.dtype == np.uint8
    assert encode_counted(symbol_N, letters) == data[: len(data) - reader.left]  # no two ways to write a text


def test_every_truncation_is_refused_or_another_text() -> None:
    symbol_N = np.random.default_rng(1).integers(0, 5, 60)
    data = encode_counted(symbol_N, 5)
    for end in range(len(data)):
        with pytest.raises(RemoteProtocolError):
            decode_counted(Reader(data[:end]), 60, 5)
