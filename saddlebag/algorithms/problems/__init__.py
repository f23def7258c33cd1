"""Problems: variational inequalities divided among workers, with their constants and solutions. Pure: numpy only."""

from saddlebag.algorithms.problems.bilinear import BilinearGame
from saddlebag.algorithms.problems.registry import PROBLEMS, Factory
from saddlebag.algorithms.problems.robust_logistic import RobustLogisticRegression
from saddlebag.algorithms.problems.rows import Dataset, DenseRows, Rows, SparseRows
from saddlebag.algorithms.problems.shards import SPLITS, split_rows
from saddlebag.algorithms.problems.simplex import project_simplex
from saddlebag.algorithms.problems.torch_game import TorchGame

__all__ = [
    "PROBLEMS",
    "SPLITS",
    "BilinearGame",
    "Dataset",
    "DenseRows",
    "Factory",
    "RobustLogisticRegression",
    "Rows",
    "SparseRows",
    "TorchGame",
    "project_simplex",
    "split_rows",
]
