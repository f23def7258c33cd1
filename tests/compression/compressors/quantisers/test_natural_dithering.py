from __future__ import annotations

import numpy as np
import pytest

from saddlebag.compression import Draws, NaturalDithering, Spacing
from saddlebag.compression.compressors.quantisers.natural_dithering import dyadic_levels_at
from saddlebag.errors import ConfigError

LAST = 2**32 - 1


@pytest.mark.parametrize("word", [0, LAST])
def test_powers_of_the_scale_and_zeros_stay(word: int) -> None:
    x_D = np.array([3.0, -1.5, 0.75, 0.0, -0.0])
    level_D = dyadic_levels_at(x_D, np.float32(3.0), 3, np.full(5, word, np.uint32))
    assert level_D.tolist() == [1, -2, 3, 0, 0]


def test_between_powers_and_below_the_last() -> None:
    x_D, scale = np.array([0.75, -0.75, 0.1, -0.1]), np.float32(1.0)
    assert dyadic_levels_at(x_D, scale, 3, np.zeros(4, np.uint32)).tolist() == [2, -2, 3, -3]
    assert dyadic_levels_at(x_D, scale, 3, np.full(4, LAST, np.uint32)).tolist() == [1, -1, 0, 0]


def test_the_payload_stands_for_what_the_levels_say() -> None:
    x_D = np.random.default_rng(0).standard_normal(70_000)
    payload = NaturalDithering(levels=5).encode(x_D, Draws(0, 0, 0))
    assert payload.spacing is Spacing.DYADIC
    assert np.abs(payload.level_D).max() == 5
    scale = float(payload.scale_B[0])
    sizes = np.unique(np.abs(payload.dense())) / scale
    assert sizes.tolist() == [0.0, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0]
    assert (payload.dense() * x_D >= 0).all()
    within = np.abs(payload.dense()) <= np.maximum(2 * np.abs(x_D), scale / 16) * (1 + 1e-6)
    assert within.all()


def test_bits_and_parameters() -> None:
    assert NaturalDithering(levels=7).bits(100) == 4 * 100 + 32
    with pytest.raises(ConfigError, match=r"natural_dithering.levels must be a whole number from 1 to 100, got 101"):
        NaturalDithering(levels=101)
    with pytest.raises(ConfigError, match=r"natural_dithering.norm must be 'l2' or 'max', got 'l1'"):
        NaturalDithering(norm="l1")  # type: ignore[arg-type]


@pytest.mark.parametrize("d", [70_001, 5, 1])
def test_blocks_are_dithered_with_their_own_scale(d: int) -> None:
    x_D = np.random.default_rng(0).standard_normal(d) * 10.0 ** (np.arange(d) // 1000 % 5)
    payload = NaturalDithering(levels=4, block=1000).encode(x_D, Draws(0, 0, 0))
    assert len(payload.scale_B) == -(-d // 1000)
    scale_D = np.repeat(payload.scale_B.astype(np.float64), 1000)[:d]
    assert set(np.unique(np.abs(payload.dense()) / scale_D)) <= {0.0, 1 / 8, 1 / 4, 1 / 2, 1.0}
    assert (np.abs(payload.dense()) <= np.maximum(2 * np.abs(x_D), scale_D / 8) * (1 + 1e-6)).all()
    assert (payload.dense() * x_D >= 0).all()
    assert NaturalDithering(levels=4, block=1000).omega(d) == NaturalDithering(levels=4).omega(min(d, 1000))


def test_blocks_need_the_largest_magnitude() -> None:
    with pytest.raises(ConfigError, match=r"natural_dithering.block needs norm 'max', got 'l2'"):
        NaturalDithering(norm="l2", block=4)
    with pytest.raises(ConfigError, match=r"natural_dithering.block must be a whole number of at least 1, got 0"):
        NaturalDithering(block=0)
