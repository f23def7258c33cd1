"""`saddlebag run`: every method of a recipe, one after the other, with everything that is kept of it."""

from __future__ import annotations

import contextlib
import json
import shutil
from typing import TYPE_CHECKING, Any

from saddlebag.algorithms.simulate import Record, simulate
from saddlebag.algorithms.state import digest
from saddlebag.errors import ConfigError, SaddlebagError
from saddlebag.launch.build import build_method, build_problem, resolve
from saddlebag.launch.ownership import contents, owned
from saddlebag.launch.recipe.recipe import Recipe, load_recipe
from saddlebag.launch.results.outputs import Outputs
from saddlebag.launch.results.results import (
    METRICS,
    RESULT,
    Line,
    job_result,
    read_json,
    read_lines,
    summary,
    write_json,
)
from saddlebag.launch.results.tensorboard import require_tensorboard
from saddlebag.proto.checkpoint import write_atomically
from saddlebag.proto.codec import LoopbackWire
from saddlebag.proto.handshake import recipe_difference

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from saddlebag.algorithms.base import Problem
    from saddlebag.launch.results.progress import Progress
    from saddlebag.launch.results.table import Board

__all__ = ["RECIPE", "prepare", "run", "write_recipe"]

RECIPE, PLOT = "recipe.toml", "plot.png"


def run(recipe: Recipe, out: Path, board: Board, *, resume: bool = False, force: bool = False) -> dict[str, Any]:
    """Run all methods of a recipe; returns the summary that is also in `out`/result.json.

    Raises:
        ConfigError: the recipe does not fit together, another process owns `out`, or it holds something else.
        DataError: the data are missing or malformed.
    """
    if recipe.output.tensorboard:
        require_tensorboard()
    problem = build_problem(recipe)
    resolved = resolve(recipe, problem)
    start = problem.merits(problem.start())
    with owned(out, "saddlebag run"):
        continues = prepare(recipe, out, resume=resume, force=force)
        write_recipe(resolved, recipe, out / RECIPE)
        return _run_all(recipe, resolved, problem, start, out, board, resume=continues)


def _run_all(
    recipe: Recipe, resolved: Recipe, problem: Problem, start: Mapping[str, float], out: Path, board: Board, *, resume: bool
) -> dict[str, Any]:
    """All methods, in a folder that this process owns."""
    results: list[dict[str, Any]] = []
    histories: list[list[Line]] = []
    with board.shown():
        for job, numbers in zip(recipe.jobs(), resolved.jobs(), strict=True):
            folder = out / job.label
            facts: Mapping[str, Any] | None = _finished(folder, job.digest()) if resume else None
            if facts is None:
                board.begin(job.label, start)
                facts = _drive(job, problem, folder, resume=resume, board=board)
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


def _drive(job: Recipe, problem: Problem, folder: Path, *, resume: bool, board: Board) -> Mapping[str, Any]:
    """Run one method with the driver that the recipe asks for."""
    ways: dict[str, Any] = {"observe": board.observer(job.label), "progress": board.progress(job.label)}
    if job.driver == "simulate":
        return _simulate(job, problem, folder, **ways)
    if job.driver == "collective":
        from saddlebag.launch.drivers.ranks import run_collective  # here: other drivers have no use for it

        return run_collective(job, folder, resume=resume, note=board.note, **ways)
    from saddlebag.launch.drivers.supervisor import run_grpc  # here, for grpc

    return run_grpc(job, folder, resume=resume, note=board.note, **ways)


def _simulate(
    job: Recipe, problem: Problem, folder: Path, *, observe: Callable[[Record], None], progress: Callable[[Progress], None]
) -> dict[str, Any]:
    method = build_method(job, problem)
    with owned(folder, "saddlebag run"), Outputs(job, problem, folder, progress=progress) as outputs:

        def keep(record: Record) -> None:
            outputs.record(record)
            observe(record)

        ways: dict[str, Any] = {"observe": keep, "watch": outputs.watch, "keep_history": False}
        outcome = simulate(problem, method, seed=job.seed, stop=job.stop, wire=LoopbackWire(), **ways)
    return {
        "reason": outcome.reason,
        "rounds": outcome.rounds,
        "iterations": outcome.replica.iteration,
        "up_bytes": outcome.up_bytes,
        "down_bytes": outcome.down_bytes,
        "digest": f"{digest(outcome.replica):016x}",
    }


# -- the folder ----------------------------------------------------------------------------------------------------------


def write_recipe(resolved: Recipe, recipe: Recipe, path: Path) -> None:
    """Save a recipe as written, overrides and defaults included, with the resolved numbers as comments."""
    notes = ["# Resolved by saddlebag from the recipe, its overrides and the defaults; `saddlebag run` reads it back."]
    for method, written in zip(resolved.methods, recipe.methods, strict=True):
        numbers = {key: getattr(method, key) for key in ("step_size", "probability")}
        found = [f"{key} = {value}" for key, value in numbers.items() if isinstance(value, float)]
        for side in ("up", "down"):  # what an adaptive compressor chose
            chosen = getattr(method, side)
            if chosen != getattr(written, side):
                found.append(f"{side} = {chosen.name} {dict(chosen.parameters)}")
        notes.append(f"# {method.label}: " + ", ".join(found))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, ("\n".join(notes) + "\n\n" + recipe.to_toml()).encode())


def prepare(recipe: Recipe, out: Path, *, resume: bool, force: bool) -> bool:
    """Make the folder of a run; returns whether an earlier run is continued there.

    Raises:
        ConfigError: the folder holds a run and neither `resume` nor `force` is given, or another recipe's run is to be
            resumed, or it is no folder of a run.
    """
    if not contents(out):
        return False
    if not (out / RECIPE).is_file():
        raise ConfigError(f"{out} exists and holds no run; give another folder with --out")
    if resume:
        _require_same(load_recipe(out / RECIPE), recipe, out)
        return True
    if not force:
        raise ConfigError(f"{out} holds a run; --resume continues it, --force replaces it, --out takes another folder")
    labels = {job.label for job in recipe.jobs()}
    with contextlib.suppress(SaddlebagError):  # a recipe of an older release, or an edited one
        labels |= {job.label for job in load_recipe(out / RECIPE).jobs()}
    for label in labels:
        if (out / label).is_dir():
            with owned(out / label, "saddlebag run"):  # a server may be at work there
                for path in contents(out / label):
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for name in (RESULT, PLOT):
        (out / name).unlink(missing_ok=True)
    return False


def _require_same(saved: Recipe, recipe: Recipe, out: Path) -> None:
    theirs, ours = ({job.label: json.loads(job.canonical()) for job in each.jobs()} for each in (saved, recipe))
    found = recipe_difference(theirs, ours)
    if found is not None:
        raise ConfigError(f"{out} holds another run: {found}; `--out` takes another folder, `--force` replaces it")


def _finished(folder: Path, recipe_digest: str) -> dict[str, Any] | None:
    """The result of a job that an earlier run has finished."""
    if not (folder / RESULT).is_file():
        return None
    result = read_json(folder / RESULT)
    return result if result.get("recipe_digest") == recipe_digest else None
