"""`saddlebag compare`: the methods of a recipe on one problem, tuned alike, over several seeds; resumable, cell by cell."""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

from saddlebag.errors import ConfigError
from saddlebag.launch.compare.cell import CUT, problem_of, read_cell, run_cell
from saddlebag.launch.compare.spec import Cell, CompareSection, grid
from saddlebag.launch.compare.summary import COMPARISON, at_target, score, summary
from saddlebag.launch.ownership import contents, owned
from saddlebag.launch.results.results import write_json
from saddlebag.proto.checkpoint import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from saddlebag.launch.recipe.recipe import Recipe

__all__ = ["compare"]

CELLS, RECIPE = "cells", "recipe.toml"

_WATCH_S = 0.5
_FALLBACKS = 2

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
        ConfigError: the recipe does not fit together, or `out` holds something else or has another owner.
        DataError: the data are missing or malformed.
    """
    if jobs < 1:
        raise ConfigError(f"jobs must be at least 1, got {jobs}")
    with owned(out, "saddlebag compare"):
        _prepare(recipe, out)
        problem = problem_of(recipe)
        cells = grid(recipe, section, problem)
        with _pool(jobs) as pool:
            runner = _Runner(section, out / CELLS, pool, jobs, progress)
            preferred = runner.tune(cells, others=section.seeds - 1)
            best, results = runner.finish(preferred, recipe.seed, section.seeds)
        values = summary(recipe, section, problem, cells, best, results, runner.tuning)
        write_json(out / COMPARISON, values)
        return values


def _prepare(recipe: Recipe, out: Path) -> None:
    """The folder may hold an earlier stage of the same comparison, or of one on the same problem: cells have digests."""
    if contents(out) and not ((out / RECIPE).is_file() and (out / CELLS).is_dir()):
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
        jobs: int,
        progress: Callable[[int, int, str], None],
    ) -> None:
        self._section, self._folder, self._pool, self._progress = section, folder, pool, progress
        self._jobs = jobs
        self._done = self._total = 0
        self.tuning: dict[str, list[Result]] = {}

    def tune(self, cells: dict[str, list[Cell]], others: int) -> dict[str, list[Cell]]:
        """The settings of each method worth all seeds: the best first, then those to fall back on, see `_preferred`."""
        self._total = sum(map(len, cells.values())) + others * len(cells)
        preferred: dict[str, list[Cell]] = {}
        for label, candidates in cells.items():
            results = self._run_all(candidates, tuning=len(candidates) > 1)
            self.tuning[label] = results
            preferred[label] = _preferred(candidates, results, self._section)
        return preferred

    def finish(
        self, preferred: dict[str, list[Cell]], first: int, seeds: int
    ) -> tuple[dict[str, Cell], dict[str, list[Result]]]:
        """The first setting of each method that arrives on every seed, or else its best one, with its results."""
        best: dict[str, Cell] = {}
        results: dict[str, list[Result]] = {}
        for label, candidates in preferred.items():
            for number, cell in enumerate(candidates):
                self._total += number and seeds
                self._done -= not number  # the first seed of the best is there already
                found = self._run_all([cell.with_seed(first + seed) for seed in range(seeds)], tuning=False)
                arrives = all(at_target(result) is not None for result in found)
                if arrives or number == 0:
                    best[label], results[label] = cell, found
                if arrives:
                    break
        return best, results

    def _run_all(self, cells: list[Cell], *, tuning: bool) -> list[Result]:
        """The results of cells; while tuning, runs end that have sent more than the best so far, or do not get under way."""
        limited = tuning and self._section.objective == "total"
        found: dict[int, Result] = {}
        budget: float | None = None
        waiting = list(range(len(cells)))
        running: dict[concurrent.futures.Future[Result], int] = {}
        while waiting or running:
            while waiting and len(running) < self._jobs:
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


def _preferred(cells: list[Cell], results: list[Result], section: CompareSection) -> list[Cell]:
    """The best cell, then steadier ones that may still arrive: more synchronisations, or one of the two next smaller steps.

    The edge of stability is sharp, so that a step that is best on one seed may diverge on another. Of equal cells, as when
    none arrives, the later one comes first: it has the smaller step.
    """
    scores = [score(result, section) for result in results]
    best = min(range(len(cells)), key=lambda number: (scores[number], -number))
    if scores[best] == float("inf"):
        return [cells[best]]
    may_arrive = [result["reason"] in ("merit", CUT) for result in results]
    more = [number for number in range(best) if cells[number].step == cells[best].step and may_arrive[number]]
    smaller = [
        number for number in range(best + 1, len(cells)) if cells[number].share == cells[best].share and may_arrive[number]
    ]
    return [cells[number] for number in (best, *more[-1:], *smaller[:_FALLBACKS])]
