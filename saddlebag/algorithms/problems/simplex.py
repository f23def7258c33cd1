"""Euclidean projection on a scaled simplex.

Shapes: N = coordinates, K = kept ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from saddlebag.compression.payload import Vector

__all__ = ["project_simplex"]


def project_simplex(v_N: Vector, total: float) -> Vector:
    """The point of {q >= 0, sum q = total} nearest to v: max(v - theta, 0), theta such that the sum is right.

    Michelot 1986: theta of the coordinates kept so far never exceeds the final one, so those at or below it are dropped
    for good, until none is. Differs: not by sorting (Held, Wolfe, Crowder 1974), which takes several times as long.

    Args:
        v_N: float64 (N,); not-a-numbers come out as such.
        total: sum of the coordinates, positive.

    Returns:
        float64 (N,).

    Example:
        >>> project_simplex(np.array([0.5, 2.0, -1.0]), 2.0).tolist()
        [0.25, 1.75, 0.0]
    """
    with np.errstate(invalid="ignore", over="ignore"):
        shifted_N = v_N - v_N.max()  # what is kept at the end lies in [-total, 0]: no cancellation, however large v is
        kept_K = shifted_N
        while True:
            theta = (kept_K.sum() - total) / len(kept_K)
            above_K = kept_K[kept_K > theta]
            if len(above_K) in (0, len(kept_K)):  # 0: not a number
                projected_N: Vector = np.maximum(shifted_N - theta, 0.0)
                return projected_N
            kept_K = above_K
