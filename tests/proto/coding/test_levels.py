"""Levels: round trips in every coding, lengths against their entropy, lies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from saddlebag.errors import LocalProtocolError, RemoteProtocolError
from saddlebag.proto.coding.counted import MOST_SYMBOLS
from saddlebag.proto.coding.indices import BITMAP
from saddlebag.proto.coding.levels import COUNTED, COUNTED_3, COUNTED_5, FIXED, GROUPED, SPARSE, decode_levels, encode_levels
from saddlebag.proto.coding.squeeze import squeeze
from saddlebag.proto.reader import Reader, signed_varint, varint

if TYPE_CHECKING:
    from saddlebag.proto.coding.levels import LevelVector


def coded(level_D: LevelVector) -> tuple[int, bytes]:
    """The coding and the body, which is read again."""
    coding, body = encode_levels(level_D)
    reader = Reader(body + b"next")
    again_D = decode_levels(reader, coding, len(level_D))
    narrow = np.int8 if not len(level_D) or -128 <= level_D.min() <= level_D.max() <= 127 else np.int16
    assert again_D.dtype == narrow
    assert (again_D == level_D).all()
    assert reader.left == 4
    return coding, body


def entropy_bytes(level_D: LevelVector) -> float:
    """D times the empirical entropy of a level."""
    counts = np.unique(level_D, return_counts=True)[1]
    return float(-(counts * np.log2(counts / len(level_D))).sum() / 8)


ranges = st.sampled_from([(-1, 1), (-2, 2), (0, 1), (-7, 7), (-128, 127), (-128, 128), (100, 140), (-(2**15), 2**15 - 1)])


@given(
    st.tuples(ranges, st.sampled_from([0, 1, 2, 63, 64, 65, 200]) | st.integers(0, 40)).flatmap(
        lambda case: hnp.arrays(np.int16, case[1], elements=st.integers(*case[0]))
    )
)
def test_levels_are_read_again(level_D: LevelVector) -> None:
    coded(level_D)


@given(
    st.sampled_from([MOST_SYMBOLS, MOST_SYMBOLS + 1, 5000]),
    st.sampled_from([0.0, 0.001, 0.05, 0.3, 1.0]),
    ranges,
    st.integers(0, 2**32),
)
def test_longer_levels_are_read_again(count: int, density: float, extent: tuple[int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    level_D = np.where(rng.random(count) < density, rng.integers(*extent, count, endpoint=True), 0).astype(np.int16)
    coded(level_D)


def gaussian_levels(count: int, most: int, block: int = 512) -> LevelVector:
    """Max-norm dithering by blocks."""
    rng = np.random.default_rng(0)
    x_BK = rng.standard_normal((-(-count // block), block))
    x_BK *= most / np.abs(x_BK).max(axis=1, keepdims=True)
    return np.floor(x_BK + rng.random(x_BK.shape)).reshape(-1)[:count].astype(np.int8)


def ternary(count: int, density: float = 0.34) -> LevelVector:
    return np.random.default_rng(1).choice(np.array([-1, 0, 1], np.int8), count, p=[density / 2, 1 - density, density / 2])


@pytest.mark.parametrize("count", [10_000, 100_000, 1_000_000])
@pytest.mark.parametrize("most", [7, 15, 127])
def test_dithering_takes_at_most_a_twentieth_more_than_its_entropy(count: int, most: int) -> None:
    level_D = gaussian_levels(count, most)
    assert len(coded(level_D)[1]) <= 1.05 * entropy_bytes(level_D)


@pytest.mark.parametrize(
    ("density", "ratio"), [(0.6, 1.05), (0.34, 1.05), (0.21, 1.05), (0.15, 1.03), (0.04, 1.05), (0.001, 1.1)]
)
def test_few_levels_come_near_their_entropy_at_every_density(density: float, ratio: float) -> None:
    for count in (20_000, 500_000):
        level_D = ternary(count, density)
        coding, body = coded(level_D)
        if count > 10**5:  # below, the shorter of both is written
            assert coding == (SPARSE if density < 0.2 else GROUPED)
        assert len(body) <= ratio * entropy_bytes(level_D) + 8


def test_a_hundred_levels_are_counted() -> None:
    for most, tacit in ((1, COUNTED_3), (2, COUNTED_5), (3, COUNTED)):
        level_D = np.random.default_rng(2).integers(-most, most + 1, 100).astype(np.int8)
        coding, body = coded(level_D)
        assert coding == tacit
        assert len(body) <= entropy_bytes(level_D) + 2 + most  # the probabilities, and low and letters where they are sent


def test_what_cannot_be_shortened_is_written_in_whole_bits() -> None:
    rng = np.random.default_rng(3)
    for count in (10, 2000, 100_000):
        level_D = rng.integers(-128, 128, count).astype(np.int8)
        assert coded(level_D)[0] == FIXED
        wide_D = rng.integers(-(2**15), 2**15, count).astype(np.int16)
        assert len(coded(wide_D)[1]) <= 4 + 2 * count
    assert len(coded(np.full(10**6, 5, np.int8))[1]) <= 10


def test_other_types_are_our_own_fault() -> None:
    with pytest.raises(LocalProtocolError, match="levels must be int8 or int16, got int32"):
        encode_levels(np.zeros(3, np.int32))


LIES = {
    "unknown coding": (6, b"", 3, "unknown level coding 6"),
    "too many symbols": (COUNTED_3, bytes(9), MOST_SYMBOLS + 1, "at most 1024 levels are counted, got 1025"),
    "no letters": (COUNTED, b"\x00\x00", 3, "0 levels from 0"),
    "too many letters": (COUNTED, b"\x00\x21", 3, "33 levels from 0: 1 to 32"),
    "counted beyond 16 bits": (COUNTED, signed_varint(32767) + b"\x02", 3, "2 levels from 32767"),
    "counted are cut short": (COUNTED_5, b"\x07", 100, "100 counted symbols are cut short"),
    "grouped beyond 16 bits": (GROUPED, signed_varint(32767) + b"\x01\x01", 3, "1 of 2 levels from 32767"),
    "no group": (GROUPED, b"\x00\x01\x00", 3, "0 of 2 levels from 0 a byte"),
    "too large a group": (GROUPED, b"\x00\x02\x06", 3, "6 of 3 levels from 0 a byte"),
    "too few groups": (GROUPED, b"\x00\x02\x02" + squeeze(bytes(1)), 3, "must hold 2 to 2 bytes, got 1"),
    "no such group": (GROUPED, b"\x00\x02\x02" + squeeze(b"\x08\x09"), 3, "a byte 9 holds no 2 of 3 levels"),
    "more than D": (SPARSE, varint(4), 3, r"the number of levels other than 0 must lie in \[0, 3\], got 4"),
    "sparse in sparse": (SPARSE, bytes((1, BITMAP, 1, SPARSE, 0, 0)), 3, "sparse levels within sparse levels"),
    "one beyond 16 bits": (SPARSE, bytes((1, BITMAP, 1, FIXED)) + signed_varint(32767) + b"\x00", 3, "a level exceeds 32767"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_named(name: str) -> None:
    coding, data, count, message = LIES[name]
    with pytest.raises(RemoteProtocolError, match=message):
        decode_levels(Reader(data), coding, count)
