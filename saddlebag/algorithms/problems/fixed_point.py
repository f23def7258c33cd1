"""Fixed points z = T(z) of a mean of maps, as the variational inequality of F(z) = z - T(z).

Shapes: D = coordinates, M = workers.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.algorithms.base import Constants, Operator
from saddlebag.algorithms.problems.data.given import refuse_data
from saddlebag.algorithms.problems.data.rows import norm
from saddlebag.algorithms.problems.games.affine import AffineProblem, orthogonal, require
from saddlebag.algorithms.problems.merits import relative_distance
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from saddlebag.algorithms.problems.data.rows import Dataset
    from saddlebag.compression.draws import Draws
    from saddlebag.compression.payload import Vector

    Map = Callable[[Vector], Vector]

__all__ = ["FixedPoint", "fixed_point"]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class FixedPoint:
    """Solve z = (1/M) sum_m T_m(z), each T_m known to one worker.

    If the mean T is a q-contraction, F = id - T is (1 - q)-strongly monotone: <F(u) - F(v), u - v> = |u - v|^2 -
    <T(u) - T(v), u - v>; and L <= 1 + q. A non-expansive T (q = 1) gives a monotone F (Bauschke, Combettes 2011,
    Example 20.7). An F_m is (1 + q_m)-Lipschitz for a q_m-Lipschitz T_m.

    Attributes:
        maps: T_m: float64 (D,) -> float64 (D,), functions.
        origin_D: z0.
        contraction: q of the mean T, in [0, 1].
        lipschitz_maps: q_m of each T_m; they may exceed 1.
        solution: the fixed point, if it is known; the first merit is then the distance to it.
        name: for people.

    Example:
        >>> problem = FixedPoint(
        ...     maps=(np.cos,), origin_D=np.ones(1), contraction=np.sin(1.0), lipschitz_maps=(1.0,), name="cosine"
        ... )
        >>> round(problem.merits(np.array([0.7390851332151607]))["natural_residual"], 12)
        0.0
    """

    maps: tuple[Map, ...]
    origin_D: Vector
    contraction: float
    lipschitz_maps: tuple[float, ...]
    solution: Vector | None = None
    name: str = "fixed point"

    def __post_init__(self) -> None:
        if not self.maps or len(self.maps) != len(self.lipschitz_maps):
            raise ConfigError(f"{self.name}: {len(self.maps)} maps need as many lipschitz_maps, got {len(self.lipschitz_maps)}")
        if not 0 <= self.contraction <= 1:
            raise ConfigError(f"{self.name}: contraction must lie in [0, 1], got {self.contraction}")

    @property
    def dimension(self) -> int:
        return len(self.origin_D)

    @property
    def num_workers(self) -> int:
        return len(self.maps)

    @property
    def unconstrained(self) -> bool:
        return True

    @property
    def constants(self) -> Constants:
        return Constants(1.0 + self.contraction, tuple(1.0 + float(q) for q in self.lipschitz_maps), 1.0 - self.contraction)

    def start(self) -> Vector:
        return np.array(self.origin_D, np.float64)

    def operator(self, worker: int) -> Operator:
        own = self.maps[worker]

        def evaluate(z_D: Vector, draws: Draws) -> Vector:
            del draws
            return z_D - own(z_D)

        return evaluate

    def prox(self, v_D: Vector, step_size: float) -> Vector:
        del step_size
        return v_D

    def merits(self, z_D: Vector) -> Mapping[str, float]:
        """relative_error |z - z*|/|z0 - z*| if z* is known, then natural_residual |z - T(z)|."""
        residual = {"natural_residual": norm(z_D - np.mean([own(z_D) for own in self.maps], axis=0))}
        if self.solution is None:
            return residual
        return {"relative_error": relative_distance(z_D, self.solution, self.start()), **residual}


def fixed_point(
    data: Dataset | None,
    *,
    num_workers: int = 10,
    dimension: int = 50,
    contraction: float = 0.95,
    heterogeneity: float = 0.5,
    seed: int = 0,
) -> AffineProblem:
    """An affine fixed-point problem: T_m(z) = (q O + E_m) z + b_m, O orthogonal, the E_m of sum 0.

    F = id - T has exact constants; contraction 0.95 makes a rotation that plain averaging resolves slowly.

    Args:
        data: none.
        num_workers: M.
        dimension: D.
        contraction: q in [0, 1): the mean T contracts by exactly this.
        heterogeneity: the largest norm of the E_m.
        seed: of the problem, not of the run.

    Raises:
        ConfigError: a data set was given, or a parameter is out of range.

    Example:
        >>> import saddlebag as sb
        >>> problem = sb.make_problem("fixed_point", dimension=4, contraction=0.5, workers=2)
        >>> run = sb.simulate(problem, sb.make_method("extragradient", problem))
        >>> bool(abs(run.z - problem.solution).max() < 1e-5)
        True
    """
    refuse_data("fixed_point", data)
    for field, value in (("num_workers", num_workers), ("dimension", dimension)):
        require("fixed_point", field, value, at_least=1)
    require("fixed_point", "heterogeneity", heterogeneity, at_least=0.0)
    require("fixed_point", "seed", seed, at_least=0)
    if not 0 <= contraction < 1:
        raise ConfigError(f"fixed_point: contraction must lie in [0, 1), got {contraction}")
    rng = np.random.default_rng(seed)
    mean_DD = contraction * orthogonal(rng, dimension)
    deviation_MDD = rng.standard_normal((num_workers, dimension, dimension))
    deviation_MDD -= deviation_MDD.mean(axis=0)
    largest = float(np.linalg.norm(deviation_MDD, 2, axis=(1, 2)).max())
    deviation_MDD *= heterogeneity / largest if num_workers > 1 else 0.0
    offset_MD = rng.standard_normal((num_workers, dimension))
    return AffineProblem(matrix_MDD=np.eye(dimension) - mean_DD - deviation_MDD, offset_MD=-offset_MD, name="fixed_point")
