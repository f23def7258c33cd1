"""Learners and mixers by name: what a recipe may ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from saddlebag.algorithms.groupwise.learners.aggregated import Aggregated
from saddlebag.algorithms.groupwise.learners.aioli import logistic
from saddlebag.algorithms.groupwise.learners.gradient import Gradient
from saddlebag.algorithms.groupwise.learners.newton import Newton
from saddlebag.algorithms.groupwise.learners.ridge import Ridge, vovk_azoury_warmuth
from saddlebag.algorithms.groupwise.mixers.ada_normal_hedge import AdaNormalHedge
from saddlebag.algorithms.groupwise.mixers.adapt_ml_prod import AdaptMlProd
from saddlebag.algorithms.groupwise.mixers.doubling import Doubling
from saddlebag.algorithms.groupwise.mixers.solo import Solo
from saddlebag.algorithms.groupwise.mixers.specialists import Specialists

if TYPE_CHECKING:
    from collections.abc import Callable

    from saddlebag.algorithms.groupwise.base import AnyLearner

__all__ = ["LEARNERS", "MIXERS"]

LEARNERS: dict[str, Callable[..., AnyLearner]] = {
    "aggregated": Aggregated,
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
