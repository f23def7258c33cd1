"""Sparse linear models: least squares with |x|_1, whose solution has zeros that proximal methods find.

    min over x   |Ax - b|^2 / (2N) + (lam/2) |x|^2 + penalty |x|_1;      F_m(x) = M A_m'(A_m x - b_m) / N + lam x,

and the prox shrinks every coordinate by gamma times the penalty (Tibshirani 1996; with lam > 0 Zou, Hastie 2005). F is strongly
monotone with mu = lam at least.

Shapes: N = rows, F = features = D, S = rows of one worker.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Unpack

import numpy as np

from saddlebag.algorithms.base import Constants, Operator
from saddlebag.algorithms.problems.data.rows import Dataset, DenseRows, Rows, prepare
from saddlebag.algorithms.problems.data.shards import DivisionKeys, require_shards, require_targets, shards_of
from saddlebag.algorithms.problems.games.affine import require
from saddlebag.algorithms.problems.merits import natural_residual, relative_distance
from saddlebag.compression.draws import Draws
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from saddlebag.compression.payload import Index, Vector

__all__ = ["Lasso"]

_ROUNDING = 1.0 + 1e-9
_MOST_STEPS = 100_000  # of the reference solution


@dataclasses.dataclass(frozen=True, eq=False)
class Lasso:
    """The problem.

    Attributes:
        rows: A.
        target_N: b, real numbers.
        shards: the rows of each worker; every row is in exactly one.
        penalty: of |x|_1, above 0.
        regularisation: lam > 0.
        name: of the problem.

    Example:
        >>> from saddlebag.algorithms.problems.data.rows import DenseRows
        >>> problem = Lasso(DenseRows(np.eye(2)), np.array([3.0, 0.0]), (np.arange(2),))
        >>> problem.solution.round(2).tolist()  # an entry that is no use is 0, exactly
        [2.75, 0.0]
    """

    rows: Rows
    target_N: Vector
    shards: tuple[Index, ...]
    _: dataclasses.KW_ONLY
    penalty: float = 0.1
    regularisation: float = 1e-2
    name: str = "lasso"

    def __post_init__(self) -> None:
        num_rows, num_features = self.rows.shape
        require(self.name, "penalty", self.penalty, above=0.0)
        require(self.name, "regularisation", self.regularisation, above=0.0)
        require_targets(self.name, self.target_N, num_features)
        require_shards(self.name, self.shards, num_rows)

    @classmethod
    def build(
        cls,
        data: Dataset | None,
        *,
        num_workers: int,
        penalty: float = 0.1,
        regularisation: float = 1e-2,
        features: int = 200,
        support: int = 20,
        **division: Unpack[DivisionKeys],
    ) -> Lasso:
        """The factory of the registry: rows as they are prepared for linear models, targets of mean 0 and variance 1.

        Args:
            data: rows with real labels; without them twice as many Gaussian rows as features, a model of `support` features
                of size 1 and of either sign, and noise of a tenth.
            num_workers: among whom the rows are divided.
            penalty: of |x|_1.
            regularisation: lam.
            features: where there are no data.
            support: where there are no data.
            **division: see `Division`.

        Raises:
            ConfigError: a parameter is out of range.

        Example:
            >>> import saddlebag as sb
            >>> problem = sb.make_problem("lasso", workers=2, features=20, support=3)
            >>> int((problem.solution != 0).sum())  # those that made the labels, and one that noise adds
            4
        """
        if data is None:
            if not 1 <= support <= features:
                raise ConfigError(f"lasso: support must lie in 1..features={features}, got {support}")
            rng = np.random.default_rng(division.get("seed", 0))
            values_NF = rng.standard_normal((2 * features, features))
            truth_F = np.zeros(features)
            truth_F[rng.permutation(features)[:support]] = rng.choice([-1.0, 1.0], support)
            target_N = values_NF @ truth_F + 0.1 * rng.standard_normal(len(values_NF))
            data = Dataset("generated rows", DenseRows(values_NF), target_N, {})
            rows: Rows = DenseRows(values_NF)
        else:
            rows = prepare(data.rows)
        target_N = data.labels_N - data.labels_N.mean()
        target_N = target_N / (float(np.std(target_N)) or 1.0)
        shards = shards_of(data, num_workers, **division)
        name = f"lasso on {data.name}"
        return cls(rows, target_N, shards, penalty=penalty, regularisation=regularisation, name=name)

    @property
    def dimension(self) -> int:
        return self.rows.shape[1]

    @property
    def num_workers(self) -> int:
        return len(self.shards)

    @property
    def unconstrained(self) -> bool:
        return False

    @functools.cached_property
    def constants(self) -> Constants:
        """Exact: the eigenvalues of the Gram matrices."""
        lam, num_rows = self.regularisation, self.rows.shape[0]
        own = []
        for shard_S in self.shards:
            gram_FF = self.rows.take(shard_S).gram() * (self.num_workers / num_rows)
            own.append(_ROUNDING * (float(np.linalg.eigvalsh(gram_FF)[-1]) + lam))
        value_F = np.linalg.eigvalsh(self._gram)
        return Constants(
            _ROUNDING * (float(value_F[-1]) + lam), tuple(own), lam + max(0.0, float(value_F[0])) / _ROUNDING - 1e-12
        )

    @functools.cached_property
    def _gram(self) -> np.ndarray:
        return self.rows.gram() / self.rows.shape[0]

    @functools.cached_property
    def solution(self) -> Vector:
        """The minimiser to rounding, float64 (F,): coordinate descent, then the linear system of the support that it found."""
        curve_FF = self._gram + self.regularisation * np.eye(self.dimension)
        slope_F = self.rows.transposed_times(self.target_N) / self.rows.shape[0]
        x_F = np.zeros(self.dimension)
        for _ in range(_MOST_STEPS):
            before_F = x_F.copy()
            for i in range(self.dimension):
                free = slope_F[i] - curve_FF[i] @ x_F + curve_FF[i, i] * x_F[i]
                x_F[i] = np.sign(free) * max(abs(free) - self.penalty, 0.0) / curve_FF[i, i]
            if np.abs(x_F - before_F).max() <= 1e-14 * max(np.abs(x_F).max(), 1.0):
                break
        index_K = np.flatnonzero(x_F)
        if len(index_K):
            sign_K = np.sign(x_F[index_K])
            x_F[index_K] = np.linalg.solve(curve_FF[np.ix_(index_K, index_K)], slope_F[index_K] - self.penalty * sign_K)
        return x_F

    def start(self) -> Vector:
        return np.zeros(self.dimension)

    def operator(self, worker: int) -> Operator:
        shard_S = self.shards[worker]
        rows, target_S = self.rows.take(shard_S), self.target_N[shard_S]
        weight, lam = self.num_workers / self.rows.shape[0], self.regularisation

        def evaluate(z_D: Vector, draws: Draws) -> Vector:
            del draws
            gradient_D: Vector = weight * rows.transposed_times(rows.times(z_D) - target_S) + lam * z_D
            return gradient_D

        return evaluate

    def prox(self, v_D: Vector, step_size: float) -> Vector:
        """Soft thresholds at `step_size` times the penalty."""
        shrunk_D: Vector = np.sign(v_D) * np.maximum(np.abs(v_D) - step_size * self.penalty, 0.0)
        return shrunk_D

    def active(self, z_D: Vector) -> Index:
        """The support: zeros stay zeros for as long as nobody asks them (`active_set`, whose `every` must then be above 0)."""
        return np.flatnonzero(z_D)

    def merits(self, z_D: Vector) -> Mapping[str, float]:
        """relative_error |z - z*|/|z0 - z*|, natural_residual, and how many coordinates are not zero."""
        mean_D = np.mean([self.operator(worker)(z_D, Draws(0, 0)) for worker in range(self.num_workers)], axis=0)
        return {
            "relative_error": relative_distance(z_D, self.solution, self.start()),
            "natural_residual": natural_residual(z_D, mean_D, self.prox),
            "support": float(np.count_nonzero(z_D)),
        }
