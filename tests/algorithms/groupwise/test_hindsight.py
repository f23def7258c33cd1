from __future__ import annotations

import numpy as np
import pytest

from saddlebag.algorithms.groupwise import best_linear_loss, prefix_losses


def test_collinear_columns_do_no_harm() -> None:
    """A full one-hot block and a copied column: the minimum is that of the independent columns."""
    rng = np.random.default_rng(0)
    block_N3 = np.eye(3)[rng.integers(0, 3, 200)]
    x_N2 = rng.random((200, 2))
    y_N = rng.random(200)
    full = np.column_stack((block_N3, x_N2, block_N3[:, 0], block_N3.sum(axis=1)))
    expected = np.linalg.lstsq(np.column_stack((block_N3, x_N2)), y_N, rcond=None)[1][0]
    assert best_linear_loss(full, y_N) == pytest.approx(expected, rel=1e-12)
    ends = [1, 5, 50, 200]
    assert np.allclose(prefix_losses(full, y_N, ends), [best_linear_loss(full[:end], y_N[:end]) for end in ends], atol=1e-9)


def test_no_rounds() -> None:
    assert best_linear_loss(np.empty((0, 3)), np.empty(0)) == 0.0
