"""Grids of pictures: where each lands, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from saddlebag.errors import ConfigError
from saddlebag.launch.results.shown import grid


def test_pictures_fill_rows_in_order() -> None:
    pictures_NHW = np.linspace(0, 1, 5)[:, None, None] * np.ones((5, 60, 70))
    grid_YX = grid(pictures_NHW)
    assert grid_YX.shape == (2 * 62 + 2, 3 * 72 + 2), "two rows of three, too large to be magnified"
    cells = [
        grid_YX[2 + 62 * row : 62 + 62 * row, 2 + 72 * column : 72 + 72 * column] for row in (0, 1) for column in (0, 1, 2)
    ]
    for cell, picture_HW in zip(cells, pictures_NHW, strict=False):
        np.testing.assert_array_equal(cell, picture_HW)
    assert (cells[5] == 0.5).all()
    assert (grid_YX[:2] == 0.5).all()


@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        (np.zeros((4, 4)), r"must be \(N, H, W\) with N >= 1, got the shape \(4, 4\)"),
        (np.zeros((0, 4, 4)), r"must be \(N, H, W\) with N >= 1"),
        (np.full((1, 2, 2), 1.5), r"must lie in \[0, 1\], got 1.5 to 1.5"),
        (np.full((1, 2, 2), np.nan), r"must lie in \[0, 1\], got nan"),
    ],
)
def test_what_is_no_picture_is_refused(pictures: np.ndarray, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        grid(pictures)
