"""Logistic regression: minimisation as the special case of a variational inequality, F the gradient.

Shapes: N = samples, F = features = D, S = samples of one worker.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Unpack

import numpy as np

from saddlebag.algorithms.agreed.common_part import CommonPart
from saddlebag.algorithms.base import Constants, Operator
from saddlebag.algorithms.problems.data.given import require_data
from saddlebag.algorithms.problems.data.rows import Dataset, Rows, norm, prepare, spectral_bound
from saddlebag.algorithms.problems.data.shards import DivisionKeys, require_shards, require_signs, shards_of
from saddlebag.algorithms.problems.games.affine import require
from saddlebag.algorithms.problems.merits import relative_distance
from saddlebag.algorithms.problems.robust.group_primal import GroupPrimal
from saddlebag.algorithms.problems.robust.robust_primal import logistic

if TYPE_CHECKING:
    from collections.abc import Mapping

    from saddlebag.compression.draws import Draws
    from saddlebag.compression.payload import Index, Vector

__all__ = ["LogisticRegression"]


@dataclasses.dataclass(frozen=True, eq=False)
class LogisticRegression:
    """min over x of (1/N) sum_i log(1 + exp(-b_i a_i'x)) + (lam/2)|x|^2; F_m is M times the worker's part of the gradient.

    Attributes:
        rows: A, as `prepare` returns them.
        labels_N: b, -1 or +1.
        shards: the samples of each worker; every sample is in exactly one.
        regularisation: lam > 0.
        name: of the problem.

    Example:
        >>> from saddlebag.algorithms.problems.data.rows import DenseRows
        >>> problem = LogisticRegression(
        ...     DenseRows(np.array([[1.0], [-1.0]])), np.array([1.0, -1.0]), (np.array([0]), np.array([1]))
        ... )
        >>> problem.num_workers, bool(problem.solution[0] > 0)
        (2, True)
    """

    rows: Rows
    labels_N: Vector
    shards: tuple[Index, ...]
    _: dataclasses.KW_ONLY
    regularisation: float = 1e-3
    name: str = "logistic_regression"

    def __post_init__(self) -> None:
        num_rows = self.rows.shape[0]
        require(self.name, "regularisation", self.regularisation, above=0.0)
        require_signs(self.name, self.labels_N, num_rows)
        require_shards(self.name, self.shards, num_rows)

    @classmethod
    def build(
        cls, data: Dataset | None, *, num_workers: int, regularisation: float = 1e-3, **division: Unpack[DivisionKeys]
    ) -> LogisticRegression:
        """The factory of the registry: prepares the rows and splits them (see `prepare` and `shards_of`).

        Raises:
            ConfigError: there is no data set, or a parameter is out of range.

        Example:
            >>> import numpy as np
            >>> import saddlebag as sb
            >>> rows_NF = np.random.default_rng(0).standard_normal((30, 3))
            >>> sb.make_problem("logistic_regression", data=(rows_NF, rows_NF[:, 0] > 0), workers=2).dimension
            4
        """
        data = require_data("logistic_regression", data, "breast_cancer")
        shards = shards_of(data, num_workers, **division)
        name = f"logistic_regression on {data.name}"
        return cls(prepare(data.rows), data.labels_N, shards, regularisation=regularisation, name=name)

    @property
    def dimension(self) -> int:
        return self.rows.shape[1]

    @property
    def num_workers(self) -> int:
        return len(self.shards)

    @property
    def unconstrained(self) -> bool:
        return True

    @functools.cached_property
    def constants(self) -> Constants:
        """Proven: the second derivative of the loss is at most 1/4, so L_m = M |A_m|^2/(4N) + lam; mu = lam."""
        num_rows, lam = self.rows.shape[0], self.regularisation
        own = [spectral_bound(self.rows.take(shard)) ** 2 * self.num_workers / (4 * num_rows) + lam for shard in self.shards]
        return Constants(spectral_bound(self.rows) ** 2 / (4 * num_rows) + lam, tuple(own), lam)

    @functools.cached_property
    def _primal(self) -> GroupPrimal:
        num_rows = self.rows.shape[0]
        return GroupPrimal(self.rows.scaled(self.labels_N), np.full((1, num_rows), 1.0 / num_rows), self.regularisation, 1.0)

    @functools.cached_property
    def solution(self) -> Vector:
        """The minimiser to rounding, float64 (F,)."""
        return self._primal.minimise().x_F

    def common_part(self) -> CommonPart:
        """The regulariser, which is in every F_m."""
        return CommonPart.of((self.dimension, self.regularisation, 0.0))

    def start(self) -> Vector:
        return np.zeros(self.dimension)

    def operator(self, worker: int) -> Operator:
        shard_S = self.shards[worker]
        rows = self.rows.take(shard_S).scaled(self.labels_N[shard_S])
        weight, lam = self.num_workers / self.rows.shape[0], self.regularisation

        def evaluate(z_D: Vector, draws: Draws) -> Vector:
            del draws
            _, slope_S = logistic(rows.times(z_D))
            gradient_D: Vector = lam * z_D - weight * rows.transposed_times(slope_S)
            return gradient_D

        return evaluate

    def prox(self, v_D: Vector, step_size: float) -> Vector:
        del step_size
        return v_D

    def merits(self, z_D: Vector) -> Mapping[str, float]:
        """relative_error |z - z*|/|z0 - z*|, natural_residual |grad f|, mean_loss without the penalty, error_rate."""
        point = self._primal.at(z_D)
        margin_N = self.labels_N * self.rows.times(z_D)
        return {
            "relative_error": relative_distance(z_D, self.solution, self.start()),
            "natural_residual": norm(self._primal.gradient(point)),
            "mean_loss": float(logistic(margin_N)[0].mean()),
            "error_rate": float(np.mean(margin_N <= 0)),
        }
