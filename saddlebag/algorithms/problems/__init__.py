"""Problems: variational inequalities divided among workers, with their constants and solutions. Pure: numpy only."""

from saddlebag.algorithms.problems.catalogue import CATALOGUE
from saddlebag.algorithms.problems.check import check_problem
from saddlebag.algorithms.problems.data.groups import Groups, declare_groups
from saddlebag.algorithms.problems.data.rows import Dataset, DenseRows, Rows, SparseRows
from saddlebag.algorithms.problems.data.shards import SPLITS, split_rows
from saddlebag.algorithms.problems.fixed_point import FixedPoint, fixed_point
from saddlebag.algorithms.problems.games.affine import AffineProblem
from saddlebag.algorithms.problems.games.bilinear import BilinearGame
from saddlebag.algorithms.problems.games.finite_bilinear import FiniteBilinearGame
from saddlebag.algorithms.problems.games.matrix_game import MatrixGame
from saddlebag.algorithms.problems.games.quadratic import quadratic
from saddlebag.algorithms.problems.logistic_regression import LogisticRegression
from saddlebag.algorithms.problems.merits import (
    affine_gap,
    bilinear_gap,
    natural_residual,
    relative_distance,
    worst_group,
)
from saddlebag.algorithms.problems.robust.group_robust import GroupRobust
from saddlebag.algorithms.problems.robust.robust_least_squares import RobustLeastSquares
from saddlebag.algorithms.problems.robust.robust_logistic import RobustLogisticRegression
from saddlebag.algorithms.problems.robust.worker_robust import worker_robust
from saddlebag.algorithms.problems.simplex import project_simplex
from saddlebag.algorithms.problems.torch_game import TorchGame
from saddlebag.algorithms.registry import PROBLEMS, Factory

__all__ = [
    "PROBLEMS",
    "SPLITS",
    "AffineProblem",
    "BilinearGame",
    "Dataset",
    "DenseRows",
    "Factory",
    "FiniteBilinearGame",
    "FixedPoint",
    "GroupRobust",
    "Groups",
    "LogisticRegression",
    "MatrixGame",
    "RobustLeastSquares",
    "RobustLogisticRegression",
    "Rows",
    "SparseRows",
    "TorchGame",
    "affine_gap",
    "bilinear_gap",
    "check_problem",
    "declare_groups",
    "fixed_point",
    "natural_residual",
    "project_simplex",
    "quadratic",
    "relative_distance",
    "split_rows",
    "worker_robust",
    "worst_group",
]

PROBLEMS.update(CATALOGUE)
