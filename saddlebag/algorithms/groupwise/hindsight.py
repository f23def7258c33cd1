"""The comparator: the best fixed linear model of a group in hindsight; least squares that reveal the rank, or logistic.

One-hot blocks and indicators of groups are collinear, so singular values below a relative cutoff count as zero; any solution
has the same loss, which is all that a regret needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from saddlebag.algorithms.groupwise.base import Array

__all__ = ["best_linear_loss", "best_linear_losses", "best_logistic_losses", "prefix_losses"]

_CUTOFF = 1e-10  # relative; exact collinearity shows as 1e-16, and no weaker direction can be told from rounding in A
_NEWTON_STEPS = 60
_GRAM_CUTOFF = 1e-12  # the same on the squares


def best_linear_loss(x_ND: Array, y_N: Array) -> float:
    """The least sum of (y - theta' x)^2 over theta, without a penalty; 0 for no rounds.

    Example:
        >>> x_ND = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])  # a bias, and one feature
        >>> y_N = np.array([0.0, 1.0, 2.0])
        >>> round(best_linear_loss(x_ND, y_N), 12), round(best_linear_loss(x_ND[:, :1], y_N), 12)
        (0.0, 2.0)
    """
    if not len(y_N):
        return 0.0
    theta_D = np.linalg.lstsq(x_ND, y_N, rcond=_CUTOFF)[0]
    residual_N = y_N - x_ND @ theta_D
    return float(residual_N @ residual_N)


def best_linear_losses(x_ND: Array, y_N: Array) -> Array:
    """The squared loss of each round under the model that minimises their sum, without a penalty; shape (N,).

    Example:
        >>> best_linear_losses(np.ones((3, 1)), np.array([0.0, 1.0, 2.0])).round(12).tolist()  # the best constant is 1
        [1.0, 0.0, 1.0]
    """
    loss_N: Array = (y_N - x_ND @ np.linalg.lstsq(x_ND, y_N, rcond=_CUTOFF)[0]) ** 2
    return loss_N


def prefix_losses(x_ND: Array, y_N: Array, ends: list[int]) -> Array:
    """`best_linear_loss` of the first `end` rounds, for each of the ascending ends: from running sums, to about 1e-9.

    Returns:
        float64, shape (len(ends),).

    Example:
        >>> prefix_losses(np.ones((3, 1)), np.array([0.0, 1.0, 2.0]), [1, 2, 3]).round(9).tolist()
        [0.0, 0.5, 2.0]
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


def best_logistic_losses(x_ND: Array, y_N: Array, weight_N: Array) -> Array:
    """The weighted log loss of each round under the logistic model that minimises their sum, without a penalty.

    Newton steps with halving. On separable rounds there is no minimum; the steps then stop close to the infimum, 0.

    Args:
        x_ND: features.
        y_N: labels in [0, 1].
        weight_N: not negative.

    Returns:
        float64, shape (N,).

    Example:
        >>> losses_N = best_logistic_losses(np.ones((4, 1)), np.array([1.0, 1.0, 1.0, 0.0]), np.ones(4))
        >>> losses_N.round(3).tolist()  # the best constant says 3/4
        [0.288, 0.288, 0.288, 1.386]
    """
    theta_D = np.zeros(x_ND.shape[1])

    def losses(theta_D: Array) -> Array:
        score_N = x_ND @ theta_D
        return weight_N * (np.logaddexp(0.0, score_N) - y_N * score_N)

    best_N = losses(theta_D)
    for _ in range(_NEWTON_STEPS):
        p_N = 0.5 * (1.0 + np.tanh(0.5 * (x_ND @ theta_D)))
        gradient_D = x_ND.T @ (weight_N * (p_N - y_N))
        hessian_DD = (x_ND * (weight_N * p_N * (1.0 - p_N))[:, None]).T @ x_ND
        step_D = np.linalg.lstsq(hessian_DD, gradient_D, rcond=_GRAM_CUTOFF)[0]
        for halving in range(30):
            tried_D = theta_D - step_D * 0.5**halving
            tried_N = losses(tried_D)
            if tried_N.sum() <= best_N.sum():
                break
        else:
            return best_N
        done = best_N.sum() - tried_N.sum() <= 1e-10 * (1.0 + best_N.sum())
        theta_D, best_N = tried_D, tried_N
        if done:
            break
    return best_N
