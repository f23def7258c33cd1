from __future__ import annotations

import numpy as np
import pytest

from saddlebag.compression import Dithering, Draws, Ternary
from saddlebag.errors import ConfigError


def test_each_entry_becomes_zero_or_the_largest_magnitude_of_its_block() -> None:
    x_D = np.array([1.0, -2.0, 0.5, 0.0, 0.0, 8.0])
    for round_ in range(20):
        value_D = Ternary(block=3).encode(x_D, Draws(0, round_, 0)).dense()
        assert set(value_D[:3]) <= {0.0, 2.0, -2.0}
        assert value_D[1:2].tolist() == [-2.0]
        assert value_D[3:].tolist() == [0.0, 0.0, 8.0]


def test_it_is_dithering_with_one_level_of_the_largest_magnitude() -> None:
    x_D, draws = np.random.default_rng(0).standard_normal(50), Draws(1, 2, 3)
    expected = Dithering(levels=1, norm="max").encode(x_D, draws)
    assert np.array_equal(Ternary().encode(x_D, draws).level_D, expected.level_D)
    assert Ternary(block=7).omega(50) == Ternary().omega(7)


def test_the_block_is_checked() -> None:
    with pytest.raises(ConfigError, match=r"ternary.block must be a whole number of at least 1, got -1"):
        Ternary(block=-1)
