"""Affine operators F_m(z) = B_m z + c_m, held as matrices: every constant exact, the solution in closed form.

Shapes: D = coordinates, M = workers.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from saddlebag.algorithms.base import Constants, Operator
from saddlebag.algorithms.problems.merits import affine_gap, natural_residual, relative_distance
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from saddlebag.compression.draws import Draws
    from saddlebag.compression.payload import Vector

__all__ = ["AffineProblem"]


def require(name: str, field: str, value: float, *, at_least: float = -np.inf, above: float = -np.inf) -> None:
    """Refuse a parameter that is not finite or too small.

    Raises:
        ConfigError: it names problem, field, value and bound.
    """
    bound = f"above {above:g}" if above > at_least else f"at least {at_least:g}"
    if not (np.isfinite(value) and value >= at_least and value > above):
        raise ConfigError(f"{name}: {field} must be finite and {bound}, got {value}")


def orthogonal(rng: np.random.Generator, n: int) -> npt.NDArray[np.float64]:
    """The Q-factor of a Gaussian matrix, float64 (n, n)."""
    return np.linalg.qr(rng.standard_normal((n, n))).Q


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class AffineProblem:
    """Find the zero of the mean of F_m(z) = B_m z + c_m.

    Attributes:
        matrix_MDD: B_m; the symmetric part of their mean is positive semi-definite, that of a single one need not be.
        offset_MD: c_m.
        name: of the problem.

    Example:
        >>> problem = AffineProblem(matrix_MDD=np.array([[[2.0]], [[4.0]]]), offset_MD=np.array([[1.0], [5.0]]), name="line")
        >>> problem.solution.tolist(), problem.constants.strong_monotonicity, problem.constants.similarity
        ([-1.0], 3.0, 1.0)
    """

    matrix_MDD: npt.NDArray[np.float64]
    offset_MD: Vector
    name: str

    def __post_init__(self) -> None:
        m, d = self.offset_MD.shape
        if self.matrix_MDD.shape != (m, d, d):
            raise ConfigError(
                f"{self.name}: {m} offsets of size {d} need matrices ({m}, {d}, {d}), got {self.matrix_MDD.shape}"
            )

    @property
    def dimension(self) -> int:
        return int(self.offset_MD.shape[1])

    @property
    def num_workers(self) -> int:
        return len(self.offset_MD)

    @property
    def unconstrained(self) -> bool:
        return True

    @functools.cached_property
    def mean(self) -> tuple[npt.NDArray[np.float64], Vector]:
        """B and c of the mean operator."""
        return self.matrix_MDD.mean(axis=0), self.offset_MD.mean(axis=0)

    @functools.cached_property
    def constants(self) -> Constants:
        """Exact: spectral norms, and the smallest eigenvalue of the symmetric part of B."""
        matrix_DD = self.mean[0]
        lowest = float(np.linalg.eigvalsh(matrix_DD + matrix_DD.T)[0]) / 2
        norms_M = np.linalg.norm(self.matrix_MDD, 2, axis=(1, 2))
        spread_M = np.linalg.norm(self.matrix_MDD - matrix_DD, 2, axis=(1, 2))
        whole = float(np.linalg.norm(matrix_DD, 2))
        mu = lowest if lowest > 1e-12 * whole else 0.0  # below is rounding
        return Constants(whole, tuple(map(float, norms_M)), mu, float(spread_M.max()))

    @functools.cached_property
    def solution(self) -> Vector:
        """z* = -B^-1 c, float64 (D,); of several, the one of least norm."""
        matrix_DD, offset_D = self.mean
        return np.linalg.lstsq(matrix_DD, -offset_D, rcond=None)[0]

    def start(self) -> Vector:
        return np.zeros(self.dimension)

    def operator(self, worker: int) -> Operator:
        matrix_DD, offset_D = self.matrix_MDD[worker], self.offset_MD[worker]

        def evaluate(z_D: Vector, draws: Draws) -> Vector:
            del draws
            # one dot product per row: unlike BLAS's matrix product its bits do not depend on the number of threads
            value_D: Vector = np.vecdot(matrix_DD, z_D) + offset_D
            return value_D

        return evaluate

    def prox(self, v_D: Vector, step_size: float) -> Vector:
        del step_size
        return v_D

    def gap(self, z_D: Vector, radius: float | None = None) -> float:
        """The restricted gap over the ball around z0 of a radius, by default twice the distance to the solution."""
        matrix_DD, offset_D = self.mean
        default = 2.0 * float(np.linalg.norm(self.solution - self.start())) or 1.0
        return affine_gap(z_D, matrix_DD, offset_D, self.start(), default if radius is None else radius)

    def merits(self, z_D: Vector) -> Mapping[str, float]:
        """relative_error |z - z*|/|z0 - z*|, then natural_residual |F(z)|."""
        matrix_DD, offset_D = self.mean
        return {
            "relative_error": relative_distance(z_D, self.solution, self.start()),
            "natural_residual": natural_residual(z_D, matrix_DD @ z_D + offset_D, self.prox),
        }
