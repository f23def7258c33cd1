"""The problems by name: what a recipe may ask for."""

from __future__ import annotations

from collections.abc import Callable

from saddlebag.algorithms.base import Problem
from saddlebag.algorithms.problems.bilinear import BilinearGame
from saddlebag.algorithms.problems.finite_bilinear import FiniteBilinearGame
from saddlebag.algorithms.problems.fixed_point import fixed_point
from saddlebag.algorithms.problems.quadratic import quadratic
from saddlebag.algorithms.problems.robust_logistic import RobustLogisticRegression

__all__ = ["PROBLEMS", "Factory"]

Factory = Callable[..., Problem]
"""factory(data: Dataset | None, *, num_workers: int, **params) -> Problem; raises `ConfigError`."""

PROBLEMS: dict[str, Factory] = {
    "bilinear": BilinearGame.build,
    "fixed_point": fixed_point,
    "quadratic": quadratic,
    "finite_bilinear": FiniteBilinearGame.build,
    "robust_logistic": RobustLogisticRegression.build,
}
