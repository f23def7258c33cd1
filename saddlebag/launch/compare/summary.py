"""What the runs of a comparison say: measures at the target, medians and ranges over the seeds, curves."""

from __future__ import annotations

import dataclasses
import statistics
from typing import TYPE_CHECKING, Any

from saddlebag.launch.results.results import read_json

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from saddlebag.algorithms.base import Problem
    from saddlebag.launch.compare.spec import Cell, CompareSection
    from saddlebag.launch.recipe.recipe import Recipe

__all__ = ["COMPARISON", "MEASURES", "at_target", "measures", "read_comparison", "score", "summary"]

COMPARISON = "comparison.json"

MEASURES = ("iterations", "rounds", "up", "down", "total", "evaluations", "time")
"""What is measured at the target; bytes and evaluations are those of one worker in the mean, time is modelled."""

Result = dict[str, Any]


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


def summary(
    recipe: Recipe,
    section: CompareSection,
    problem: Problem,
    cells: dict[str, list[Cell]],
    best: dict[str, Cell],
    results: dict[str, list[Result]],
    tuning: dict[str, list[Result]],
) -> dict[str, Any]:
    """All that is said of a comparison: one entry for each method, in the order of the recipe."""
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
