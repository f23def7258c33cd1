"""What may be set of the rules, with types, and with the defaults of their fields; see `saddlebag/parameters.py`."""

from __future__ import annotations

from typing import Annotated, TypedDict

from saddlebag.algorithms.optimizers.rules import Adam, Momentum, OptimisticAdam


class MomentumKeys(TypedDict, total=False):
    """What may be set of `Momentum`."""

    weight_decay: Annotated[float, Momentum]
    momentum: Annotated[float, Momentum]
    nesterov: Annotated[bool, Momentum]


class AdamKeys(TypedDict, total=False):
    """What may be set of `Adam` and `Lamb`."""

    weight_decay: Annotated[float, Adam]
    beta1: Annotated[float, Adam]
    beta2: Annotated[float, Adam]
    eps: Annotated[float, Adam]


class OptimisticAdamKeys(TypedDict, total=False):
    """What may be set of `OptimisticAdam` and `ExtraAdam`."""

    weight_decay: Annotated[float, OptimisticAdam]
    beta1: Annotated[float, OptimisticAdam]
    beta2: Annotated[float, OptimisticAdam]
    eps: Annotated[float, OptimisticAdam]


class RuleKeys(TypedDict, total=False):
    """What may be set of one rule or another, each with its own defaults."""

    weight_decay: float
    beta1: float
    beta2: float
    eps: float
    momentum: float
    nesterov: bool
