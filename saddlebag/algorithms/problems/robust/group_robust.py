"""Group-robust training: a linear classifier against an adversary that weighs groups of samples, which may intersect.

Shapes: N = samples, F = features, G = groups, D = F + G, S = samples of one worker.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Unpack

import numpy as np
import numpy.typing as npt

from saddlebag.algorithms.agreed.common_part import CommonPart
from saddlebag.algorithms.problems.data.groups import Groups, declare_groups
from saddlebag.algorithms.problems.data.rows import Dataset, Rows, prepare, spectral_bound
from saddlebag.algorithms.problems.data.shards import DivisionKeys, require_shards, require_signs, shards_of
from saddlebag.algorithms.problems.games.affine import require
from saddlebag.algorithms.problems.merits import natural_residual, relative_distance, worst_group
from saddlebag.algorithms.problems.robust.bounds import divided_constants, saddle_bound
from saddlebag.algorithms.problems.robust.group_primal import GroupPrimal
from saddlebag.algorithms.problems.robust.robust_primal import logistic
from saddlebag.algorithms.problems.simplex import project_simplex
from saddlebag.compression.draws import Draws
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from saddlebag.algorithms.base import Constants, Operator
    from saddlebag.compression.payload import Index, Vector

__all__ = ["GroupRobust"]


@dataclasses.dataclass(frozen=True, eq=False)
class GroupRobust:
    """A linear classifier whose worst group should be served as well as possible.

        min over x in R^F, max over p >= 0 with sum p = 1, of
        f(x, p) = sum_g p_g l_g(x) + (lam/2)|x|^2 - (nu/2)|p - 1/G|^2,     l_g = mean logistic loss over group g

    (Sagawa et al. 2020; for nu = 0 exactly the worst group's loss). z = (x, p), F = (grad_x f, -grad_p f). Worker m holds
    the samples S_m; its F_m is M times their part of the data term, plus the whole regulariser: the mean of the F_m is F.
    Only model and group weights travel; the sizes of the groups are part of the problem, known to all.

    Attributes:
        rows: A, as `prepare` returns them.
        labels_N: b, -1 or +1.
        groups: over all samples.
        shards: the samples of each worker; every sample is in exactly one.
        regularisation: lam >= 0.
        group_regularisation: nu >= 0; the smaller, the stronger the adversary.
        name: of the problem.

    Example:
        >>> from saddlebag.algorithms.problems.data.groups import Groups
        >>> from saddlebag.algorithms.problems.data.rows import DenseRows
        >>> groups = Groups(("left", "right"), np.array([[True, False], [False, True]]))
        >>> problem = GroupRobust(DenseRows(np.eye(2)), np.array([1.0, -1.0]), groups, (np.array([0]), np.array([1])))
        >>> problem.dimension  # the model's coordinates, and a weight for each group
        4
    """

    rows: Rows
    labels_N: Vector
    groups: Groups
    shards: tuple[Index, ...]
    _: dataclasses.KW_ONLY
    regularisation: float = 1e-3
    group_regularisation: float = 0.05
    name: str = "group_robust"

    def __post_init__(self) -> None:
        num_rows = self.rows.shape[0]
        require_signs(self.name, self.labels_N, num_rows)
        if self.groups.member_GN.shape[1] != num_rows:
            raise ConfigError(f"{self.name}: groups over {self.groups.member_GN.shape[1]} samples do not fit {num_rows} rows")
        require_shards(self.name, self.shards, num_rows)
        for field in ("regularisation", "group_regularisation"):
            require(self.name, field, getattr(self, field), at_least=0.0)

    @classmethod
    def build(
        cls,
        data: Dataset | None,
        *,
        num_workers: int,
        groups: list[str],
        min_rows: int = 50,
        regularisation: float = 1e-3,
        group_regularisation: float = 0.05,
        **division: Unpack[DivisionKeys],
    ) -> GroupRobust:
        """The factory of the registry: prepares the rows, declares the groups and splits the rows.

        Args:
            data: with named columns, as tables have them.
            num_workers: M.
            groups: see `declare_groups`.
            min_rows: groups with fewer samples are left out; a mean over a handful is noise.
            regularisation: lam.
            group_regularisation: nu.
            **division: see `Division`.

        Raises:
            ConfigError: there is no data set, or a parameter is out of range.

        Example:
            >>> import numpy as np
            >>> from saddlebag.algorithms.problems.data.rows import Dataset, DenseRows
            >>> x_NF, sex_N = np.random.default_rng(0).standard_normal((60, 2)), np.array(["f", "m"] * 30)
            >>> data = Dataset("people", DenseRows(x_NF), np.sign(x_NF[:, 0]), columns={"sex": sex_N})
            >>> problem = GroupRobust.build(data, num_workers=2, groups=["sex"], min_rows=10)
            >>> problem.groups.names, problem.dimension  # two features, a bias, and the weights of two groups
            (('sex=f', 'sex=m'), 5)
        """
        if data is None:
            raise ConfigError("group_robust needs a data set with named columns: the path of a table")
        if not isinstance(groups, list) or not all(isinstance(text, str) for text in groups):
            raise ConfigError(f"group_robust: groups must be a list of texts such as 'race*sex', got {groups!r}")
        return cls(
            prepare(data.rows),
            data.labels_N,
            declare_groups(groups, data.columns, min_rows=min_rows),
            shards_of(data, num_workers, **division),
            regularisation=regularisation,
            group_regularisation=group_regularisation,
            name=f"group_robust on {data.name}",
        )

    @property
    def dimension(self) -> int:
        return self.rows.shape[1] + len(self.groups.names)

    @property
    def num_workers(self) -> int:
        return len(self.shards)

    @property
    def unconstrained(self) -> bool:
        return False

    @functools.cached_property
    def constants(self) -> Constants:
        """Proven on the feasible set by `saddle_bound`.

        With A_mg = the worker's rows of group g, and N_g = the size of the group,

            a = lam + (M/4) max_g |A_mg|^2/N_g        (sigmoid' <= 1/4; a convex combination over p),
            c = M min{ sqrt(sum_g |A_mg|^2 |S_mg|/N_g^2), |A_m| |W_m| }    (sigmoid in [0, 1]; W_m the averages).

        The mean F is the case of a single worker that holds everything. Its symmetric part is at least min(lam, nu).
        """
        return divided_constants(self._lipschitz, self.shards, min(self.regularisation, self.group_regularisation))

    def _lipschitz(self, shard_S: Index, weight: int) -> float:
        member_GS, sizes_G = self.groups.member_GN[:, shard_S], self.groups.sizes_G
        norms_G = np.array([spectral_bound(self.rows.take(shard_S[own_S])) if own_S.any() else 0.0 for own_S in member_GS])
        counts_G = np.count_nonzero(member_GS, axis=1)
        curvature = self.regularisation + weight / 4 * float(np.max(norms_G**2 / sizes_G))
        by_group = float(np.sqrt(np.sum(norms_G**2 * counts_G / sizes_G**2)))
        whole = spectral_bound(self.rows.take(shard_S)) * float(np.linalg.norm(self.groups.mean_GN[:, shard_S], 2))
        return saddle_bound(curvature, weight * min(by_group, whole), self.regularisation, self.group_regularisation)

    @functools.cached_property
    def solution(self) -> Vector | None:
        """z* to rounding, float64 (D,); None without both regularisers, where it need not be unique."""
        if not min(self.regularisation, self.group_regularisation) > 0:
            return None
        signed = self.rows.scaled(self.labels_N)
        primal = GroupPrimal(signed, self.groups.mean_GN, self.regularisation, self.group_regularisation)
        point = primal.minimise()
        return np.concatenate((point.x_F, point.weight_G))

    def start(self) -> Vector:
        """The zero classifier and equal weights."""
        num_groups = len(self.groups.names)
        return np.concatenate((np.zeros(self.rows.shape[1]), np.full(num_groups, 1.0 / num_groups)))

    def operator(self, worker: int) -> Operator:
        return self._operator(self.shards[worker], self.num_workers)

    def _operator(self, shard_S: Index, weight: int) -> Operator:
        rows = self.rows.take(shard_S).scaled(self.labels_N[shard_S])
        mean_GS = np.ascontiguousarray(weight * self.groups.mean_GN[:, shard_S])
        mean_SG = np.ascontiguousarray(mean_GS.T)
        num_features, even = self.rows.shape[1], 1.0 / len(self.groups.names)
        lam, nu = self.regularisation, self.group_regularisation

        def evaluate(z_D: Vector, draws: Draws) -> Vector:
            del draws
            x_F, p_G = z_D[:num_features], z_D[num_features:]
            loss_S, slope_S = logistic(rows.times(x_F))
            pull_F = rows.transposed_times(np.vecdot(mean_SG, p_G) * slope_S)
            return np.concatenate((lam * x_F - pull_F, nu * (p_G - even) - np.vecdot(mean_GS, loss_S)))

        return evaluate

    def common_part(self) -> CommonPart:
        """The whole regulariser, which is in every F_m."""
        num_groups = len(self.groups.names)
        return CommonPart.of(
            (self.rows.shape[1], self.regularisation, 0.0), (num_groups, self.group_regularisation, 1.0 / num_groups)
        )

    def prox(self, v_D: Vector, step_size: float) -> Vector:
        """The projection of p on the simplex, whatever the step size; x stays."""
        del step_size
        num_features = self.rows.shape[1]
        return np.concatenate((v_D[:num_features], project_simplex(v_D[num_features:], 1.0)))

    @functools.cached_property
    def _whole(self) -> Operator:
        return self._operator(np.arange(self.rows.shape[0]), 1)

    def losses(self, x_F: Vector) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Mean loss and error rate of each group at a model, float64 (G,) each."""
        margin_N = self.labels_N * self.rows.times(x_F)
        wrong_N = (margin_N <= 0).astype(np.float64)
        return np.vecdot(self.groups.mean_GN, logistic(margin_N)[0]), np.vecdot(self.groups.mean_GN, wrong_N)

    def merits(self, z_D: Vector) -> Mapping[str, float]:
        """What is left to do at z.

        relative_error: |z - z*|/|z0 - z*|, where z* is unique.
        natural_residual: |z - prox(z - F(z))|, 0 at a solution only.
        worst_group_loss, worst_group_error: of the model x, over the groups.
        mean_loss, error_rate: over all samples.
        """
        margin_N = self.labels_N * self.rows.times(z_D[: self.rows.shape[1]])
        loss_N, wrong_N = logistic(margin_N)[0], (margin_N <= 0).astype(np.float64)
        found: dict[str, float] = {}
        if self.solution is not None:
            found["relative_error"] = relative_distance(z_D, self.solution, self.start())
        return found | {
            "natural_residual": natural_residual(z_D, self._whole(z_D, Draws(0, 0)), self.prox),
            "worst_group_loss": worst_group(loss_N, self.groups.mean_GN)[0],
            "worst_group_error": worst_group(wrong_N, self.groups.mean_GN)[0],
            "mean_loss": float(loss_N.mean()),
            "error_rate": float(wrong_N.mean()),
        }
