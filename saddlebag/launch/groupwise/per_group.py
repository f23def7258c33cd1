"""What a study says of one group in one order: its losses, regret to the best model in hindsight, curve and proven bound.

Shapes: K = rounds of the group, D = features, P = points of a curve.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms.groupwise import SquaredLoss, best_linear_loss, best_logistic_losses, prefix_losses
from saddlebag.algorithms.groupwise.capabilities import BoundsRegret

if TYPE_CHECKING:
    import numpy.typing as npt

    from saddlebag.algorithms.groupwise import Groupwise
    from saddlebag.algorithms.groupwise.base import Array
    from saddlebag.launch.groupwise.recipe import GroupwiseRecipe

POINTS = 40
"""Points of a regret curve."""


def group_values(
    recipe: GroupwiseRecipe,
    algorithm: Groupwise,
    rounds: tuple[Array, Array, Array],
    z_K: Array,
    losses: tuple[Array, Array, float],
    points: int = POINTS,
) -> dict[str, Any]:
    """What a study says of one group in one order.

    Args:
        recipe: of the study.
        algorithm: of the recipe.
        rounds: features, labels and confidences of the group's rounds.
        z_K: its learner's predictions.
        losses: of the single model and ours in each round, and its learner's total.
        points: of its curves.
    """
    (x_KD, y_K, weight_K), (single_K, ours_K, own) = rounds, losses
    fitted = slice(None, -1) if recipe.comparator == "all_but_last" else slice(None)
    single_K, ours_K = np.cumsum(weight_K * single_K), np.cumsum(weight_K * ours_K)
    clock_P = np.unique(np.linspace(len(y_K), 1, points).round().astype(int))
    clock_P = np.concatenate((clock_P, np.full(points - len(clock_P), len(y_K))))
    best_P, best = _comparator(recipe, x_KD, y_K, weight_K, clock_P, fitted)
    learner_bound = _learner_bound(algorithm, x_KD, y_K, z_K, weight_K)
    return {
        "rounds_SG": weight_K.sum(),
        "single_SG": single_K[-1],
        "ours_SG": ours_K[-1],
        "own_SG": own,
        "best_SG": best,
        "learner_bound_SG": learner_bound,
        "learner_excess_SG": own - best_P[-1] - learner_bound,
        "clock_SGP": clock_P.astype(np.float64),
        "single_curve_SGP": single_K[clock_P - 1] - best_P,
        "ours_curve_SGP": ours_K[clock_P - 1] - best_P,
    }


def _comparator(
    recipe: GroupwiseRecipe, x_KD: Array, y_K: Array, weight_K: Array, clock_P: npt.NDArray[np.int64], fitted: slice
) -> tuple[Array, float]:
    """Losses of the best models at the points of a curve, and of the best one on the rounds that the recipe scores.

    For squared loss a curve's comparator is the best model for the rounds so far, for log loss the best one for all of them.
    """
    if recipe.mixing.loss == "log":
        all_K = best_logistic_losses(x_KD, y_K, weight_K)
        return np.cumsum(all_K)[clock_P - 1], float(best_logistic_losses(x_KD[fitted], y_K[fitted], weight_K[fitted]).sum())
    root_K = np.sqrt(weight_K)  # weighted least squares, for soft groups
    row_KD, label_K = x_KD * root_K[:, None], y_K * root_K
    return prefix_losses(row_KD, label_K, clock_P.tolist()), best_linear_loss(row_KD[fitted], label_K[fitted])


def _clips_towards_labels(algorithm: Groupwise) -> bool:
    """Whether clipping only brings predictions nearer to labels: a learner's bound is then one on clipped predictions, too."""
    clip, labels = algorithm.interval, algorithm.label_interval
    return clip is None or (labels is not None and clip[0] <= labels[0] and labels[1] <= clip[1])


def _learner_bound(algorithm: Groupwise, x_KD: Array, y_K: Array, z_K: Array, weight_K: Array) -> float:
    learner: object = algorithm.learner
    if not isinstance(learner, BoundsRegret) or algorithm.loss != SquaredLoss() or not _clips_towards_labels(algorithm):
        return float("nan")
    root_K = np.sqrt(weight_K)  # 1 for whole members
    return float(learner.regret_bound(x_KD * root_K[:, None], y_K * root_K, z_K * root_K))
