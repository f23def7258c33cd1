"""Learners and mixers by name: what a recipe may ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from saddlebag.algorithms.groupwise.ada_normal_hedge import AdaNormalHedge
from saddlebag.algorithms.groupwise.adapt_ml_prod import AdaptMlProd
from saddlebag.algorithms.groupwise.aioli import logistic
from saddlebag.algorithms.groupwise.doubling import Doubling
from saddlebag.algorithms.groupwise.gradient import Gradient
from saddlebag.algorithms.groupwise.newton import Newton
from saddlebag.algorithms.groupwise.ridge import Ridge, vovk_azoury_warmuth
from saddlebag.algorithms.groupwise.solo import Solo
from saddlebag.algorithms.groupwise.specialists import Specialists

if TYPE_CHECKING:
    from collections.abc import Callable

    from saddlebag.algorithms.groupwise.base import AnyLearner

__all__ = ["LEARNERS", "MIXERS"]

LEARNERS: dict[str, Callable[..., AnyLearner]] = {
    "gradient": Gradient,
    "logistic": logistic,
    "newton": Newton,
    "ridge": Ridge,
    "vovk_azoury_warmuth": vovk_azoury_warmuth,
}
"""Name -> factory; every factory takes `dimension`."""

MIXERS: dict[str, Callable[..., Any]] = {
    "ada_normal_hedge": AdaNormalHedge,
    "adapt_ml_prod": AdaptMlProd,
    "doubling": Doubling,
    "solo": Solo,
    "specialists": Specialists,
}
