"""Quadratic games with a chosen spectrum, a chosen share of rotation, and a chosen similarity of the workers.

Shapes: N = coordinates of each player, D = 2N, M = workers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from saddlebag.algorithms.problems.data.given import refuse_data
from saddlebag.algorithms.problems.games.affine import AffineProblem, orthogonal, require
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.algorithms.problems.data.rows import Dataset
    from saddlebag.compression.payload import Vector

__all__ = ["quadratic"]

Matrix = npt.NDArray[np.float64]


def quadratic(
    data: Dataset | None,
    *,
    num_workers: int = 10,
    n: int = 25,
    lipschitz: float = 1.0,
    strong_monotonicity: float = 0.02,
    rotation: float = 1.0,
    similarity: float = 0.5,
    offset_spread: float = 1.0,
    seed: int = 0,
) -> AffineProblem:
    """A quadratic game whose constants are chosen, not found.

        min_x max_y   x'P x/2 + x'C y - y'R y/2 + a'x - b'y  in the mean;   F(z) = B z + c,  B = [[P, C], [-C', R]],

    with P = U diag(p) U', R = V diag(p) V', C = U diag(s) V', U and V random orthogonal. B is a normal matrix with the
    eigenvalues p_i +- i s_i of modulus r_i: from mu to L in geometric progression (from L/N in equal steps for mu = 0), and
    p_i = mu + (1 - rotation)(r_i - r_1). So |B| = L and the smallest eigenvalue of its symmetric part is mu, exactly.
    Worker m has B + E_m: the E_m have the same block structure, sum to 0, and the largest of their norms is `similarity`;
    a single F_m need not be monotone.

    Args:
        data: none.
        num_workers: M; a single worker has E = 0.
        n: N; the iterate has D = 2N coordinates.
        lipschitz: L > 0 of the mean operator.
        strong_monotonicity: mu, 0 <= mu <= L.
        rotation: 1 for a bilinear coupling and mu I; 0 for no coupling: the minimisation of a quadratic.
        similarity: s >= 0, the Lipschitz constant of F_m - F.
        offset_spread: deviation of the c_m from their mean, whose coordinates are of order 1.
        seed: of the problem, not of the run.

    Raises:
        ConfigError: a data set was given, or a parameter is out of range.

    Example:
        >>> constants = quadratic(None, lipschitz=3.0, strong_monotonicity=0.5, similarity=0.1).constants
        >>> round(constants.lipschitz, 9), round(constants.strong_monotonicity, 9), round(constants.similarity, 9)
        (3.0, 0.5, 0.1)
    """
    _check(data, num_workers=num_workers, n=n, seed=seed)
    require("quadratic", "lipschitz", lipschitz, above=0.0)
    require("quadratic", "similarity", similarity, at_least=0.0)
    require("quadratic", "offset_spread", offset_spread, at_least=0.0)
    if not 0 <= strong_monotonicity <= lipschitz:
        raise ConfigError(f"quadratic: strong_monotonicity must lie in [0, lipschitz={lipschitz}], got {strong_monotonicity}")
    if not 0 <= rotation <= 1:
        raise ConfigError(f"quadratic: rotation must lie in [0, 1], got {rotation}")
    rng = np.random.default_rng(seed)
    real_N, imaginary_N = _spectrum(n, lipschitz, strong_monotonicity, rotation)
    left_NN, right_NN = orthogonal(rng, n), orthogonal(rng, n)
    mean_DD = _blocks(left_NN * real_N @ left_NN.T, left_NN * imaginary_N @ right_NN.T, right_NN * real_N @ right_NN.T)
    deviation_MDD = _deviations(rng, num_workers, n, similarity)
    common_D = rng.standard_normal(2 * n)
    own_MD = rng.standard_normal((num_workers, 2 * n))
    own_MD -= own_MD.mean(axis=0)
    return AffineProblem(matrix_MDD=mean_DD + deviation_MDD, offset_MD=common_D + offset_spread * own_MD, name="quadratic")


def _check(data: Dataset | None, *, num_workers: int, n: int, seed: int) -> None:
    refuse_data("quadratic", data)
    for field, value in (("num_workers", num_workers), ("n", n)):
        require("quadratic", field, value, at_least=1)
    require("quadratic", "seed", seed, at_least=0)


def _spectrum(n: int, lipschitz: float, mu: float, rotation: float) -> tuple[Vector, Vector]:
    """Real and imaginary parts of the eigenvalues."""
    if n == 1:
        modulus_N = np.array([lipschitz])
    else:
        modulus_N = np.geomspace(mu, lipschitz, n) if mu > 0 else np.linspace(lipschitz / n, lipschitz, n)
    real_N = mu + (1.0 - rotation) * (modulus_N - modulus_N[0])
    return real_N, np.sqrt(np.maximum(modulus_N**2 - real_N**2, 0.0))


def _blocks(first_NN: Matrix, coupling_NN: Matrix, second_NN: Matrix) -> Matrix:
    return np.block([[first_NN, coupling_NN], [-coupling_NN.T, second_NN]])


def _deviations(rng: np.random.Generator, num_workers: int, n: int, similarity: float) -> Matrix:
    """E_m with the structure of a game, sum 0, and largest norm `similarity`; float64 (M, D, D)."""
    parts = rng.standard_normal((num_workers, 3, n, n))
    parts -= parts.mean(axis=0)
    symmetric = parts[:, 1:] + np.swapaxes(parts[:, 1:], -1, -2)
    games = [_blocks(own[0], part[0], own[1]) for own, part in zip(symmetric, parts, strict=True)]
    deviation_MDD = np.array(games)
    largest = float(np.linalg.norm(deviation_MDD, 2, axis=(1, 2)).max())
    return deviation_MDD * (similarity / largest if num_workers > 1 else 0.0)
