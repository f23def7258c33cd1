"""Two bits a value: bins, their means, what travels, and the constant."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from saddlebag.algorithms import Message
from saddlebag.compression import BlockTopK, ChunkTopK, Draws, feed_back
from saddlebag.compression.compressors.sparsifiers.chunk_top_k import four_levels
from saddlebag.errors import ConfigError, RemoteProtocolError
from saddlebag.proto.codec import decode, encode

DRAWS = Draws(0, 0)
ELEMENTS = st.floats(-(2.0**60), 2.0**60, width=32)


def test_levels_are_the_means_of_bins_of_one_and_a_half_root_mean_squares() -> None:
    value_K = np.array([1.0, -1.0, 2.0, -4.0, 3.0, 10.0])  # root mean square 4.67, so the edges are -7.01, 0 and 7.01
    book = four_levels(value_K, 6)
    assert book.code_D.tolist() == [2, 1, 2, 1, 2, 3]
    assert book.value_BC.tolist() == [[0.0, -2.5, 2.0, 10.0]]
    assert book.dense().tolist() == [2.0, -2.5, 2.0, -2.5, 2.0, 10.0]


def test_every_block_has_its_own_levels() -> None:
    value_K = np.random.default_rng(0).standard_normal(10) * np.repeat([1.0, 1e6, 1e-6], 4)[:10]
    book = four_levels(value_K, 4)
    parts = [four_levels(value_K[start : start + 4], 4).dense() for start in (0, 4, 8)]
    assert np.array_equal(book.dense(), np.concatenate(parts))


def test_squares_neither_vanish_nor_overflow() -> None:
    for scale in (1e-30, 1e30):
        book = four_levels(scale * np.array([1.0, 1.0, 1.0, 9.0]), 4)
        assert book.code_D.tolist() == [2, 2, 2, 3]


@given(hnp.arrays(np.float32, st.integers(1, 40), elements=ELEMENTS))
def test_places_are_those_of_top_k_and_the_message_survives_the_wire(x_D: np.ndarray) -> None:
    payload = ChunkTopK(chunk=8, k=3, group=2).encode(x_D, DRAWS)
    assert np.array_equal(payload.index_K, BlockTopK(block=8, fraction=3 / 8).encode(x_D, DRAWS).index_K)
    received = decode(b"".join(encode(Message((payload,)))), (len(x_D),), DRAWS)
    assert np.array_equal(received.parts[0].dense(), payload.dense())


def test_what_is_sent_and_carried_is_what_was_owed_to_rounding() -> None:
    """Not to the last bit, as where values are nearly the entries: a mean may be far larger than an entry of its bin."""
    owed_D = np.zeros(30)
    for round_ in range(20):
        x_D = np.random.default_rng(round_).standard_normal(30) * np.logspace(0, 6, 30)
        payload, after_D = feed_back(ChunkTopK(chunk=7, k=2, group=2), x_D, owed_D, Draws(0, round_, 1))
        largest = np.abs(owed_D + x_D).max()
        assert np.abs(payload.dense() + after_D - (owed_D + x_D)).max() <= 2.0**-52 * largest
        owed_D = after_D


def test_a_million_coordinates_take_less_than_016_bit_each_headers_included() -> None:
    x_D = np.random.default_rng(0).standard_normal(1 << 20)
    message = encode(Message((ChunkTopK().encode(x_D, DRAWS),)))
    bits = 8 * sum(map(len, message)) / len(x_D)
    assert 0.12 < bits <= 0.16
    assert bits <= ChunkTopK().bits(len(x_D)) / len(x_D)


def test_codes_beyond_the_book_are_refused() -> None:
    data = bytearray(b"".join(encode(Message((four_levels(np.arange(1.0, 9.0), 8),)))))
    data[2] = 2  # of four levels two remain, and the bytes of the others are read as codes
    with pytest.raises(RemoteProtocolError):
        decode(bytes(data), (8,), DRAWS)


def test_parameters_that_do_not_fit_are_named() -> None:
    with pytest.raises(ConfigError, match=r"chunk_top_k.k must be at most chunk = 4, got 5"):
        ChunkTopK(chunk=4, k=5)
    with pytest.raises(ConfigError, match=r"chunk_top_k.group must be a whole number of at least 1, got 0"):
        ChunkTopK(group=0)
