"""Words that several coordinates share: sums to the last value, and hardly more bits than any masks need."""

import math

import numpy as np
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from saddlebag.errors import ConfigError, RemoteProtocolError
from saddlebag.proto.secure.primitives import hkdf
from saddlebag.proto.secure.ring import CHECK_BYTES, Ring


@given(
    size=st.integers(0, 200),
    most=st.integers(1, 2**20),
    members=st.integers(1, 300),
    count=st.integers(1, 6),
    extreme=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_sums_come_back_whatever_shares_a_word(size, most, members, count, extreme, seed):
    count = min(count, members)
    ring = Ring(size, most, members, b"round")
    rng = np.random.default_rng(seed)
    levels = [rng.choice((-most, most), size) if extreme else rng.integers(-most, most + 1, size) for _ in range(count)]
    total = ring.zero()
    for level_D in levels:
        sent = ring.with_mask(ring.member(level_D), bytes(32))
        data = ring.encode(sent)
        assert len(data) == ring.num_bytes
        total = total.plus(ring.decode(data))
    for _ in levels:
        total = ring.with_mask(total, bytes(32), -1)
    assert np.array_equal(ring.levels(total, count), sum(levels))


@pytest.mark.parametrize("most", [7, 127])
@pytest.mark.parametrize("members", [3, 5, 10, 30, 100])
def test_a_coordinate_takes_hardly_more_bits_than_a_sum_has_values(most, members):
    """Uniform over the values of a sum is what masks need: log2(2 n L + 1) bits, of which a word of its own rounds up."""
    size = 100_000
    ring = Ring(size, most, members, b"")
    floor = size * math.log2(2 * members * most + 1) / 8
    assert floor < ring.num_bytes - CHECK_BYTES < 1.015 * floor


def test_one_unit_too_much_anywhere_does_not_pass():
    ring = Ring(60, 7, 5, b"round")
    for at in range(0, 38, 7):
        for word in (0, ring.num_words - 1):
            masked = ring.member(np.zeros(60, np.int64))
            masked.word_W[word] += ring._dtype.type(1 << at)
            with pytest.raises(RemoteProtocolError, match="do not cancel"):
                ring.levels(masked, 5)


def test_sums_beyond_32_bits_are_refused():
    with pytest.raises(ConfigError, match="exceed 32 bits"):
        Ring(4, 2**30, 4, b"")


@given(secret=st.binary(min_size=1, max_size=40), purpose=st.binary(max_size=100))
def test_keys_are_those_of_hkdf(secret, purpose):
    assert hkdf(secret, purpose) == HKDF(hashes.SHA256(), 32, None, purpose).derive(secret)
