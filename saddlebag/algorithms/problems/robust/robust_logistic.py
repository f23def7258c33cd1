"""Distributionally robust logistic regression: an adversary re-weights the samples, those of all workers together.

Shapes: N = samples, F = features, D = F + N, S = samples of one worker.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Unpack

import numpy as np

from saddlebag.algorithms.agreed.common_part import CommonPart
from saddlebag.algorithms.problems.data.given import require_data
from saddlebag.algorithms.problems.data.rows import Dataset, Rows, norm, prepare, spectral_bound
from saddlebag.algorithms.problems.data.shards import DivisionKeys, require_shards, require_signs, shards_of
from saddlebag.algorithms.problems.robust.bounds import divided_constants, saddle_bound
from saddlebag.algorithms.problems.robust.robust_primal import Point, Primal
from saddlebag.algorithms.problems.robust.robust_rows import RowSum
from saddlebag.algorithms.problems.simplex import project_simplex
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from saddlebag.algorithms.base import Constants
    from saddlebag.compression.payload import Index, Vector

__all__ = ["RobustLogisticRegression"]

_SOLVED = 1e-10  # the natural residual that `solution` guarantees


@dataclasses.dataclass(frozen=True, eq=False)
class RobustLogisticRegression:
    """The fit of a linear classifier x against an adversary that moves weight q to the samples it fits worst.

        min over x in R^F, max over q >= 0 with sum q = sqrt(N), of
        f(x, q) = (1/sqrt N) sum_i q_i log(1 + exp(-b_i a_i'x)) + (lam/2)|x|^2 - (nu/2)|q - 1/sqrt N|^2,

    z = (x, q), F = (grad_x f, -grad_q f). In the units of q = sqrt(N) p (p a probability vector) both players' coordinates
    and their coupling are of order 1. Worker m holds the samples S_m, and its F_m is M times their part of the data term,
    plus the whole regulariser: the mean of the F_m is F. The penalty of q is nu/2 times the chi-square divergence of p from
    the uniform distribution (Namkoong, Duchi 2016).

    Attributes:
        rows: A, as `prepare` returns them.
        labels_N: b, -1 or +1.
        shards: the samples of each worker; every sample is in exactly one.
        regularisation: lam > 0.
        sample_regularisation: nu > 0; the smaller, the stronger the adversary.
        name: of the problem.

    Example:
        >>> from saddlebag.algorithms.problems.data.rows import DenseRows
        >>> problem = RobustLogisticRegression(DenseRows(np.eye(2)), np.array([1.0, -1.0]), (np.array([0]), np.array([1])))
        >>> problem.dimension  # the classifier's coordinates, and a weight for each sample
        4
    """

    rows: Rows
    labels_N: Vector
    shards: tuple[Index, ...]
    _: dataclasses.KW_ONLY
    regularisation: float = 0.05
    sample_regularisation: float = 0.05
    name: str = "robust_logistic"

    def __post_init__(self) -> None:
        num_rows = self.rows.shape[0]
        require_signs(self.name, self.labels_N, num_rows)
        require_shards(self.name, self.shards, num_rows)
        for field in ("regularisation", "sample_regularisation"):
            if not 0 < getattr(self, field) < np.inf:
                raise ConfigError(f"{self.name}: {field} must be positive and finite, got {getattr(self, field)}")

    @classmethod
    def build(
        cls,
        data: Dataset | None,
        *,
        num_workers: int,
        regularisation: float = 0.05,
        sample_regularisation: float = 0.05,
        **division: Unpack[DivisionKeys],
    ) -> RobustLogisticRegression:
        """The factory of the registry: prepares the rows and splits them (see `prepare` and `shards_of`).

        Raises:
            ConfigError: there is no data set, or a parameter is out of range.

        Example:
            >>> import numpy as np
            >>> import saddlebag as sb
            >>> rows_NF = np.random.default_rng(0).standard_normal((30, 3))
            >>> sb.make_problem("robust_logistic", data=(rows_NF, rows_NF[:, 0] > 0), workers=2).dimension
            34
        """
        data = require_data("robust_logistic", data, "breast_cancer")
        return cls(
            prepare(data.rows),
            data.labels_N,
            shards_of(data, num_workers, **division),
            regularisation=regularisation,
            sample_regularisation=sample_regularisation,
            name=f"robust_logistic on {data.name}",
        )

    @property
    def dimension(self) -> int:
        return sum(self.rows.shape)

    @property
    def num_workers(self) -> int:
        return len(self.shards)

    @property
    def unconstrained(self) -> bool:
        return False

    @functools.cached_property
    def constants(self) -> Constants:
        """Proven on the feasible set, which is convex, so that bounds of the Jacobian are Lipschitz constants.

        The Jacobian of F_m is J = [[P, C], [-C', nu I]], where lam I <= P <= a I and |C| <= c with

            a = lam + M max |a_i|^2/4     (sigmoid' <= 1/4, and the p_i = q_i/sqrt N of a shard sum to at most 1),
            c = M |A_m|/sqrt N            (sigmoid <= 1; A_m = the rows of the shard),

        and `saddle_bound` bounds |J|. The mean F is the case of a single worker that holds everything. Its symmetric part is
        at least min(lam, nu).
        """
        return divided_constants(self._lipschitz, self.shards, min(self.regularisation, self.sample_regularisation))

    def _lipschitz(self, shard: Index, weight: int) -> float:
        rows = self.rows.take(shard)
        return self._norm(weight, float(rows.square_sums().max()), spectral_bound(rows))

    def _norm(self, weight: int, largest: float, spectral: float) -> float:
        """The bound of |J| for rows with max |a_i|^2 = `largest` and |A| = `spectral`, their data term times `weight`."""
        lam, nu = self.regularisation, self.sample_regularisation
        curvature = lam + 0.25 * weight * largest
        coupling = weight * spectral / self.rows.shape[0] ** 0.5
        return saddle_bound(curvature, coupling, lam, nu)

    @functools.cached_property
    def _primal(self) -> Primal:
        return Primal(self.rows.scaled(self.labels_N), self.regularisation, self.sample_regularisation)

    @functools.cached_property
    def solution(self) -> Vector:
        """z*, float64 (D,), to rounding; computed at the first use.

        The natural residual is of order 1e-16/nu, at most 1e-13 for lam, nu >= 1e-3; above 1e-10 it is refused. The error
        is at most (1 + L)/mu times the residual (Facchinei, Pang 2003, Theorem 2.3.3).

        Raises:
            ConfigError: rounding hides the solution, since lam or nu is too small.
        """
        point = self._primal.minimise()
        residual = self._natural_residual(point.weight_N, point)
        if not residual <= _SOLVED:
            raise ConfigError(
                f"{self.name}: the reference solution stops at natural residual {residual:.1e}, above {_SOLVED:.0e}; "
                f"raise regularisation={self.regularisation} or sample_regularisation={self.sample_regularisation}"
            )
        return np.concatenate((point.x_F, point.weight_N))

    def start(self) -> Vector:
        """The zero classifier and equal weights."""
        num_rows, num_features = self.rows.shape
        return np.concatenate((np.zeros(num_features), np.full(num_rows, num_rows**-0.5)))

    def operator(self, worker: int) -> RowSum:
        shard_S = self.shards[worker]
        rows = self.rows.take(shard_S).scaled(self.labels_N[shard_S])
        weight = self.num_workers * len(shard_S)
        largest = float(rows.square_sums().max())
        return RowSum(
            rows=rows,
            position_S=self.rows.shape[1] + shard_S,
            num_workers=self.num_workers,
            regularisation=self.regularisation,
            sample_regularisation=self.sample_regularisation,
            lipschitz=self._norm(weight, largest, largest**0.5),
        )

    def common_part(self) -> CommonPart:
        """The whole regulariser, which is in every F_m."""
        num_rows, num_features = self.rows.shape
        return CommonPart.of((num_features, self.regularisation, 0.0), (num_rows, self.sample_regularisation, num_rows**-0.5))

    def prox(self, v_D: Vector, step_size: float) -> Vector:
        """The projection of q on its simplex, whatever the step size; x stays."""
        del step_size
        num_rows, num_features = self.rows.shape
        return np.concatenate((v_D[:num_features], project_simplex(v_D[num_features:], num_rows**0.5)))

    def _natural_residual(self, q_N: Vector, point: Point) -> float:
        """|z - prox(z - F(z))| at z = (x, q), x that of `point`."""
        unit = self.rows.shape[0] ** -0.5
        ascent_N = unit * point.loss_N - self.sample_regularisation * (q_N - unit)
        move_N = project_simplex(q_N + ascent_N, 1 / unit) - q_N
        return float(np.hypot(norm(self._primal.gradient(point, q_N)), norm(move_N)))

    def merits(self, z_D: Vector) -> Mapping[str, float]:
        """What is left to do at z.

        relative_error: |z - z*|/|z^0 - z*|, 1 at the start; z* is `solution`.
        natural_residual: |z - prox(z - F(z))|, 0 at the solution only.
        worst_case_loss: max_q f(x, q), the objective of the primal problem, penalties included.
        error_rate: part of the samples on the wrong side of the plane or on it.
        """
        num_features = self.rows.shape[1]
        point = self._primal.at(z_D[:num_features])
        scale = norm(self.start() - self.solution)
        return {
            "relative_error": norm(z_D - self.solution) / (scale if scale > 0 else 1.0),
            "natural_residual": self._natural_residual(z_D[num_features:], point),
            "worst_case_loss": point.value,
            "error_rate": float(np.mean(point.margin_N <= 0)),
        }
