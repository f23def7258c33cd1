"""The bilinear game with every worker's operator divided into r samples that differ by a chosen amount.

Shapes: N = coordinates of each player, D = 2N, R = samples of a worker, B = a batch.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Annotated, ClassVar, Self, Unpack

import numpy as np
import numpy.typing as npt

from saddlebag.algorithms.problems.data.given import refuse_data
from saddlebag.algorithms.problems.games.bilinear import BilinearGame, BilinearKeys
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.algorithms.base import Operator
    from saddlebag.algorithms.problems.data.rows import Dataset
    from saddlebag.compression.draws import Draws
    from saddlebag.compression.payload import Index, Vector

__all__ = ["FiniteBilinearGame"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FiniteBilinearGame(BilinearGame):
    """A bilinear game whose F_m is the mean of F_{m,i}(z) = F_m(z) + (E_i y + e_i, -E_i'x - f_i), i = 1, ..., r.

    The deviations of a worker add up to zero, so F_m, the solution and the constants are those of `BilinearGame`.

    Attributes:
        num_samples: r.
        sample_heterogeneity: mean spectral norm of the E_i, and half the size of the entries of (e_i, f_i).

    Example:
        >>> game = FiniteBilinearGame(n=3, num_workers=2, num_samples=4)
        >>> game.operator(1).num_samples
        4
    """

    name: ClassVar[str] = "finite_bilinear"

    num_samples: int = 10
    sample_heterogeneity: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_samples < 1:
            raise ConfigError(f"finite_bilinear: num_samples must be at least 1, got {self.num_samples}")
        if not 0 <= self.sample_heterogeneity < np.inf:
            raise ConfigError(
                f"finite_bilinear: sample_heterogeneity must be finite and at least 0, got {self.sample_heterogeneity}"
            )

    @classmethod
    def build(cls, data: Dataset | None, **keys: Unpack[FiniteBilinearKeys]) -> Self:
        """The factory of the registry: the fields, and no data.

        Raises:
            ConfigError: a data set was given, or a parameter is out of range.
        """
        refuse_data(cls.name, data)
        return cls(**keys)

    def operator(self, worker: int) -> BilinearSum:
        rng = np.random.default_rng([self.seed, 1, worker])
        deviation_RNN = rng.standard_normal((self.num_samples, self.n, self.n))
        deviation_RNN -= deviation_RNN.mean(axis=0)
        spread = float(np.mean(np.linalg.norm(deviation_RNN, 2, axis=(1, 2))))
        deviation_RNN *= self.sample_heterogeneity / spread if spread > 0 else 0.0  # a single sample has none
        offset_RD = 2 * self.sample_heterogeneity * rng.standard_normal((self.num_samples, self.dimension))
        coupling_NN = self._parts.coupling_MNN[worker]
        return BilinearSum(
            whole=super().operator(worker),
            regularisation=self.regularisation,
            coupling_RNN=coupling_NN + deviation_RNN,
            offset_RD=self._parts.offset_MD[worker] + offset_RD - offset_RD.mean(axis=0),
        )


class FiniteBilinearKeys(BilinearKeys, total=False):
    """`FiniteBilinearGame` as keys."""

    num_samples: Annotated[int, FiniteBilinearGame]
    sample_heterogeneity: Annotated[float, FiniteBilinearGame]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class BilinearSum:
    """One worker's operator as a finite sum of affine ones."""

    whole: Operator
    regularisation: float
    coupling_RNN: npt.NDArray[np.float64]
    offset_RD: Vector

    @property
    def num_samples(self) -> int:
        return len(self.coupling_RNN)

    @functools.cached_property
    def lipschitz(self) -> float:
        """Lambda_m, exact: the norm of a sample is sqrt(lam^2 + |A_{m,i}|^2)."""
        norm_R = np.hypot(self.regularisation, np.linalg.norm(self.coupling_RNN, 2, axis=(1, 2)))
        return float(np.sqrt(np.mean(norm_R**2)))

    def __call__(self, z_D: Vector, draws: Draws) -> Vector:
        return self.whole(z_D, draws)

    def batch(self, z_D: Vector, index_B: Index) -> Vector:
        n = len(z_D) // 2
        coupling_NN = self.coupling_RNN[index_B].mean(axis=0)
        value_D: Vector = self.regularisation * z_D + self.offset_RD[index_B].mean(axis=0)
        value_D[:n] += np.vecdot(coupling_NN, z_D[n:])  # as in `BilinearGame`: independent of the number of threads
        value_D[n:] -= np.vecdot(np.ascontiguousarray(coupling_NN.T), z_D[:n])
        return value_D
