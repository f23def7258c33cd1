"""The problems of this package under their names: a new one is its file and a line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from saddlebag.algorithms.networks.distillation import distillation
from saddlebag.algorithms.networks.images.digits import digits_transformer
from saddlebag.algorithms.networks.images.digits_cnn import digits_cnn
from saddlebag.algorithms.networks.images.digits_gan import digits_gan
from saddlebag.algorithms.networks.pruning.game import pruning_game
from saddlebag.algorithms.networks.pruning.masked import masked_network
from saddlebag.algorithms.networks.texts.albert_mlm import albert_mlm
from saddlebag.algorithms.networks.texts.albert_sst2 import albert_sst2
from saddlebag.algorithms.problems.fixed_point import fixed_point
from saddlebag.algorithms.problems.games.bilinear import BilinearGame
from saddlebag.algorithms.problems.games.finite_bilinear import FiniteBilinearGame
from saddlebag.algorithms.problems.games.matrix_game import MatrixGame
from saddlebag.algorithms.problems.games.quadratic import quadratic
from saddlebag.algorithms.problems.lasso import Lasso
from saddlebag.algorithms.problems.logistic_regression import LogisticRegression
from saddlebag.algorithms.problems.robust.group_robust import GroupRobust
from saddlebag.algorithms.problems.robust.robust_least_squares import RobustLeastSquares
from saddlebag.algorithms.problems.robust.robust_logistic import RobustLogisticRegression
from saddlebag.algorithms.problems.robust.worker_robust import worker_robust

if TYPE_CHECKING:
    from saddlebag.algorithms.registry import Factory

__all__ = ["CATALOGUE"]

CATALOGUE: dict[str, Factory] = {
    "albert_mlm": albert_mlm,
    "albert_sst2": albert_sst2,
    "bilinear": BilinearGame.build,
    "digits_cnn": digits_cnn,
    "digits_gan": digits_gan,
    "digits_transformer": digits_transformer,
    "distillation": distillation,
    "finite_bilinear": FiniteBilinearGame.build,
    "fixed_point": fixed_point,
    "group_robust": GroupRobust.build,
    "lasso": Lasso.build,
    "logistic_regression": LogisticRegression.build,
    "masked_network": masked_network,
    "matrix_game": MatrixGame.build,
    "pruning_game": pruning_game,
    "quadratic": quadratic,
    "robust_least_squares": RobustLeastSquares.build,
    "robust_logistic": RobustLogisticRegression.build,
    "worker_robust": worker_robust,
}
