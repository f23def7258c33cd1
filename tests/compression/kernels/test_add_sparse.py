"""Sparse vectors added block by block have the bits of one addition after the other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saddlebag.compression.kernels import plain
from saddlebag.compression.kernels.loader import Kernels, compiled
from saddlebag.compression.kernels.plain import Piece

BOTH = pytest.mark.parametrize("name", ["plain", "compiled"])


def kernels_of(name: str, monkeypatch: pytest.MonkeyPatch) -> Kernels:
    monkeypatch.setattr(plain, "_ADDED", 64)  # several blocks; the compiled one has its own constant
    found = {"plain": plain, "compiled": compiled()}[name]
    if found is None:
        pytest.skip("no numba")
    return found


def pieces_of(seed: int, d: int, count: int) -> list[Piece]:
    """Of different magnitudes, so that the order shows in the last bits."""
    rng, pieces = np.random.default_rng(seed), []
    for m in range(count):
        start = int(rng.integers(0, d)) if m % 3 == 2 else 0
        index_K = np.flatnonzero(rng.random(d - start) < rng.random() ** 3)
        index_K = index_K.astype([np.int32, np.int32, np.int64][int(rng.integers(0, 3 if seed % 3 else 2))])
        kind = [np.float32, np.float32, np.float64, np.float16][int(rng.integers(0, 4))] if seed % 2 else np.float32
        pieces.append(Piece(start, index_K, (rng.standard_normal(len(index_K)) * 10.0 ** (m % 5)).astype(kind)))
    return pieces


def one_after_the_other(out_D: np.ndarray, pieces: list[Piece], divisor: int) -> np.ndarray:
    for piece in pieces:
        out_D[piece.start + piece.index_K] += piece.value_K
    return out_D / divisor


@BOTH
@given(st.integers(0, 2**32), st.sampled_from([1, 63, 64, 65, 300]), st.integers(1, 6), st.integers(1, 9), st.booleans())
def test_the_bits_are_those_of_plain_additions(name: str, seed: int, d: int, count: int, divisor: int, fresh: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        kernels = kernels_of(name, patch)
        pieces = pieces_of(seed, d, count)
        before_D = np.random.default_rng(seed).standard_normal(d)
        out_D = np.full(d, np.nan) if fresh else before_D.copy()
        kernels.add_sparse(out_D, pieces, fresh=fresh, divisor=divisor)
        expected_D = one_after_the_other(np.zeros(d) if fresh else before_D.copy(), pieces, divisor)
        assert out_D.tobytes() == expected_D.tobytes()


@BOTH
def test_many_blocks_of_values_that_are_not_aligned(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kernels, d = kernels_of(name, monkeypatch), 300_000
    pieces = []
    for piece in pieces_of(4, d, 7):
        raw = b"x" + piece.value_K.tobytes()
        pieces.append(piece._replace(value_K=np.frombuffer(raw, piece.value_K.dtype, offset=1)))
    assert not pieces[0].value_K.flags.aligned
    out_D = np.empty(d)
    kernels.add_sparse(out_D, pieces, fresh=True, divisor=7)
    assert out_D.tobytes() == one_after_the_other(np.zeros(d), pieces, 7).tobytes()


@BOTH
@pytest.mark.parametrize("index", [[-1, 2], [2, 10]])
def test_a_coordinate_outside_the_sum_is_refused(name: str, index: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = kernels_of(name, monkeypatch)
    with pytest.raises(IndexError):
        kernels.add_sparse(np.zeros(10), [Piece(0, np.array(index), np.ones(2))], fresh=False, divisor=1)
