"""The reference problem: a strongly monotone bilinear game with a closed-form solution and a spectrum of our choice.

Shapes: N = coordinates of each player, D = 2N, M = workers.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Annotated, ClassVar, NamedTuple, Self, TypedDict, Unpack

import numpy as np
import numpy.typing as npt

from saddlebag.algorithms.base import Constants, Operator
from saddlebag.algorithms.problems.data.given import refuse_data
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from saddlebag.algorithms.problems.data.rows import Dataset
    from saddlebag.compression.draws import Draws
    from saddlebag.compression.payload import Vector

__all__ = ["BilinearGame"]


class _Parts(NamedTuple):
    coupling_MNN: npt.NDArray[np.float64]
    offset_MD: npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BilinearGame:
    """A two-player game, bilinear up to a quadratic regulariser, whose workers' couplings differ by a chosen amount.

        min_x max_y   mean over m of x'A_m y + a_m'x - b_m'y + (lam/2)|x|^2 - (lam/2)|y|^2,   hence
        F_m(z) = B_m z + c_m,   B_m = [[lam I, A_m], [-A_m', lam I]],   c_m = (a_m, b_m).

    The mean of the A_m has singular values equally spaced from 0 to 1. The construction and the order of its draws are
    those of Saddlebag's masha.md, section 11, after Beznosikov et al. 2022. With heterogeneity 0 all workers are identical
    and F_m(z*) = 0, which methods that compress the operator itself need to converge.

    Attributes:
        n: N; the iterate has D = 2N coordinates.
        num_workers: M.
        regularisation: lam > 0.
        heterogeneity: mean spectral norm of A_m - mean A, and half the deviation of c_m from the common part.
        seed: of the problem, not of the run.

    Example:
        >>> round(BilinearGame().constants.lipschitz_rms, 4)
        1.1481
    """

    name: ClassVar[str] = "bilinear"

    n: int = 50
    num_workers: int = 10
    regularisation: float = 0.02
    heterogeneity: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        for field in ("n", "num_workers"):
            if getattr(self, field) < 1:
                raise ConfigError(f"bilinear: {field} must be at least 1, got {getattr(self, field)}")
        if not 0 < self.regularisation < np.inf:
            raise ConfigError(f"bilinear: regularisation must be positive and finite, got {self.regularisation}")
        if not 0 <= self.heterogeneity < np.inf:
            raise ConfigError(f"bilinear: heterogeneity must be finite and at least 0, got {self.heterogeneity}")
        if self.seed < 0:
            raise ConfigError(f"bilinear: seed must be at least 0, got {self.seed}")

    @classmethod
    def build(cls, data: Dataset | None, **keys: Unpack[BilinearKeys]) -> Self:
        """The factory of the registry: the fields, and no data.

        Raises:
            ConfigError: a data set was given, or a parameter is out of range.
        """
        refuse_data(cls.name, data)
        return cls(**keys)

    @property
    def dimension(self) -> int:
        return 2 * self.n

    @property
    def unconstrained(self) -> bool:
        return True

    @functools.cached_property
    def _parts(self) -> _Parts:
        rng = np.random.default_rng(self.seed)
        n, m = self.n, self.num_workers
        left_NN = np.linalg.qr(rng.standard_normal((n, n))).Q
        right_NN = np.linalg.qr(rng.standard_normal((n, n))).Q
        mean_NN = left_NN @ np.diag(np.linspace(0.0, 1.0, n)) @ right_NN.T
        deviation_MNN = rng.standard_normal((m, n, n))
        deviation_MNN -= deviation_MNN.mean(axis=0)
        spread = float(np.mean(np.linalg.norm(deviation_MNN, 2, axis=(1, 2))))
        deviation_MNN *= self.heterogeneity / spread if spread > 0 else 0.0  # a single worker has none
        common_D = rng.standard_normal(2 * n)
        own_MD = rng.standard_normal((m, 2 * n))
        return _Parts(mean_NN + deviation_MNN, common_D + 2 * self.heterogeneity * own_MD)

    def _matrix(self, coupling_NN: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        diagonal_NN = self.regularisation * np.eye(self.n)
        return np.block([[diagonal_NN, coupling_NN], [-coupling_NN.T, diagonal_NN]])

    @functools.cached_property
    def constants(self) -> Constants:
        """Exact: |B_m| = sqrt(lam^2 + |A_m|^2), |B_m - B| = |A_m - A|, and the symmetric part of B is lam I."""

        def lipschitz(coupling_NN: npt.NDArray[np.float64]) -> float:
            return float(np.hypot(self.regularisation, np.linalg.norm(coupling_NN, 2)))

        coupling_MNN = self._parts.coupling_MNN
        mean_NN = coupling_MNN.mean(axis=0)
        similarity = float(np.linalg.norm(coupling_MNN - mean_NN, 2, axis=(1, 2)).max())
        return Constants(lipschitz(mean_NN), tuple(map(lipschitz, coupling_MNN)), self.regularisation, similarity)

    @functools.cached_property
    def _mean(self) -> tuple[npt.NDArray[np.float64], Vector]:
        return self._matrix(self._parts.coupling_MNN.mean(axis=0)), self._parts.offset_MD.mean(axis=0)

    @functools.cached_property
    def solution(self) -> Vector:
        """z* = -(mean B)^-1 mean c, float64 (D,)."""
        matrix_DD, offset_D = self._mean
        return np.linalg.solve(matrix_DD, -offset_D)

    def start(self) -> Vector:
        return np.zeros(self.dimension)

    def operator(self, worker: int) -> Operator:
        coupling_NN, offset_D = self._parts.coupling_MNN[worker], self._parts.offset_MD[worker]
        transposed_NN, n = np.ascontiguousarray(coupling_NN.T), self.n

        def evaluate(z_D: Vector, draws: Draws) -> Vector:
            del draws
            value_D: Vector = self.regularisation * z_D + offset_D
            # one dot product per row: unlike BLAS's matrix product its bits do not depend on the number of threads
            value_D[:n] += np.vecdot(coupling_NN, z_D[n:])
            value_D[n:] -= np.vecdot(transposed_NN, z_D[:n])
            return value_D

        return evaluate

    def prox(self, v_D: Vector, step_size: float) -> Vector:
        del step_size
        return v_D

    def merits(self, z_D: Vector) -> Mapping[str, float]:
        """relative_error |z - z*|/|z*|, then natural_residual |F(z)|."""
        matrix_DD, offset_D = self._mean
        error = np.linalg.norm(z_D - self.solution) / np.linalg.norm(self.solution)
        return {"relative_error": float(error), "natural_residual": float(np.linalg.norm(matrix_DD @ z_D + offset_D))}


class BilinearKeys(TypedDict, total=False):
    """`BilinearGame` as keys."""

    num_workers: Annotated[int, BilinearGame]
    n: Annotated[int, BilinearGame]
    regularisation: Annotated[float, BilinearGame]
    heterogeneity: Annotated[float, BilinearGame]
    seed: Annotated[int, BilinearGame]
