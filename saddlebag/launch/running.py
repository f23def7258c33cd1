"""`saddlebag run`: every method of a recipe, one after the other, with everything that is kept of it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from saddlebag.launch.build import build_problem, resolve
from saddlebag.launch.drivers.process import require_few
from saddlebag.launch.drivers.simulated import run_simulated
from saddlebag.launch.ownership import owned
from saddlebag.launch.recipe.plugins import find
from saddlebag.launch.results.folder import PLOT, RECIPE, finished, prepare, write_recipe
from saddlebag.launch.results.results import METRICS, RESULT, Line, job_result, read_lines, summary, write_json
from saddlebag.launch.results.tensorboard import require_tensorboard
from saddlebag.launch.results.trackers import require_trackers
from saddlebag.launch.settings import require_kept
from saddlebag.launch.sharding import require_shards

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from saddlebag.algorithms.base import Problem
    from saddlebag.launch.drivers.nursery import Nursery
    from saddlebag.launch.recipe.recipe import Recipe
    from saddlebag.launch.results.table import Board

__all__ = ["run"]


def run(recipe: Recipe, out: Path, board: Board, *, resume: bool = False, force: bool = False) -> dict[str, Any]:
    """Run all methods of a recipe; returns the summary that is also in `out`/result.json.

    Raises:
        ConfigError: the recipe does not fit together, another process owns `out`, or it holds something else.
        DataError: the data are missing or malformed.
    """
    require_kept(recipe, recipe.driver)
    if recipe.driver != "simulate":
        require_few(recipe.workers)
    if recipe.output.tensorboard:
        require_tensorboard()
    require_trackers(recipe.output.trackers)
    with contextlib.ExitStack() as stack:
        nursery = _nursery(recipe, stack) if recipe.driver == "grpc" else None  # it imports while the problem is built
        problem = build_problem(recipe, tell=board.tell)
        resolved = resolve(recipe, problem)
        for job in resolved.jobs():
            for difference in require_shards(job, problem):
                board.note(difference)
        start = problem.merits(problem.start())
        stack.enter_context(owned(out, "saddlebag run"))
        continues = prepare(recipe, out, resume=resume, force=force)
        if resume and not continues:
            board.note(f"{out} holds no run to continue: a new one begins")
        write_recipe(resolved, recipe, out / RECIPE)
        return _run_all(recipe, resolved, problem, start, out, board, resume=continues, nursery=nursery)


def _nursery(recipe: Recipe, stack: contextlib.ExitStack) -> Nursery:
    """What starts the processes of all methods."""
    from saddlebag.launch.drivers.nursery import Nursery

    network = find("problems", recipe.problem.name, "problem.name").__module__.startswith("saddlebag.algorithms.networks")
    return stack.enter_context(contextlib.closing(Nursery(also=["torch"] if network else [])))


def _run_all(
    recipe: Recipe,
    resolved: Recipe,
    problem: Problem,
    start: Mapping[str, float],
    out: Path,
    board: Board,
    **ways: Any,
) -> dict[str, Any]:
    """All methods, in a folder that this process owns; `ways` are those of `_drive`."""
    results: list[dict[str, Any]] = []
    histories: list[list[Line]] = []
    with board.shown():
        for job, numbers in zip(recipe.jobs(), resolved.jobs(), strict=True):
            folder = out / job.label
            facts: Mapping[str, Any] | None = finished(folder, job.digest()) if ways["resume"] else None
            if facts is None:
                board.begin(job.label, start)
                facts = _drive(job, problem, folder, board=board, **ways)
            lines = read_lines(folder / METRICS)
            result = job_result(numbers, job.digest(), problem, start, facts, lines)
            write_json(folder / RESULT, result)
            board.end(job.label, result)
            results.append(result)
            histories.append(lines)
    values = summary(recipe, results, histories)
    write_json(out / RESULT, values)
    from saddlebag.launch.results.plot import plot  # here, for matplotlib takes half a second

    plot([out], out / PLOT)
    return values


def _drive(
    job: Recipe, problem: Problem, folder: Path, *, resume: bool, board: Board, nursery: Nursery | None
) -> Mapping[str, Any]:
    """Run one method with the driver that the recipe asks for."""
    ways: dict[str, Any] = {"observe": board.observer(job.label), "progress": board.progress(job.label)}
    if job.driver == "simulate":
        return run_simulated(job, folder, problem=problem, **ways)
    if job.driver == "collective":
        from saddlebag.launch.drivers.ranks import run_collective  # here: other drivers have no use for it

        return run_collective(job, folder, resume=resume, note=board.note, **ways)
    from saddlebag.launch.drivers.supervisor import run_grpc  # here, for grpc

    ways |= {"note": board.note, "waiting": board.waiting(job.label), "nursery": nursery}
    return run_grpc(job, folder, resume=resume, **ways)
