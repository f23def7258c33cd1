"""The laws of a problem: passing them is the definition of a correct plug-in."""

from __future__ import annotations

import difflib
import itertools
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.algorithms import capabilities as kinds
from saddlebag.algorithms.agreed.common_part import PartlyKnown, common_part
from saddlebag.algorithms.base import Problem
from saddlebag.algorithms.lean import LendsModules, StartsNarrow
from saddlebag.capabilities import members
from saddlebag.compression.draws import EVERYONE, Draws

if TYPE_CHECKING:
    from saddlebag.compression.payload import Vector

__all__ = ["check_problem"]

_PROBLEM_CAPABILITIES = (
    Problem,
    kinds.HasActiveSet,
    kinds.HasSolution,
    kinds.HasTensors,
    kinds.HasLocalBlocks,
    kinds.HasMask,
    kinds.Divisible,
    kinds.RunsOnDevice,
    kinds.ShowsPictures,
    kinds.HasTexts,
    kinds.HasModules,
    LendsModules,
    StartsNarrow,
    kinds.HasTokenizer,
    PartlyKnown,
)
"""What drivers and methods ask a problem for. It may have more for people: losses of groups, strategies of players."""
_CLOSE = 1e-6  # relative
_ALIKE = 0.75  # how near a name is to a known one before it is taken for a slip


def check_problem(problem: Problem, *, num_points: int = 4, seed: int = 0) -> None:
    """Check the laws of a problem; raises `AssertionError` with the law that is broken.

    1. The start is finite, float64, of the stated dimension, and feasible: the prox leaves it.
    2. Every worker's operator is a function: equal arguments give equal bits, and arguments are left alone.
    3. The prox does not expand distances, and what it gives is feasible.
    4. Merits are numbers, and the first is not negative.
    5. Stated constants hold between random feasible points: L_m of each F_m, L and mu of their mean.
    6. A known solution is one: |z* - prox(z* - F(z*), 1)| vanishes to 1e-6 of its size at the start.
    7. What every operator has in common, where the problem says so, leaves a monotone rest.
    8. No public attribute is nearly, and not quite, the name of a capability: it would be ignored.

    Args:
        problem: the one to check.
        num_points: random feasible points that are compared in pairs.
        seed: of the points.

    Example:
        >>> from saddlebag.algorithms.problems import BilinearGame
        >>> check_problem(BilinearGame(n=3, num_workers=2))
    """
    _check_names(problem)
    start_D = problem.start()
    assert start_D.shape == (problem.dimension,), f"start() has the shape {start_D.shape}, not ({problem.dimension},)"
    assert start_D.dtype == np.float64, f"start() is {start_D.dtype}, not float64"
    assert np.isfinite(start_D).all(), "start() is not finite"
    assert np.allclose(problem.prox(start_D, 1e-12), start_D, atol=1e-9), "start() is not feasible: the prox moves it"
    _check_merits(problem, start_D)
    rng = np.random.default_rng(seed)
    free: list[Vector] = [start_D + rng.standard_normal(problem.dimension) for _ in range(num_points)]
    points = [problem.prox(point_D, 1e-12) for point_D in free]
    _check_prox(problem, free, points)
    value_PMD = np.stack([_operators(problem, point_D) for point_D in points])
    _check_constants(problem, np.stack(points), value_PMD)
    _check_common_part(problem, np.stack(points), value_PMD)
    _check_solution(problem, start_D)


def _check_names(problem: Problem) -> None:
    known = sorted({name for kind in _PROBLEM_CAPABILITIES for name in members(kind)})
    for name in dir(problem):
        near = [] if name.startswith("_") or name in known else difflib.get_close_matches(name, known, 1, _ALIKE)
        assert not near, f"{type(problem).__name__}.{name}: no capability has this name; did you mean {near[0]!r}?"


def _check_merits(problem: Problem, z_D: Vector) -> None:
    merits = problem.merits(z_D)
    assert merits, "merits() names none"
    assert all(np.isfinite(value) for value in merits.values()), f"merits at the start are not finite: {dict(merits)}"
    name, value = next(iter(merits.items()))
    assert value >= 0, f"merit {name} is negative at the start: {value}"


