"""The synthetic stream of the groupwise regret study, as published: shapes and colours whose labels follow other models.

Acharya et al. 2024, Section 5 and their public generator: numpy's legacy generator with seed 21 draws features, weights,
noise and a dominance order, Python's draws the shape and the colour of each round. Labels are scaled to [0, 1] over the whole
stream, which looks ahead; a service must declare its range instead.
"""

from __future__ import annotations

import random

import numpy as np

from saddlebag.errors import ConfigError, check_choice
from saddlebag.launch.groupwise.data.columns import Columns

__all__ = ["COLOURS", "SHAPES"]

SHAPES, COLOURS = ("circle", "square", "triangle"), ("green", "red")
RULES = ("mean", "dperm", "min", "max")
FEATURES = 20
_SEED = 21
_NOISE = 0.16


def synthetic_columns(rounds: int, rule: str) -> Columns:
    """The stream's columns: x0 to x19, shape, colour, label.

    Args:
        rounds: T; the published tables have 100,000.
        rule: how the labels of a round's two groups combine: "mean", "min", "max", or "dperm", the first in order of
            dominance.

    Raises:
        ConfigError: an argument is out of range.
    """
    check_choice("data.rule", rule, RULES)
    if not 1 <= rounds <= 10**7:
        raise ConfigError(f"data.rounds must lie in 1..10000000, got {rounds}")
    groups = (*SHAPES, *COLOURS)
    numbers = np.random.RandomState(_SEED)
    x_ND = numbers.uniform(0.0, 1.0, (rounds, FEATURES))
    weight_DG = numbers.uniform(0.0, 1.0, (FEATURES, len(groups)))
    personal_NG = x_ND @ weight_DG + numbers.normal(0.0, _NOISE, (rounds, len(groups)))
    order_G = numbers.permutation(len(groups))
    choices = random.Random(_SEED)
    shape_N = np.array(choices.choices(SHAPES, (0.5, 0.3, 0.2), k=rounds))
    colour_N = np.array(choices.choices(COLOURS, (0.6, 0.4), k=rounds))
    member_NG = np.column_stack([shape_N == name for name in SHAPES] + [colour_N == name for name in COLOURS])
    if rule == "mean":
        label_N = (personal_NG * member_NG).sum(axis=1) / 2.0
    elif rule == "min":
        label_N = np.where(member_NG, personal_NG, np.inf).min(axis=1)
    elif rule == "max":
        label_N = np.where(member_NG, personal_NG, -np.inf).max(axis=1)
    else:
        dominant_N = order_G[np.argmax(member_NG[:, order_G], axis=1)]
        label_N = personal_NG[np.arange(rounds), dominant_N]
    features = {f"x{j}": x_ND[:, j] for j in range(FEATURES)}
    return Columns("the synthetic stream", {**features, "shape": shape_N, "colour": colour_N, "label": label_N})
