"""Merit functions against definitions: brute force where the definition is a maximum."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from saddlebag.algorithms.problems import (
    affine_gap,
    bilinear_gap,
    natural_residual,
    project_simplex,
    relative_distance,
    worst_group,
)
from saddlebag.errors import ConfigError


def test_relative_distance() -> None:
    start_D, solution_D = np.zeros(2), np.array([3.0, 4.0])
    assert relative_distance(start_D, solution_D, start_D) == 1.0
    assert relative_distance(solution_D, solution_D, start_D) == 0.0
    assert relative_distance(np.array([0.0, 2.0]), start_D, start_D) == 2.0  # a start that solves


def test_natural_residual_vanishes_at_solutions_only() -> None:
    """min of (z - 2)^2/2 over the simplex of two coordinates, whose solution is (1/2, 1/2)."""
    target_D = np.array([2.0, 2.0])

    def prox(v_D: np.ndarray, step_size: float) -> np.ndarray:
        return project_simplex(v_D, 1.0)

    half_D, corner_D = np.array([0.5, 0.5]), np.array([1.0, 0.0])
    assert natural_residual(half_D, half_D - target_D, prox) == 0.0
    assert natural_residual(corner_D, corner_D - target_D, prox) == pytest.approx(2**-0.5)


@example(354461155, 9.0, False)  # three thousand plain steps end far from the maximum
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 10), st.booleans())
def test_the_gap_is_the_maximum_over_the_ball(seed: int, radius: float, skew: bool) -> None:
    rng = np.random.default_rng(seed)
    d = int(rng.integers(1, 6))
    half_DD = rng.standard_normal((d, d))
    matrix_DD = half_DD - half_DD.T + (0.0 if skew else 1.0) * half_DD @ half_DD.T
    offset_D, centre_D, z_D = rng.standard_normal((3, d))
    gap = affine_gap(z_D, matrix_DD, offset_D, centre_D, radius)
    ball_KD = rng.standard_normal((2000, d))
    ball_KD *= radius * rng.uniform(0, 1, (2000, 1)) ** (1 / d) / np.linalg.norm(ball_KD, axis=1, keepdims=True)
    ball_KD += centre_D
    values_K = np.sum((ball_KD @ matrix_DD.T + offset_D) * (z_D - ball_KD), axis=1)
    scale = 1 + abs(gap)
    assert values_K.max() <= gap + 1e-9 * scale
    # accelerated projected ascent comes within 2 L |u0 - u*|^2 / (k + 1)^2 of it (Beck, Teboulle 2009, Theorem 4.4)
    smoothness, steps = np.linalg.norm(matrix_DD + matrix_DD.T, 2) + 1e-12, 3000
    u_D = ahead_D = ball_KD[np.argmax(values_K)]
    momentum = 1.0
    for _ in range(steps):
        before_D = u_D
        u_D = ahead_D + (matrix_DD.T @ z_D - offset_D - (matrix_DD + matrix_DD.T) @ ahead_D) / smoothness
        away_D = u_D - centre_D
        u_D = centre_D + away_D * min(1.0, radius / max(np.linalg.norm(away_D), 1e-300))
        momentum, last = 0.5 * (1.0 + np.sqrt(1.0 + 4.0 * momentum**2)), momentum
        ahead_D = u_D + (last - 1.0) / momentum * (u_D - before_D)
    attained = float((matrix_DD @ u_D + offset_D) @ (z_D - u_D))
    assert attained <= gap + 1e-9 * scale
    assert gap - attained <= 2.0 * smoothness * (2.0 * radius) ** 2 / (steps + 1) ** 2 + 1e-9 * scale


def test_the_gap_vanishes_at_the_solution_and_is_positive_elsewhere() -> None:
    matrix_DD, offset_D = np.array([[0.1, 1.0], [-1.0, 0.1]]), np.array([1.0, -2.0])
    solution_D = np.linalg.solve(matrix_DD, -offset_D)
    assert affine_gap(solution_D, matrix_DD, offset_D, np.zeros(2), 5.0) == pytest.approx(0.0, abs=1e-12)
    assert affine_gap(solution_D + 0.01, matrix_DD, offset_D, np.zeros(2), 5.0) > 1e-4  # about mu |0.01|^2


def test_the_gap_refuses_what_it_is_not_defined_for() -> None:
    with pytest.raises(ConfigError, match="radius must be positive, got 0"):
        affine_gap(np.ones(1), np.eye(1), np.ones(1), np.zeros(1), 0)
    with pytest.raises(ConfigError, match=r"needs a monotone operator; its symmetric part has the eigenvalue -1\.0e\+00"):
        affine_gap(np.ones(1), -np.eye(1), np.ones(1), np.zeros(1), 1.0)


def test_the_duality_gap_of_rock_paper_scissors() -> None:
    payoff = np.array([[0.0, 1.0, -1.0], [-1.0, 0.0, 1.0], [1.0, -1.0, 0.0]])
    even, rock = np.full(3, 1 / 3), np.array([1.0, 0.0, 0.0])
    assert bilinear_gap(payoff @ even, payoff.T @ even) == pytest.approx(0.0, abs=1e-15)
    assert bilinear_gap(payoff @ even, payoff.T @ rock) == pytest.approx(1.0)


def test_worst_group_of_intersecting_groups() -> None:
    mean_GN = np.array([[0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0.0, 0.0], [0.0, 0.5, 0.5, 0.0]])
    assert worst_group(np.array([4.0, 2.0, 1.0, 0.0]), mean_GN) == (3.0, 1)
