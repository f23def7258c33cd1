from __future__ import annotations

import numpy as np
import pytest

from saddlebag.algorithms.groupwise import best_linear_loss, best_logistic_losses, prefix_losses


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


def test_the_logistic_minimum() -> None:
    """Against scikit-learn without a penalty; weights count rounds in part; collinear columns do no harm."""
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(1)
    x_ND = np.column_stack((rng.standard_normal((400, 3)), np.ones(400)))
    y_N = (rng.random(400) < 1 / (1 + np.exp(-x_ND @ [1, -2, 0.5, 0.3]))).astype(float)
    weight_N = rng.integers(1, 4, 400).astype(float)
    model = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10, max_iter=1000).fit(x_ND, y_N, weight_N)
    score_N = x_ND @ model.coef_[0]
    expected = (weight_N * (np.logaddexp(0, score_N) - y_N * score_N)).sum()
    for rows_ND in (x_ND, np.column_stack((x_ND, x_ND[:, 0]))):
        assert best_logistic_losses(rows_ND, y_N, weight_N).sum() == pytest.approx(expected, rel=1e-8)


def test_separable_rounds_cost_nothing_in_the_limit() -> None:
    x_ND = np.column_stack((np.linspace(-1, 1, 40), np.ones(40)))
    losses_N = best_logistic_losses(x_ND, (x_ND[:, 0] > 0).astype(float), np.ones(40))
    assert 0 <= losses_N.sum() < 1e-6
