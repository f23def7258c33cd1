"""Whether the automatic step ever throws an error back: small problems, started far from the solution, near it and on it.

A cell is a problem, a method, a number of workers, a start and a seed. Its error is the distance to the solution; it must never
exceed ten times the one at the start, or ten times what the wire's roundings show of F at the solution, whichever is larger,
and no step may be taken that is not finite. See `bench_auto.py --sound`.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms import Problem, Stop, Verdict, make_method, simulate
from saddlebag.algorithms.agreed.common_part import common_part
from saddlebag.algorithms.problems import PROBLEMS, BilinearGame
from saddlebag.algorithms.problems.data.rows import Dataset, DenseRows
from saddlebag.compression import Grid, Natural, RandK, TopK
from saddlebag.proto.codec import LoopbackWire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from saddlebag.algorithms.agreed.common_part import CommonPart
    from saddlebag.algorithms.base import Constants
    from saddlebag.compression import Vector

__all__ = ["DISTANCES", "METHODS", "PROBLEM_NAMES", "WORKERS", "Cell", "cells", "thrown_back"]

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "extragradient": ("extragradient", {}),
    "innovations": ("innovations", {"up": Grid(), "down": Grid(step=0.5)}),
    "innovations auto": ("innovations", {}),  # grids that set themselves, too
    "innovations top_k": ("innovations", {"up": TopK(fraction=0.3), "down": TopK(fraction=0.3)}),
    "masha1": ("masha1", {"up": Natural(), "down": Natural()}),
    "masha1 rand_k": ("masha1", {"up": RandK(fraction=0.3), "down": Natural(), "probability": 0.2}),
    "masha1 next": ("masha1", {"up": Natural(), "down": Natural(), "rule": "next"}),
    "masha2": ("masha2", {"up": TopK(fraction=0.3), "down": TopK(fraction=0.3), "probability": 0.2}),
    "ogda": ("ogda", {}),
}
WORKERS = (1, 2, 3, 100)
DISTANCES = (math.inf, 1e-3, 1e-5, 1e-9, 0.0)  # of the start, relative to the solution's norm; infinite: the problem's own
_MOST = 10.0
_ROUNDING = 2.0**-23  # of float32, in which full vectors travel


@dataclasses.dataclass(frozen=True)
class Started:
    """A problem that begins elsewhere, and hides its constants on request."""

    inner: Any
    begin_D: Vector
    hide: bool = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def common_part(self) -> CommonPart | None:
        return common_part(self.inner)

    def start(self) -> Vector:
        return self.begin_D.copy()

    @property
    def constants(self) -> Constants | None:
        return None if self.hide else self.inner.constants

    def merits(self, z_D: Vector) -> dict[str, float]:
        return {"distance": float(np.linalg.norm(z_D - self.inner.solution))}


def _rows(seed: int, count: int) -> Dataset:
    rng = np.random.default_rng([seed, 7])
    a_NF = rng.standard_normal((count, 4))
    label_N = np.where(a_NF @ np.ones(4) + rng.standard_normal(count) > 0, 1.0, -1.0)
    return Dataset("rows", DenseRows(a_NF), label_N)


def _build(name: str, workers: int, seed: int) -> Problem:
    many: dict[str, Any] = {"num_workers": workers}
    match name:
        case "bilinear":
            return BilinearGame(n=4, regularisation=0.1, heterogeneity=0.0 if workers == 1 else 1.0, seed=seed, **many)
        case "rotation":
            return BilinearGame(n=4, regularisation=0.001, heterogeneity=0.0 if workers == 1 else 0.3, seed=seed, **many)
        case "quadratic":
            return PROBLEMS["quadratic"](None, strong_monotonicity=0.05, seed=seed, **many)
        case "gradient":
            return PROBLEMS["quadratic"](None, strong_monotonicity=0.05, rotation=0.0, seed=seed, **many)
        case _:
            return PROBLEMS[name](_rows(seed, max(24, 2 * workers)), **many)


PROBLEM_NAMES = (
    "bilinear",
    "rotation",
    "quadratic",
    "gradient",
    "robust_logistic",
    "robust_least_squares",
    "logistic_regression",
)


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run."""

    problem: str
    method: str
    workers: int
    distance: float
    seed: int
    hide: bool


def cells(
    seeds: int, *, problems: tuple[str, ...] = PROBLEM_NAMES, methods: tuple[str, ...] = tuple(METHODS)
) -> Iterator[Cell]:
    """All cells for so many seeds; half of the seeds do not know L."""
    for problem, method, workers, distance, seed in itertools.product(problems, methods, WORKERS, DISTANCES, range(seeds)):
        yield Cell(problem, method, workers, distance, seed, hide=seed % 2 == 1)


def thrown_back(cell: Cell, iterations: int = 60) -> float | None:
    """The largest distance to the solution in a run, as a multiple of what is allowed; None where the method cannot run."""
    inner: Any = _build(cell.problem, cell.workers, cell.seed)
    kind, params = METHODS[cell.method]
    if kind == "masha2" and not inner.unconstrained:
        return None
    solution_D, rng = inner.solution, np.random.default_rng([cell.seed, 3])
    begin_D = inner.start()
    if math.isfinite(cell.distance):
        direction_D = rng.standard_normal(len(solution_D))
        size = np.linalg.norm(solution_D)
        begin_D = inner.prox(solution_D + cell.distance * size * direction_D / np.linalg.norm(direction_D), 1.0)
    problem = Started(inner, begin_D, cell.hide)
    method = make_method(kind, problem, step_size="auto", **params)
    values = [inner.operator(worker)(solution_D, None) for worker in range(cell.workers)]
    floor = _ROUNDING * max(np.linalg.norm(value_D) for value_D in values) / inner.constants.lipschitz
    floor = max(floor, 1e-12 * float(np.linalg.norm(solution_D)))
    at_start = problem.merits(begin_D)["distance"]
    seen = [at_start]

    def watch(rounds: int, replica: Any, verdict: Verdict) -> None:
        del rounds, verdict
        seen.append(problem.merits(replica.z_D)["distance"] if np.isfinite(replica.z_D).all() else math.inf)

    stop = Stop(max_iterations=iterations, every=iterations)
    end = simulate(problem, method, seed=cell.seed, stop=stop, wire=LoopbackWire(), watch=watch)
    worst = math.inf if end.reason == "diverged" and at_start > floor else max(seen)
    return worst / (_MOST * max(at_start, floor))
