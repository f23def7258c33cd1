"""The part of an operator that all workers have in common and every machine can compute: it need not be sent.

Many problems have the form F_m = G_m + R, where only G_m depends on a worker's data and R is a regulariser,

    R(z) = slope (z - centre)    coordinate by coordinate.

Where z is known, as on every replica, so is R(z). A method with memories lets them follow the G_m = F_m - R alone and adds
R(z) on the replicas: of what is compressed, R's changes are gone, whole coordinates where a worker has no data. Nothing else
changes, since h_m + R(z) misses F_m by what h_m misses G_m by (docs/theory/innovations.md).

Shapes: D = coordinates of the iterate.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from saddlebag.algorithms.base import Constants, Problem
    from saddlebag.compression import Vector

__all__ = ["CommonPart", "PartlyKnown"]


@dataclasses.dataclass(frozen=True, eq=False)
class CommonPart:
    """R(z) = slope (z - centre), a part of every F_m; what is left of each, F_m - R, is monotone.

    Attributes:
        slope_D: at least 0.
        centre_D: where R vanishes.

    Example:
        >>> CommonPart(np.array([0.5, 0.0]), np.array([1.0, 0.0]))(np.array([3.0, 4.0])).tolist()
        [1.0, 0.0]
    """

    slope_D: Vector
    centre_D: Vector

    def __call__(self, z_D: Vector) -> Vector:
        """R(z), float64 (D,)."""
        value_D: Vector = self.slope_D * (z_D - self.centre_D)
        return value_D

    @classmethod
    def of(cls, *parts: tuple[int, float, float]) -> CommonPart:
        """Of (coordinates, slope, centre) for runs of coordinates, one after the other.

        Example:
            >>> CommonPart.of((2, 0.1, 0.0), (1, 0.5, 1.0)).slope_D.tolist()
            [0.1, 0.1, 0.5]
        """
        slope_D = np.concatenate([np.full(count, slope) for count, slope, _ in parts])
        return cls(slope_D, np.concatenate([np.full(count, centre) for count, _, centre in parts]))


@runtime_checkable
class PartlyKnown(Protocol):
    """A problem that says what its operators have in common.

    Example:
        >>> import saddlebag as sb
        >>> problem = sb.make_problem("robust_logistic", data="breast_cancer", workers=2)
        >>> isinstance(problem, PartlyKnown), bool(problem.common_part().slope_D.min() > 0)
        (True, True)
    """

    def common_part(self) -> CommonPart | None:
        """R, or None where there is no such part."""


def common_part(problem: Problem) -> CommonPart | None:
    """What the operators of a problem have in common, if it says so.

    Example:
        >>> import saddlebag as sb
        >>> common_part(sb.make_problem("bilinear", n=2, workers=2)) is None
        True
    """
    return problem.common_part() if isinstance(problem, PartlyKnown) else None


def tracked_constants(constants: Constants, common: CommonPart | None) -> Constants:
    """Constants whose L_m bound those of F_m - R, too: with R = s I + R', s the least slope, they grow by |R'|.

    |J - s I| <= |J| for the Jacobian J of F_m, whose symmetric part is at least s.
    """
    spread = 0.0 if common is None else float(common.slope_D.max() - common.slope_D.min())
    return dataclasses.replace(constants, lipschitz_workers=tuple(each + spread for each in constants.lipschitz_workers))
