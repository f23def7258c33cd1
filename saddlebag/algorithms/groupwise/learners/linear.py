"""Losses of linear models as functions of the score s = theta' x: what gradient and Newton learners share.

squared   (s - y)^2                     predicts s
absolute  |s - y|                       predicts s
logistic  ln(1 + e^s) - y s, y in 0..1  predicts the probability 1 / (1 + e^-s), and is the log loss of it
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from saddlebag.errors import check_choice

if TYPE_CHECKING:
    from saddlebag.algorithms.groupwise.base import Array

LinearLossName: TypeAlias = Literal["squared", "absolute", "logistic"]
_NAMES = ("squared", "absolute", "logistic")


def check_loss(name: str, allowed: tuple[str, ...] = _NAMES) -> None:
    """Raise `ConfigError` unless the loss is one of the allowed."""
    check_choice("loss", name, allowed)


def predicted(loss: LinearLossName, score_K: Array) -> Array:
    """The prediction that a score stands for."""
    return 0.5 * (1.0 + np.tanh(0.5 * score_K)) if loss == "logistic" else score_K


def slope(loss: LinearLossName, score_K: Array, y: Array | float) -> Array:
    """The derivative of the loss in the score."""
    if loss == "squared":
        return 2.0 * (score_K - y)
    if loss == "absolute":
        return np.sign(score_K - y)
    return predicted(loss, score_K) - y


def curvature(loss: LinearLossName, bound: float) -> float:
    """The sigma of f(v) >= f(u) + f'(u) (v - u) + (sigma/2) (f'(u) (v - u))^2, scores and labels in [-bound, bound].

    Squared: f'^2 <= 16 bound^2 against f'' = 2. Logistic: half the smaller of the exp-concavity e^-bound and 1 / (2 bound),
    slopes being at most 1 and scores 2 bound apart (Hazan 2016, "Introduction to online convex optimization", Lemma 4.3).
    """
    if loss == "squared":
        return 1.0 / (8.0 * bound**2)
    return 0.5 * min(math.exp(-bound), 1.0 / (2.0 * bound))
