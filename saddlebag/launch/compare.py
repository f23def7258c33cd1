"""`saddlebag compare`: the methods of a recipe on one problem, tuned alike, over several seeds; resumable, cell by cell."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import multiprocessing
import os
import signal
import statistics
import threading
import time
from typing import TYPE_CHECKING, Any

from saddlebag.errors import ConfigError
from saddlebag.launch.compare_cell import problem_of, read_cell, run_cell
from saddlebag.launch.compare_spec import Cell, CompareSection, grid
from saddlebag.launch.results import read_json, write_json
from saddlebag.proto.checkpoint import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from saddlebag.algorithms.base import Problem
    from saddlebag.launch.recipe import Recipe

__all__ = ["COMPARISON", "MEASURES", "at_target", "compare", "measures", "read_comparison", "score"]

COMPARISON, CELLS, RECIPE = "comparison.json", "cells", "recipe.toml"

_WATCH_S = 0.5

MEASURES = ("iterations", "rounds", "up", "down", "total", "evaluations", "time")
"""What is measured at the target; bytes and evaluations are those of one worker in the mean, time is modelled."""

Result = dict[str, Any]


def compare(
    recipe: Recipe,
    section: CompareSection,
    out: Path,
    *,
    jobs: int = 1,
    progress: Callable[[int, int, str], None] = lambda done, total, text: None,
) -> dict[str, Any]:
    """Run a comparison, or what is left of it; returns the summary that is also in `out`/comparison.json.

    Args:
        recipe: problem, methods and stopping rule.
        section: seeds, grid and what it minimises.
        out: folder; a finished cell found there is not run again.
        jobs: processes.
        progress: told the numbers of finished and known cells, and what was finished.

    Raises:
        ConfigError: the recipe does not fit together, or `out` holds something else.
        DataError: the data are missing or malformed.
    """
    if jobs < 1:
        raise ConfigError(f"jobs must be at least 1, got {jobs}")
    _prepare(recipe, out)
    problem = problem_of(recipe)
    cells = grid(recipe, section, problem)
    with _pool(jobs) as pool:
        runner = _Runner(section, out / CELLS, pool, progress)
        best = runner.tune(cells, others=section.seeds - 1)
        results = runner.finish(best, recipe.seed, section.seeds)
    values = _summary(recipe, section, problem, cells, best, results, runner.tuning)
    write_json(out / COMPARISON, values)
    return values


def _prepare(recipe: Recipe, out: Path) -> None:
    """The folder may hold an earlier stage of the same comparison, or of one on the same problem: cells have digests."""
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file; give another folder with --out")
    if out.is_dir() and any(out.iterdir()) and not (out / RECIPE).is_file():
        raise ConfigError(f"{out} exists and holds no comparison; give another folder with --out")
    (out / CELLS).mkdir(parents=True, exist_ok=True)
    write_atomically(out / RECIPE, recipe.to_toml().encode())


@contextlib.contextmanager
def _pool(jobs: int) -> Iterator[concurrent.futures.Executor | None]:
    """Processes to run cells in; none for one job. An interruption ends them at once: unfinished cells are run again."""
    if jobs == 1:
        yield None
        return
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context, initializer=_obey_parent, initargs=(os.getpid(),))
    try:
        yield pool
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _obey_parent(parent: int) -> None:
    """Leave interruptions to the parent, and end when it is gone, however it went: the pool's own pipes would not tell."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def wait() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH_S)
        os._exit(1)

    threading.Thread(target=wait, name="watch-parent", daemon=True).start()


class _Runner:
    """Runs cells and keeps count."""

    def __init__(
        self,
        section: CompareSection,
        folder: Path,
        pool: concurrent.futures.Executor | None,
        progress: Callable[[int, int, str], None],
    ) -> None:
        self._section, self._folder, self._pool, self._progress = section, folder, pool, progress
        self._done = self._total = 0
        self.tuning: dict[str, list[Result]] = {}

    def tune(self, cells: dict[str, list[Cell]], others: int) -> dict[str, Cell]:
        """The best cell of each method; on a tie, or when none arrives, the one with the smaller step comes later."""
        self._total = sum(map(len, cells.values())) + others * len(cells)
        best: dict[str, Cell] = {}
        for label, candidates in cells.items():
            results = self._run_all(candidates, tuning=len(candidates) > 1)
            self.tuning[label] = results
            scores = [score(result, self._section) for result in results]
            best[label] = candidates[min(range(len(candidates)), key=lambda number: (scores[number], -number))]
        return best

    def finish(self, best: dict[str, Cell], first: int, seeds: int) -> dict[str, list[Result]]:
        """The results of every method at its best setting on all seeds."""
        asked = [(label, cell.with_seed(first + number)) for label, cell in best.items() for number in range(seeds)]
        self._done -= len(best)  # the first seed is there already
        found = self._run_all([cell for _, cell in asked], tuning=False)
        results: dict[str, list[Result]] = {label: [] for label in best}
        for (label, _), result in zip(asked, found, strict=True):
            results[label].append(result)
        return results

    def _run_all(self, cells: list[Cell], *, tuning: bool) -> list[Result]:
        """The results of cells; while tuning, runs end that have sent more than the best so far, or do not get under way."""
        limited = tuning and self._section.objective == "total"
        found: dict[int, Result] = {}
        budget: float | None = None
        waiting = list(range(len(cells)))
        running: dict[concurrent.futures.Future[Result], int] = {}
        while waiting or running:
            while waiting and len(running) < (getattr(self._pool, "_max_workers", 1) if self._pool else 1):
                number = waiting.pop(0)
                future = self._submit(cells[number], budget if limited else None, tuning)
                running[future] = number
            finished, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in finished:
                number = running.pop(future)
                found[number] = future.result()
                self._done += 1
                self._progress(self._done, self._total, _describe(cells[number], found[number]))
                hit = at_target(found[number])
                if hit is not None:
                    sent = hit[2] + hit[3]
                    budget = sent if budget is None else min(budget, sent)
        return [found[number] for number in range(len(cells))]

    def _submit(self, cell: Cell, budget: float | None, tuning: bool) -> concurrent.futures.Future[Result]:
        path = self._folder / f"{cell.key}.json"
        known = read_cell(path, budget, tuning)
        if self._pool is not None and known is None:
            return self._pool.submit(run_cell, cell.job.to_toml(), str(path), budget, tuning)
        future: concurrent.futures.Future[Result] = concurrent.futures.Future()
        future.set_result(run_cell(cell.job.to_toml(), str(path), budget, tuning) if known is None else known)
        return future