def _check_prox(problem: Problem, free: list[Vector], points: list[Vector]) -> None:
    for point_D in points:
        assert np.allclose(problem.prox(point_D, 1e-12), point_D, atol=1e-9), "what the prox gives is not feasible"
    for first, second in itertools.pairwise(free):
        moved = problem.prox(first, 0.5) - problem.prox(second, 0.5)
        before, after = float(np.linalg.norm(first - second)), float(np.linalg.norm(moved))
        assert after <= before * (1 + _CLOSE), f"the prox expands a distance of {before:.6g} to {after:.6g}"


def _operators(problem: Problem, z_D: Vector) -> Vector:
    """All workers' values at a point, (M, D)."""
    values = []
    for worker in range(problem.num_workers):
        operator, given_D, draws = problem.operator(worker), z_D.copy(), Draws(0, 0, EVERYONE)
        first_D, again_D = operator(given_D, draws), operator(given_D, draws)
        assert np.array_equal(given_D, z_D), f"the operator of worker {worker} changed its argument"
        assert first_D.shape == z_D.shape, f"the operator of worker {worker} gives the shape {first_D.shape}"
        assert np.array_equal(first_D, again_D), f"the operator of worker {worker} is no function: equal arguments, other bits"
        values.append(np.array(first_D, np.float64))
    return np.stack(values)


def _check_constants(problem: Problem, point_PD: Vector, value_PMD: Vector) -> None:
    known = problem.constants
    if known is None:
        return
    for p in range(1, len(point_PD)):
        step_D, change_MD = point_PD[p] - point_PD[p - 1], value_PMD[p] - value_PMD[p - 1]
        moved, mean_D = float(np.linalg.norm(step_D)), change_MD.mean(axis=0)
        for worker, largest in enumerate(known.lipschitz_workers):
            seen = float(np.linalg.norm(change_MD[worker])) / moved
            assert seen <= largest * (1 + _CLOSE), f"F_{worker} changes by {seen:.6g} a unit, its constant says {largest:.6g}"
        seen = float(np.linalg.norm(mean_D)) / moved
        assert seen <= known.lipschitz * (1 + _CLOSE), f"F changes by {seen:.6g} a unit, L says {known.lipschitz:.6g}"
        gain = float(mean_D @ step_D) / moved**2
        assert gain >= known.strong_monotonicity - _CLOSE * known.lipschitz, (
            f"F gains {gain:.6g} a unit along a step, mu says {known.strong_monotonicity:.6g}"
        )


def _check_common_part(problem: Problem, point_PD: Vector, value_PMD: Vector) -> None:
    common = common_part(problem)
    if common is None:
        return
    assert common.slope_D.shape == common.centre_D.shape == point_PD[0].shape, "common_part() has not the problem's dimension"
    assert (common.slope_D >= 0).all(), "common_part() has a negative slope"
    rest_PMD = value_PMD - np.stack([common(point_D) for point_D in point_PD])[:, None]
    for p in range(1, len(point_PD)):
        step_D = point_PD[p] - point_PD[p - 1]
        for worker, change_D in enumerate(rest_PMD[p] - rest_PMD[p - 1]):
            gain = float(change_D @ step_D) / float(step_D @ step_D)
            assert gain >= -_CLOSE, f"F_{worker} less common_part() gains {gain:.6g} a unit along a step: it is not monotone"


def _check_solution(problem: Problem, start_D: Vector) -> None:
    best_D = problem.solution if isinstance(problem, kinds.HasSolution) else None
    if best_D is None:
        return
    residuals = []
    for z_D in (best_D, start_D):
        mean_D = _operators(problem, z_D).mean(axis=0)
        residuals.append(float(np.linalg.norm(z_D - problem.prox(z_D - mean_D, 1.0))))
    assert residuals[0] <= _CLOSE * max(residuals[1], 1.0), f"solution is none: its natural residual is {residuals[0]:.3g}"
