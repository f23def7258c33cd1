"""The comparator: the best fixed linear model of a group in hindsight, by least squares that reveal the rank.

One-hot blocks and indicators of groups are collinear, so singular values below a relative cutoff count as zero; any solution
has the same loss, which is all that a regret needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from saddlebag.algorithms.groupwise.base import Array

__all__ = ["best_linear_loss", "prefix_losses"]

_CUTOFF = 1e-10  # relative; exact collinearity shows as 1e-16, and no weaker direction can be told from rounding in A
_GRAM_CUTOFF = 1e-12  # the same on the squares


def best_linear_loss(x_ND: Array, y_N: Array) -> float:
    """The least sum of (y - theta' x)^2 over theta, without a penalty; 0 for no rounds."""
    if not len(y_N):
        return 0.0
    theta_D = np.linalg.lstsq(x_ND, y_N, rcond=_CUTOFF)[0]
    residual_N = y_N - x_ND @ theta_D
    return float(residual_N @ residual_N)


def prefix_losses(x_ND: Array, y_N: Array, ends: list[int]) -> Array:
    """`best_linear_loss` of the first `end` rounds, for each of the ascending ends: from running sums, to about 1e-9.

    Returns:
        float64, shape (len(ends),).
    """
    D = x_ND.shape[1]
    gram_DD, moment_D, square, at, losses = np.zeros((D, D)), np.zeros(D), 0.0, 0, []
    for end in ends:
        row_BD, label_B = x_ND[at:end], y_N[at:end]
        gram_DD, moment_D = gram_DD + row_BD.T @ row_BD, moment_D + label_B @ row_BD
        square, at = square + float(label_B @ label_B), end
        value_D, vector_DD = np.linalg.eigh(gram_DD)
        kept = value_D > _GRAM_CUTOFF * max(value_D[-1], 1e-300)
        projected = vector_DD[:, kept].T @ moment_D
        losses.append(max(square - float(projected @ (projected / value_D[kept])), 0.0))
    return np.array(losses)
