"""The operator of robust logistic regression on one worker's rows, whole and on batches of rows.

Shapes: N = samples of all workers, F = features, D = F + N, S = rows of this worker, B = a batch.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.algorithms.problems.robust.robust_primal import logistic

if TYPE_CHECKING:
    from saddlebag.algorithms.problems.data.rows import Rows
    from saddlebag.compression.draws import Draws
    from saddlebag.compression.payload import Index, Vector


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class RowSum:
    """F_m as a mean over rows: sample i has the whole regulariser and S times the data term of row i.

    Attributes:
        rows: this worker's rows, each times its label, (S, F).
        position_S: where the weights of these rows are in z.
        num_workers: M.
        regularisation, sample_regularisation: lam, nu.
        lipschitz: Lambda_m: the largest Lipschitz constant of a sample.
    """

    rows: Rows
    position_S: Index
    num_workers: int
    regularisation: float
    sample_regularisation: float
    lipschitz: float

    @property
    def num_samples(self) -> int:
        return len(self.position_S)

    def __call__(self, z_D: Vector, draws: Draws) -> Vector:
        del draws
        return self._evaluate(z_D, self.rows, self.position_S, 1.0)

    def batch(self, z_D: Vector, index_B: Index) -> Vector:
        index_K, count_K = np.unique(index_B, return_counts=True)
        share_K = count_K * (self.num_samples / len(index_B))
        return self._evaluate(z_D, self.rows.take(index_K), self.position_S[index_K], share_K)

    def _evaluate(self, z_D: Vector, rows: Rows, position_K: Index, share_K: Vector | float) -> Vector:
        """The data terms of some rows, each times its share, and the regulariser."""
        num_features = rows.shape[1]
        unit = (len(z_D) - num_features) ** -0.5
        weight_K = share_K * (self.num_workers * unit)
        x_F = z_D[:num_features]
        loss_K, slope_K = logistic(rows.times(x_F))
        value_D = np.empty(len(z_D))
        value_D[:num_features] = self.regularisation * x_F - rows.transposed_times(weight_K * (z_D[position_K] * slope_K))
        value_D[num_features:] = self.sample_regularisation * (z_D[num_features:] - unit)
        value_D[position_K] -= weight_K * loss_K
        return value_D