def _describe(cell: Cell, result: Result) -> str:
    settings = [f"step {cell.step:g}/L"] if cell.step is not None else []
    settings += [f"p x {cell.share:g}"] if cell.share is not None else []
    return f"{cell.job.label}: {', '.join([*settings, f'seed {cell.job.seed}'])}: {result['reason']}"


# -- what the results say ------------------------------------------------------------------------------------------------


def at_target(result: Result) -> list[float] | None:
    """The point at which a run reached the target, if it did."""
    point: list[float] | None = result["curve"][-1] if result["reason"] == "merit" else None
    return point


def measures(point: list[float], workers: int, section: CompareSection) -> dict[str, float]:
    """The measures at a point of a curve; bytes and evaluations are the mean of the workers."""
    iteration, rounds, up, down, evaluations, _ = point
    up, down = up / workers, down / workers
    values = (iteration, rounds, up, down, up + down, evaluations / workers, section.seconds(rounds, up, down))
    return dict(zip(MEASURES, values, strict=True))


def score(result: Result, section: CompareSection) -> float:
    """The objective at the target; infinite when it was not reached."""
    hit = at_target(result)
    return float("inf") if hit is None else measures(hit, result["workers"], section)[section.objective]


def _summary(
    recipe: Recipe,
    section: CompareSection,
    problem: Problem,
    cells: dict[str, list[Cell]],
    best: dict[str, Cell],
    results: dict[str, list[Result]],
    tuning: dict[str, list[Result]],
) -> dict[str, Any]:
    entries = []
    for job in recipe.jobs():
        label = job.label
        chosen, runs = best[label], results[label]
        tried = [
            {"step": cell.step, "share": cell.share, "reason": result["reason"], "score": _finite(score(result, section))}
            for cell, result in zip(cells[label], tuning[label], strict=True)
        ]
        entries.append(_entry(chosen, runs, section, problem) | {"grid": tried if len(tried) > 1 else []})
    reference = section.reference or _best_uncompressed(entries)
    return {
        "title": recipe.title,
        "problem": problem.name,
        "dimension": problem.dimension,
        "workers": recipe.workers,
        "merit": next(iter(results.values()))[0]["merit"],
        "target": recipe.stop.merit,
        "seeds": section.seeds,
        "compare": dataclasses.asdict(section),
        "reference": reference,
        "entries": entries,
    }


def _finite(value: float) -> float | None:
    return value if value < float("inf") else None


def _entry(cell: Cell, runs: list[Result], section: CompareSection, problem: Problem) -> dict[str, Any]:
    """One method at its best setting: medians and ranges over the seeds that arrived, and all curves."""
    hits = [measures(hit, run["workers"], section) for run in runs if (hit := at_target(run)) is not None]
    table = cell.job.to_dict()["method"]
    whole = len(hits) == len(runs)
    return {
        "label": cell.job.label,
        "method": table,
        "compressed": any(table.get(side, {}).get("name", "identity") != "identity" for side in ("up", "down")),
        "step": cell.step,
        "share": cell.share,
        "resolved": runs[0]["resolved"],
        "lipschitz_step": _times_lipschitz(runs[0]["resolved"].get("step_size"), problem),
        "reached": len(hits),
        "runs": len(runs),
        "reasons": [run["reason"] for run in runs],
        "median": {key: statistics.median(hit[key] for hit in hits) for key in MEASURES} if whole else None,
        "range": {key: [min(h[key] for h in hits), max(h[key] for h in hits)] for key in MEASURES} if hits else None,
        "start": runs[0]["start"],
        "curves": [_curve(run, section) for run in runs],
    }


def _times_lipschitz(step_size: float | None, problem: Problem) -> float | None:
    constants = problem.constants
    return None if step_size is None or constants is None else step_size * constants.lipschitz


def _curve(run: Result, section: CompareSection) -> dict[str, list[float]]:
    points = [measures(point, run["workers"], section) | {"merit": point[-1]} for point in run["curve"]]
    return {key: [float(f"{point[key]:.6g}") for point in points] for key in (*MEASURES, "merit")}


def _best_uncompressed(entries: Iterable[dict[str, Any]]) -> str:
    found = [entry for entry in entries if entry["median"] and not entry["compressed"]]
    return min(found, key=lambda entry: entry["median"]["total"])["label"] if found else ""


def read_comparison(folder: Path) -> dict[str, Any]:
    """The summary that `compare` left in a folder.

    Raises:
        DataError: there is none.
    """
    return read_json(folder / COMPARISON)
