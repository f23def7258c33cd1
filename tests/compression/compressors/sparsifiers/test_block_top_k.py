from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from saddlebag.compression import BlockTopK, Draws, TopK
from saddlebag.errors import ConfigError

DRAWS = Draws(0, 0)
ELEMENTS = st.floats(-(2.0**100), 2.0**100, width=32) | st.sampled_from([0.0, 1.0, -1.0, 2.0])


@given(hnp.arrays(np.float32, st.integers(1, 30), elements=ELEMENTS), st.integers(1, 12), st.integers(1, 12))
def test_it_is_top_k_of_every_block(x_D: np.ndarray, block: int, k: int) -> None:
    expected = []
    for start in range(0, len(x_D), block):
        part_B = x_D[start : start + block]
        expected.append(TopK(k=min(k, len(part_B))).encode(part_B, DRAWS).dense())
    payload = BlockTopK(block=block, k=k).encode(x_D, DRAWS)
    assert np.array_equal(payload.dense(), np.concatenate(expected))
    assert (np.diff(payload.index_K) > 0).all()


def test_many_blocks_go_in_pieces() -> None:
    x_D = np.random.default_rng(0).integers(-3, 4, 700_001).astype(np.float64)
    payload = BlockTopK(block=1000, fraction=0.05).encode(x_D, DRAWS)
    assert np.bincount(payload.index_K // 1000).tolist() == [50] * 700 + [1]
    for row in (0, 261, 262, 699):
        part_B = x_D[row * 1000 : (row + 1) * 1000]
        assert np.array_equal(payload.dense()[row * 1000 : (row + 1) * 1000], TopK(k=50).encode(part_B, DRAWS).dense())


def test_alpha_is_that_of_the_poorest_block_and_attained() -> None:
    compressor = BlockTopK(block=4, fraction=0.5)
    assert compressor.alpha(9) == 0.5  # blocks of 4, 4 and 1
    assert BlockTopK(block=4, k=1).alpha(9) == 0.25
    assert BlockTopK(block=4, k=3).alpha(9) == 0.75
    assert BlockTopK(block=7, fraction=0.3).alpha(9) == 2 / 7  # and 1 of 2
    x_D = np.zeros(9)
    x_D[:4] = 1.0
    error_D = compressor.encode(x_D, DRAWS).dense() - x_D
    assert error_D @ error_D == 0.5 * (x_D @ x_D)


def test_parameters_that_do_not_fit_are_named() -> None:
    with pytest.raises(ConfigError, match=r"block_top_k.block must be a whole number of at least 1, got 0"):
        BlockTopK(block=0, k=1)
    with pytest.raises(ConfigError, match="block_top_k needs exactly one of k and fraction"):
        BlockTopK(block=4)
