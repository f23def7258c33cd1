"""Index sets: round trips in every coding, lengths against log2 C(D, K), lies."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saddlebag.errors import RemoteProtocolError
from saddlebag.proto.coding import indices as index_coding
from saddlebag.proto.coding import rice
from saddlebag.proto.coding.indices import BITMAP, GAPS, RAW, RICE, SQUEEZED, decode_index, encode_index
from saddlebag.proto.coding.squeeze import squeeze
from saddlebag.proto.reader import Reader, varint

if TYPE_CHECKING:
    from saddlebag.compression.payload import Index


def read(data: bytes, dimension: int, count: int) -> Index:
    reader = Reader(data)
    index_K = decode_index(reader, dimension, count)
    assert reader.left == 0
    assert index_K.dtype == np.int64
    return index_K


def subset(rng: np.random.Generator, dimension: int, count: int) -> Index:
    return np.sort(rng.choice(dimension, count, replace=False, shuffle=False)).astype(np.int64)


def bound_bits(dimension: int, count: int) -> float:
    return (math.lgamma(dimension + 1) - math.lgamma(count + 1) - math.lgamma(dimension - count + 1)) / math.log(2)


sets = st.integers(1, 300).flatmap(lambda d: st.tuples(st.just(d), st.sets(st.integers(0, d - 1))))
sparse_sets = st.tuples(st.just(2**40), st.sets(st.integers(0, 2**40 - 1), max_size=90))


@given(sets | sparse_sets)
def test_sets_are_read_again(case: tuple[int, set[int]]) -> None:
    dimension, members = case
    index_K = np.array(sorted(members), np.int64)
    data = encode_index(dimension, index_K)
    assert read(data, dimension, len(index_K)).tolist() == index_K.tolist()
    assert len(data) <= 1 + min(len(index_K) * 8, -(-dimension // 8))


def codings_of(dimension: int, index_K: Index) -> dict[int, bytes]:
    """The set in every coding, whichever is shortest."""
    codings = [RAW, GAPS, *(RICE + rest for rest in range(min(dimension.bit_length(), 12)))]
    codings += [BITMAP, SQUEEZED] if dimension < 10**7 else []
    return {coding: bytes((coding,)) + index_coding._body(coding, dimension, index_K) for coding in codings}


@given(sets)
def test_every_coding_holds_every_set(case: tuple[int, set[int]]) -> None:
    dimension, members = case
    index_K = np.array(sorted(members or {0}), np.int64)
    for data in codings_of(dimension, index_K).values():
        assert read(data, dimension, len(index_K)).tolist() == index_K.tolist()


@pytest.mark.parametrize("block", [8, 64])
@pytest.mark.parametrize("density", [0.01, 0.3, 1.0])
def test_blocks_join_without_a_seam(monkeypatch: pytest.MonkeyPatch, block: int, density: float) -> None:
    dimension = 5000
    index_K = subset(np.random.default_rng(0), dimension, int(density * dimension))
    whole = codings_of(dimension, index_K)
    monkeypatch.setattr(rice, "BLOCK", block)
    monkeypatch.setattr(index_coding, "BLOCK", block)
    assert codings_of(dimension, index_K) == whole
    for data in whole.values():
        assert (read(data, dimension, len(index_K)) == index_K).all()


@pytest.mark.parametrize("dimension", [10**6, 10**7])
@pytest.mark.parametrize(("density", "ratio"), [(0.2, 1.03), (0.1, 1.015), (0.05, 1.015), (0.01, 1.015), (0.001, 1.015)])
def test_uniform_sets_take_little_more_than_the_bound(dimension: int, density: float, ratio: float) -> None:
    index_K = subset(np.random.default_rng(1), dimension, int(density * dimension))
    data = encode_index(dimension, index_K)
    bound = bound_bits(dimension, len(index_K))
    assert bound <= 8 * len(data) <= ratio * bound
    assert (read(data, dimension, len(index_K)) == index_K).all()


@pytest.mark.parametrize("density", [0.02, 0.03, 0.07, 0.13, 0.16, 0.18, 0.2, 0.3, 0.45, 0.5, 0.8, 1.0])
def test_no_density_is_a_weak_spot(density: float) -> None:
    rng = np.random.default_rng(2)
    for dimension in (200_000, 2_000_000):
        index_K = subset(rng, dimension, int(density * dimension))
        bound = bound_bits(dimension, len(index_K))
        assert len(encode_index(dimension, index_K)) <= (1.03 if density <= 0.2 else 1.045) * bound / 8 + 64


@pytest.mark.parametrize(("dimension", "count"), [(50, 5), (100, 10), (10_000, 100), (10_000, 300), (10**6, 100), (10**6, 300)])
def test_small_sets_take_a_few_bytes_more_than_the_bound(dimension: int, count: int) -> None:
    rng = np.random.default_rng(3)
    mean_bytes = np.mean([len(encode_index(dimension, subset(rng, dimension, count))) for _ in range(50)])
    assert mean_bytes <= 1.025 * bound_bits(dimension, count) / 8 + 2.5  # Rice at its worst; coding and padding


def test_sets_with_structure_take_far_less() -> None:
    dimension, rng = 1_000_000, np.random.default_rng(4)
    rows = np.arange(0, dimension, 1000) + subset(rng, 1000, 10)[:, None]  # the same columns of every row
    blocks = np.arange(100_000) // 5000 * 45_000 + np.arange(100_000)  # runs
    for index_K in (np.sort(rows.reshape(-1)), blocks):
        data = encode_index(dimension, index_K)
        assert (read(data, dimension, len(index_K)) == index_K).all()
        assert 8 * len(data) < 0.1 * bound_bits(dimension, len(index_K))


GAP_LIE = bytes((3, 255, 2))
LIES = {
    "unknown coding": (bytes((9, 0)), 20, 1, "unknown index coding 9"),
    "Rice with too many low bits": (bytes((RICE + 5, 0)), 20, 1, "unknown index coding 69"),
    "Rice is cut short": (bytes((RICE, 0b1010)), 20, 3, "3 gaps are cut short: 2 end within 1 bytes"),
    "Rice without low bits": (bytes((RICE + 2, 0b11)), 20, 2, "1 bytes expected, 0 left"),
    "Rice beyond D": (bytes((RICE + 2, 0b10_0000, 3)), 20, 1, "an index exceeds the 20 coordinates"),
    "gaps beyond D": (bytes((GAPS,)) + squeeze(bytes((10, 9))), 20, 2, "an index exceeds the 20"),
    "a long gap beyond D": (bytes((GAPS,)) + squeeze(b"\xff" + (500).to_bytes(4, "little")), 400, 1, "a gap of 500 exceeds"),
    "a long gap is missing": (bytes((GAPS,)) + squeeze(GAP_LIE), 900, 3, "1 long gaps take 4 bytes, got 0"),
    "a long gap too many": (bytes((GAPS,)) + squeeze(bytes(7)), 900, 3, "0 long gaps take 0 bytes, got 4"),
    "gaps are too few": (bytes((GAPS,)) + squeeze(bytes(2)), 900, 3, "must hold 3 to 15 bytes, got 2"),
    "a frame is cut short": (bytes((GAPS,)) + varint(40), 900, 3, "the length of a compressed frame"),
    "a bitmap of another size": (bytes((SQUEEZED,)) + squeeze(bytes(4)), 20, 3, "must hold 3 to 3 bytes, got 4"),
    "a bitmap of fewer": (bytes((SQUEEZED,)) + squeeze(b"\x03\0\0"), 20, 3, "a bitmap of 3 of 20 coordinates holds 2"),
    "a bitmap of more": (bytes((BITMAP,)) + b"\xff\0\0", 20, 3, "a bitmap of 3 of 20 coordinates holds more"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_named(name: str) -> None:
    data, dimension, count, message = LIES[name]
    with pytest.raises(RemoteProtocolError, match=message):
        decode_index(Reader(data), dimension, count)


@pytest.mark.parametrize("dimension", [60, 3000, 2**20, 2**33, 2**45])
def test_few_indices_are_written_and_read_as_many_are(monkeypatch: pytest.MonkeyPatch, dimension: int) -> None:
    rng = np.random.default_rng(dimension)
    for count in (1, 2, 7, 8, 9, rice.FEW):
        index_K = np.unique(rng.integers(0, dimension, count))
        for rest in range(max(0, dimension.bit_length() - 10), dimension.bit_length()):
            results = []
            for few in (rice.FEW, 0):
                with monkeypatch.context() as patch:
                    patch.setattr(rice, "FEW", few)
                    data = rice.encode_rice(index_K, rest)
                    back_K = rice.read_rice(Reader(data), dimension, len(index_K), rest)
                    results.append((data, back_K.tolist(), rice.best_rice(dimension, rice.gaps(index_K))))
            assert results[0] == results[1]
            assert results[0][1] == index_K.tolist()


def test_sums_of_gaps_that_wrap_around_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    dimension, longest = 2**62, (2**62 - 1).to_bytes(8, "little")
    for count in range(2, 9):  # four of them make 2^64
        data = bytes((GAPS,)) + squeeze(b"\xff" * count + longest * count)
        with pytest.raises(RemoteProtocolError, match="an index exceeds"):
            decode_index(Reader(data), dimension, count)
    gap = (2**62 - 1).to_bytes(8, "little")  # 62 bits: seven planes of bytes, then the top
    for count in (2, 4, rice.FEW):
        top = sum(0x3F << 6 * number for number in range(count)).to_bytes(-(-6 * count // 8), "little")
        unary = ((1 << count) - 1).to_bytes(-(-count // 8), "little")
        data = bytes((RICE + 62,)) + unary + b"".join(bytes((byte,)) * count for byte in gap[:7]) + top
        for few in (rice.FEW, 0):
            monkeypatch.setattr(rice, "FEW", few)
            with pytest.raises(RemoteProtocolError, match="an index exceeds"):
                decode_index(Reader(data), dimension, count)


@pytest.mark.parametrize("gap", [253, 254, 255, 256, 257])
def test_gaps_around_the_escape_are_read_again(gap: int) -> None:
    """A gap equal to the byte that announces a long one is itself written long."""
    index_K = np.cumsum([0, *[gap + 1] * 5, 1, gap + 1]).astype(np.int64)
    data = codings_of(4000, index_K)[GAPS]
    assert read(data, 4000, len(index_K)).tolist() == index_K.tolist()
    long = 6 if gap >= 255 else 0
    assert len(index_coding._gap_bytes(4000, index_K)) == len(index_K) + 4 * long


@pytest.mark.parametrize(("dimension", "size"), [(2**32, 4), (2**32 + 1, 8)])
def test_a_long_gap_takes_no_more_bytes_than_the_last_coordinate_needs(dimension: int, size: int) -> None:
    assert index_coding._escape_type(dimension).itemsize == size
