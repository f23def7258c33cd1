"""Matrix games on two simplices, with the Euclidean prox or in the geometry of the entropy.

Shapes: A = actions of the minimiser, B = of the maximiser, D = A + B, M = workers.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from saddlebag.algorithms.base import Constants, Operator
from saddlebag.algorithms.problems.data.given import refuse_data
from saddlebag.algorithms.problems.games.affine import require
from saddlebag.algorithms.problems.merits import bilinear_gap
from saddlebag.algorithms.problems.simplex import project_simplex
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from saddlebag.algorithms.problems.data.rows import Dataset
    from saddlebag.compression.draws import Draws
    from saddlebag.compression.payload import Vector

__all__ = ["MatrixGame"]

_Geometry = Literal["euclidean", "entropy"]


def softmax(v_N: Vector) -> Vector:
    """exp(v) / sum exp(v), without overflow; a point of the simplex.

    Example:
        >>> softmax(np.array([0.0, 1e4, 1e4])).tolist()
        [0.0, 0.5, 0.5]
    """
    weight_N = np.exp(v_N - np.max(v_N))
    share_N: Vector = weight_N / np.sum(weight_N)
    return share_N


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class MatrixGame:
    """min over x, max over y of x'A y on probability simplices, A = mean of the payoffs A_m that the workers see.

    F_m(x, y) = (A_m y, -A_m'x): monotone, not strongly. The first merit is the duality gap max_j (A'x)_j - min_i (Ay)_i.

    *Euclidean*: z = (x, y), the prox projects on the simplices; everything that is proven for a prox applies. Constants are
    exact: L = |A|_2, L_m = |A_m|_2, s = max |A_m - A|_2.

    *Entropy*: the iterate holds logits t, and F is asked at (softmax t_x, softmax t_y): G(t) = F(softmax t), with no prox. A
    step t - gamma G in logits is the Bregman step of the entropy, so extragradient on G is mirror-prox (Nemirovski 2004),
    OGDA is optimistic Hedge (Rakhlin, Sridharan 2013), and MASHA's pull tau t + p w is the mixture of mirror images that
    Alacaoglu and Malitsky (2022, section 3) use in their Bregman setup. What is proven there: gap O(log(AB)/(gamma k)) of the
    *averaged* points for mirror-prox with gamma <= 1/max|A_ij|. The Euclidean theorems of this package do not cover G, which
    is not monotone, so `constants` is None and a step size must be given or estimated; the noise of compression is not covered
    by any of these either.

    Attributes:
        payoff_MAB: A_m, float64.
        geometry: "euclidean" or "entropy".

    Example:
        >>> game = MatrixGame(payoff_MAB=np.array([[[1.0, -1.0], [-1.0, 1.0]]]))  # matching pennies, seen by one worker
        >>> game.merits(np.full(4, 0.5))
        {'duality_gap': 0.0, 'value': 0.0}
    """

    payoff_MAB: npt.NDArray[np.float64]
    geometry: _Geometry = "euclidean"

    def __post_init__(self) -> None:
        if self.payoff_MAB.ndim != 3 or 0 in self.payoff_MAB.shape or not np.isfinite(self.payoff_MAB).all():
            raise ConfigError(f"matrix_game: payoffs must be finite, (workers, actions, actions), got {self.payoff_MAB.shape}")
        if self.geometry not in ("euclidean", "entropy"):
            raise ConfigError(f"matrix_game: geometry must be 'euclidean' or 'entropy', got {self.geometry!r}")

    @classmethod
    def build(
        cls,
        data: Dataset | None,
        *,
        num_workers: int = 10,
        rows: int = 50,
        columns: int = 50,
        heterogeneity: float = 0.5,
        geometry: _Geometry = "euclidean",
        seed: int = 0,
    ) -> MatrixGame:
        """The factory of the registry: payoffs uniform in [-1, 1] plus deviations of the workers that sum to 0.

        Args:
            data: none.
            num_workers: M.
            rows: A.
            columns: B.
            heterogeneity: the deviations are uniform in [-h, h], then centred.
            geometry: "euclidean" or "entropy".
            seed: of the problem, not of the run.

        Raises:
            ConfigError: a data set was given, or a parameter is out of range.

        Example:
            >>> import saddlebag as sb
            >>> sb.make_problem("matrix_game", workers=2).num_workers
            2
        """
        refuse_data("matrix_game", data)
        for field, value in (("num_workers", num_workers), ("rows", rows), ("columns", columns)):
            require("matrix_game", field, value, at_least=1)
        require("matrix_game", "heterogeneity", heterogeneity, at_least=0.0)
        require("matrix_game", "seed", seed, at_least=0)
        rng = np.random.default_rng(seed)
        mean_AB = rng.uniform(-1.0, 1.0, (rows, columns))
        own_MAB = rng.uniform(-heterogeneity, heterogeneity, (num_workers, rows, columns))
        own_MAB -= own_MAB.mean(axis=0)
        own_MAB += mean_AB
        return cls(payoff_MAB=own_MAB, geometry=geometry)

    @property
    def name(self) -> str:
        return "matrix_game"

    @property
    def dimension(self) -> int:
        return sum(self.payoff_MAB.shape[1:])

    @property
    def num_workers(self) -> int:
        return len(self.payoff_MAB)

    @property
    def unconstrained(self) -> bool:
        return self.geometry == "entropy"

    @functools.cached_property
    def _mean(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        mean_AB = self.payoff_MAB.mean(axis=0)
        return mean_AB, np.ascontiguousarray(mean_AB.T)

    @functools.cached_property
    def constants(self) -> Constants | None:
        """Exact for the Euclidean geometry, None for the entropy's."""
        if self.geometry == "entropy":
            return None
        mean_AB = self._mean[0]
        norms = tuple(float(np.linalg.norm(payoff_AB, 2)) for payoff_AB in self.payoff_MAB)
        spread = max(float(np.linalg.norm(payoff_AB - mean_AB, 2)) for payoff_AB in self.payoff_MAB)
        return Constants(float(np.linalg.norm(mean_AB, 2)), norms, 0.0, spread)

    @property
    def entropy_step(self) -> float:
        """1/max|A_ij| of the mean game: mirror-prox's largest proven step in the geometry of the entropy."""
        largest = float(np.abs(self._mean[0]).max())
        return 1.0 / largest if largest > 0 else 1.0

    def start(self) -> Vector:
        """Both players at their uniform strategies."""
        _, num_rows, num_columns = self.payoff_MAB.shape
        if self.geometry == "entropy":
            return np.zeros(self.dimension)
        return np.concatenate((np.full(num_rows, 1 / num_rows), np.full(num_columns, 1 / num_columns)))

    def strategies(self, z_D: Vector) -> tuple[Vector, Vector]:
        """The mixed strategies (x, y) at an iterate: it itself, or the softmax of its logits."""
        num_rows = self.payoff_MAB.shape[1]
        x_A, y_B = z_D[:num_rows], z_D[num_rows:]
        return (softmax(x_A), softmax(y_B)) if self.geometry == "entropy" else (x_A, y_B)

    def operator(self, worker: int) -> Operator:
        payoff_AB = self.payoff_MAB[worker]
        payoff_BA = np.ascontiguousarray(payoff_AB.T)

        def evaluate(z_D: Vector, draws: Draws) -> Vector:
            del draws
            x_A, y_B = self.strategies(z_D)
            # one dot product per row: unlike BLAS's matrix product its bits do not depend on the number of threads
            return np.concatenate((np.vecdot(payoff_AB, y_B), -np.vecdot(payoff_BA, x_A)))

        return evaluate

    def prox(self, v_D: Vector, step_size: float) -> Vector:
        """The projection on the two simplices, whatever the step size; the identity on logits."""
        del step_size
        if self.geometry == "entropy":
            return v_D
        num_rows = self.payoff_MAB.shape[1]
        return np.concatenate((project_simplex(v_D[:num_rows], 1.0), project_simplex(v_D[num_rows:], 1.0)))

    def merits(self, z_D: Vector) -> Mapping[str, float]:
        """duality_gap max_j (A'x)_j - min_i (Ay)_i, 0 at an equilibrium only; then value x'Ay, which may be negative."""
        x_A, y_B = self.strategies(z_D)
        mean_AB, mean_BA = self._mean
        cost_A = mean_AB @ y_B
        return {"duality_gap": bilinear_gap(cost_A, mean_BA @ x_A), "value": float(x_A @ cost_A)}
