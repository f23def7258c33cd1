"""One run of a comparison, in this process: counted operator evaluations, a short curve, a result that is kept whole."""

from __future__ import annotations

import functools
import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saddlebag.algorithms.agreed.common_part import common_part
from saddlebag.algorithms.finite_sum import FiniteSum
from saddlebag.algorithms.problems.estimate import estimate_constants, with_constants
from saddlebag.algorithms.simulate import Record, simulate
from saddlebag.launch.build import build_method, build_problem, numbers_of
from saddlebag.launch.recipe.recipe import recipe_from_dict
from saddlebag.launch.recipe.toml import dump
from saddlebag.launch.results.results import write_json
from saddlebag.proto.codec import LoopbackWire

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from saddlebag.algorithms.agreed.common_part import CommonPart
    from saddlebag.algorithms.base import AnyMethod, Operator, Problem
    from saddlebag.compression.draws import Draws
    from saddlebag.compression.payload import Index, Vector
    from saddlebag.launch.recipe.recipe import Recipe

__all__ = ["CUT", "STALLED", "Counter", "counted", "problem_of", "read_cell", "run_cell"]

CUT = "cut"
"""Why a run of the grid ended that had already sent more bytes than the best one needs."""

STALLED = "stalled"
"""Why a run of the grid ended that after a tenth of its iterations was no better than the start."""

_TRIAL = 0.1

_POINTS = 240  # of a curve: more than a plot resolves

Point = list[float]
"""iteration, round, bytes up, bytes down, evaluations (each summed over the workers), merit."""


class Counter:
    """How often operators were evaluated, batches in parts of a whole one, summed over the workers."""

    def __init__(self) -> None:
        self.evaluations = 0.0


class _CountedOperator:
    """An operator that counts its calls and is otherwise the one inside."""

    def __init__(self, inner: Operator, counter: Counter) -> None:
        self._inner, self._counter = inner, counter

    def __call__(self, z_D: Vector, draws: Draws) -> Vector:
        self._counter.evaluations += 1.0
        return self._inner(z_D, draws)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _CountedSum(_CountedOperator):
    """The same for an operator that is a finite sum."""

    def batch(self, z_D: Vector, index_B: Index) -> Vector:
        inner: Any = self._inner
        self._counter.evaluations += len(index_B) / inner.num_samples
        value_D: Vector = inner.batch(z_D, index_B)
        return value_D


class _CountedProblem:
    """A problem whose operators count their calls; merits are not counted."""

    def __init__(self, inner: Problem, counter: Counter) -> None:
        self._inner, self._counter = inner, counter

    def operator(self, worker: int) -> Operator:
        operator = self._inner.operator(worker)
        kind = _CountedSum if isinstance(operator, FiniteSum) else _CountedOperator
        return kind(operator, self._counter)

    def common_part(self) -> CommonPart | None:
        return common_part(self._inner)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def counted(problem: Problem) -> tuple[Problem, Counter]:
    """The problem with counting operators, and their counter."""
    counter = Counter()
    wrapped: Any = _CountedProblem(problem, counter)
    return wrapped, counter


class _Hopeless(Exception):
    """Why a run is of no further interest."""


@functools.lru_cache(maxsize=1)
def _build(text: str) -> Problem:
    problem = build_problem(recipe_from_dict(tomllib.loads(text)))
    # the grid counts in 1/L, which for some problems can only be estimated
    return problem if problem.constants is not None else with_constants(problem, estimate_constants(problem))


def problem_of(job: Recipe) -> Problem:
    """The problem of a recipe; the last one is kept, for the cells of a comparison share it."""
    table = job.to_dict()
    kept: dict[str, Any] = {key: table[key] for key in ("workers", "problem", "data", "stop") if key in table}
    return _build(dump({**kept, "method": {"name": "ogda"}}))  # which method is of no consequence


def run_cell(text: str, path: str, budget: float | None = None, tuning: bool = False) -> dict[str, Any]:
    """Run a method and store its result.

    Args:
        text: the recipe of one method, TOML.
        path: of the result.
        budget: bytes in both directions, summed over the workers, beyond which the run is of no interest.
        tuning: whether a run that does not get under way is of no interest either.

    Returns:
        The result, which is also in the file.
    """
    job = recipe_from_dict(tomllib.loads(text))
    problem, counter = counted(problem_of(job))
    method = build_method(job, problem)
    counter.evaluations = 0.0
    start = dict(problem.merits(problem.start()))
    curve: list[Point] = []
    first, limit = next(iter(start.values())), job.stop.max_iterations or job.stop.max_rounds
    trial = _TRIAL * limit if tuning and limit else float("inf")

    def observe(record: Record) -> None:
        merit = float(next(iter(record.merits.values())))
        curve.append([record.iteration, record.round, record.up_bytes, record.down_bytes, counter.evaluations, merit])
        if budget is not None and record.up_bytes + record.down_bytes > budget:
            raise _Hopeless(CUT)
        if record.iteration >= trial and merit >= first:
            raise _Hopeless(STALLED)

    reason = _run(job, problem, method, observe, curve)
    result = {
        "label": job.label,
        "seed": job.seed,
        "reason": reason,
        "budget": budget,
        "resolved": numbers_of(method),
        "merit": next(iter(start)),
        "start": next(iter(start.values())),
        "workers": job.workers,
        "curve": _thin(curve),
    }
    write_json(Path(path), result)
    return result


def _run(job: Recipe, problem: Problem, method: AnyMethod, observe: Callable[[Record], None], curve: list[Point]) -> str:
    """Run until the recipe's stop, or until `observe` finds no interest in it any more; returns why it ended."""
    try:
        wire = LoopbackWire()
        return simulate(problem, method, seed=job.seed, stop=job.stop, wire=wire, observe=observe, keep_history=False).reason
    except _Hopeless as error:
        target = job.stop.merit
        return "merit" if target is not None and curve[-1][-1] <= target else str(error)


def _thin(curve: Sequence[Point]) -> list[Point]:
    """Some of the points, evenly in iterations, the last one included."""
    if len(curve) <= _POINTS:
        return list(curve)
    return [curve[round(number * (len(curve) - 1) / (_POINTS - 1))] for number in range(_POINTS)]


def read_cell(path: Path, budget: float | None, tuning: bool) -> dict[str, Any] | None:
    """The stored result of a cell; None when there is none, or it was cut short where now it would not be."""
    try:
        result: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    reason = result.get("reason")
    if (reason == CUT and (budget is None or result["budget"] < budget)) or (reason == STALLED and not tuning):
        return None
    return result
