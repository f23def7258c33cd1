"""Robust least squares: an adversary moves the targets, at a price.

Shapes: N = samples, F = features, D = F + N, S = samples of one worker.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Unpack

import numpy as np

from saddlebag.algorithms.agreed.common_part import CommonPart
from saddlebag.algorithms.problems.data.given import require_data
from saddlebag.algorithms.problems.data.rows import Dataset, Rows, prepare
from saddlebag.algorithms.problems.data.shards import DivisionKeys, require_shards, require_targets, shards_of
from saddlebag.algorithms.problems.games.affine import require
from saddlebag.algorithms.problems.merits import natural_residual, relative_distance
from saddlebag.algorithms.problems.robust.bounds import divided_constants
from saddlebag.compression.draws import Draws

if TYPE_CHECKING:
    from collections.abc import Mapping

    from saddlebag.algorithms.base import Constants, Operator
    from saddlebag.compression.payload import Index, Vector

__all__ = ["RobustLeastSquares"]

_ROUNDING = 1.0 + 1e-9


@dataclasses.dataclass(frozen=True, eq=False)
class RobustLeastSquares:
    """The fit of a linear model x to targets that an adversary has moved from b to y.

        min_x max_y   |Ax - y|^2/(2N) - (price/2N)|y - b|^2 + (lam/2)|x|^2,      price > 1

    (El Ghaoui, Lebret 1997; this penalised form: Yang, Kiyavash, He 2020). With u = y/sqrt N, z = (x, u),

        F(z) = (A'(Ax/sqrt N - u)/sqrt N + lam x,   (price - 1) u + (Ax - price b)/sqrt N),

    affine and strongly monotone with min(lam, price - 1). Worker m holds the samples S_m; its F_m is M times their part of
    the terms in A and b, plus the whole diagonal.

    Attributes:
        rows: A, as `prepare` returns them.
        target_N: b, real numbers.
        shards: the samples of each worker; every sample is in exactly one.
        regularisation: lam > 0.
        price: of the adversary's moves, above 1; the smaller, the stronger the adversary.
        name: of the problem.

    Example:
        >>> from saddlebag.algorithms.problems.data.rows import DenseRows
        >>> problem = RobustLeastSquares(DenseRows(np.eye(2)), np.array([1.0, -1.0]), (np.array([0]), np.array([1])))
        >>> problem.dimension, problem.constants.strong_monotonicity > 0
        (4, True)
    """

    rows: Rows
    target_N: Vector
    shards: tuple[Index, ...]
    _: dataclasses.KW_ONLY
    regularisation: float = 0.1
    price: float = 2.0
    name: str = "robust_least_squares"

    def __post_init__(self) -> None:
        num_rows, num_features = self.rows.shape
        require(self.name, "regularisation", self.regularisation, above=0.0)
        require(self.name, "price", self.price, above=1.0)
        require_targets(self.name, self.target_N, num_features)
        require_shards(self.name, self.shards, num_rows)

    @classmethod
    def build(
        cls,
        data: Dataset | None,
        *,
        num_workers: int,
        regularisation: float = 0.1,
        price: float = 2.0,
        **division: Unpack[DivisionKeys],
    ) -> RobustLeastSquares:
        """The factory of the registry: prepares the rows and splits them; targets become mean 0, variance 1.

        Raises:
            ConfigError: there is no data set, or a parameter is out of range.

        Example:
            >>> import numpy as np
            >>> import saddlebag as sb
            >>> rows_NF = np.random.default_rng(0).standard_normal((30, 3))
            >>> sb.make_problem("robust_least_squares", data=(rows_NF, rows_NF[:, 0]), workers=2).dimension
            34
        """
        data = require_data("robust_least_squares", data, "diabetes")
        deviation = float(np.std(data.labels_N))
        target_N = (data.labels_N - data.labels_N.mean()) / (deviation if deviation > 0 else 1.0)
        return cls(
            prepare(data.rows),
            target_N,
            shards_of(data, num_workers, **division),
            regularisation=regularisation,
            price=price,
            name=f"robust_least_squares on {data.name}",
        )

    @property
    def dimension(self) -> int:
        return sum(self.rows.shape)

    @property
    def num_workers(self) -> int:
        return len(self.shards)

    @property
    def unconstrained(self) -> bool:
        return True

    @functools.cached_property
    def constants(self) -> Constants:
        """Exact up to 1e-9: the Jacobian of F_m splits into [[M s^2/N + lam, -c], [c, price - 1]], c = M s/sqrt N.

        One block for each singular value s of the worker's rows; other directions have lam or price - 1 alone. The mean F is
        the case of a single worker that holds everything; its symmetric part is at least min(lam, price - 1).
        """
        return divided_constants(self._lipschitz, self.shards, min(self.regularisation, self.price - 1.0))

    def _lipschitz(self, shard: Index, weight: int) -> float:
        square_F = np.maximum(np.linalg.eigvalsh(self.rows.take(shard).gram()), 0.0)
        num_rows, free = self.rows.shape[0], self.price - 1.0
        blocks = np.zeros((len(square_F), 2, 2))
        coupling_F = weight * np.sqrt(square_F / num_rows)
        blocks[:, 0, 0], blocks[:, 1, 1] = weight * square_F / num_rows + self.regularisation, free
        blocks[:, 0, 1], blocks[:, 1, 0] = -coupling_F, coupling_F
        return max(float(np.linalg.norm(blocks, 2, axis=(1, 2)).max()), self.regularisation, free) * _ROUNDING

    @functools.cached_property
    def solution(self) -> Vector:
        """z* in closed form: eliminating u leaves (price/(price-1)) A'(Ax - b)/N + lam x = 0; float64 (D,)."""
        num_rows, num_features = self.rows.shape
        root, ratio = num_rows**0.5, self.price / (self.price - 1.0)
        matrix_FF = ratio * self.rows.gram() / num_rows + self.regularisation * np.eye(num_features)
        x_F = np.linalg.solve(matrix_FF, ratio * self.rows.transposed_times(self.target_N) / num_rows)
        u_N = (self.price * self.target_N - self.rows.times(x_F)) / (root * (self.price - 1.0))
        return np.concatenate((x_F, u_N))

    def common_part(self) -> CommonPart:
        """The whole diagonal, which is in every F_m."""
        num_rows, num_features = self.rows.shape
        return CommonPart.of((num_features, self.regularisation, 0.0), (num_rows, self.price - 1.0, 0.0))

    def start(self) -> Vector:
        """The zero model, and the targets as they are."""
        num_rows, num_features = self.rows.shape
        return np.concatenate((np.zeros(num_features), self.target_N / num_rows**0.5))

    def operator(self, worker: int) -> Operator:
        return self._operator(self.shards[worker], self.num_workers)

    def _operator(self, shard_S: Index, weight: int) -> Operator:
        rows, target_S = self.rows.take(shard_S), self.target_N[shard_S]
        num_rows, num_features = self.rows.shape
        root, position_S = num_rows**0.5, num_features + shard_S
        lam, price = self.regularisation, self.price

        def evaluate(z_D: Vector, draws: Draws) -> Vector:
            del draws
            fit_S = rows.times(z_D[:num_features]) / root
            value_D = np.concatenate((lam * z_D[:num_features], (price - 1.0) * z_D[num_features:]))
            value_D[:num_features] += weight / root * rows.transposed_times(fit_S - z_D[position_S])
            value_D[position_S] += weight * (fit_S - price / root * target_S)
            return value_D

        return evaluate

    def prox(self, v_D: Vector, step_size: float) -> Vector:
        del step_size
        return v_D

    @functools.cached_property
    def _whole(self) -> Operator:
        return self._operator(np.arange(self.rows.shape[0]), 1)

    def merits(self, z_D: Vector) -> Mapping[str, float]:
        """relative_error |z - z*|/|z0 - z*|, then natural_residual |F(z)|, then squared_error: the mean on the true targets."""
        miss_N = self.rows.times(z_D[: self.rows.shape[1]]) - self.target_N
        return {
            "relative_error": relative_distance(z_D, self.solution, self.start()),
            "natural_residual": natural_residual(z_D, self._whole(z_D, Draws(0, 0)), self.prox),
            "squared_error": float(np.mean(miss_N * miss_N)),
        }
