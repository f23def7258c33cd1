"""What a run leaves behind: its history line by line, a result for each method, and the saving against each baseline."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, NamedTuple

from saddlebag.algorithms.simulate import Record
from saddlebag.errors import DataError, reason_of
from saddlebag.launch.build import resolved_json
from saddlebag.launch.results.history import read_history
from saddlebag.proto.checkpoint import write_atomically
from saddlebag.proto.ordinary import ordinary

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from saddlebag.algorithms.base import Problem
    from saddlebag.launch.recipe.recipe import Recipe

__all__ = [
    "METRICS",
    "RESULT",
    "Line",
    "job_result",
    "read_json",
    "read_lines",
    "saving",
    "summary",
    "write_json",
]

METRICS, RESULT = "metrics.jsonl", "result.json"


class Line(NamedTuple):
    """A record and the seconds since the run began."""

    record: Record
    elapsed_s: float

    @property
    def merit(self) -> float:
        """The first merit: the one to stop on."""
        return next(iter(self.record.merits.values()))


def read_lines(path: Path) -> list[Line]:
    """The history that `History` wrote.

    Raises:
        DataError: the file is missing, or holds something else.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; the run has not started, or was moved")
    lines = []
    for values in read_history(path):
        try:
            elapsed_s = float(values.pop("elapsed_s"))
            values.pop("evaluate_s", None)
            lines.append(Line(Record(**values), elapsed_s))
        except (TypeError, ValueError, KeyError) as error:
            raise DataError(f"{path}: no history of a run: {error}") from error
    return lines


def _read(path: Path) -> str:
    try:
        return ordinary(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {reason_of(error)}") from error


def read_json(path: Path) -> dict[str, Any]:
    """A result file.

    Raises:
        DataError: it is missing or no JSON object.
    """
    text = _read(path)
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: no JSON: {error}") from error
    if not isinstance(values, dict):
        raise DataError(f"{path}: no result of a run")
    return values


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a result file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(values, indent=2) + "\n").encode())


def reach(lines: Iterable[Line], merit: float) -> Line | None:
    """The first line with a merit at most this."""
    return next((line for line in lines if line.merit <= merit), None)


def job_result(
    resolved: Recipe, digest: str, problem: Problem, start: Mapping[str, float], facts: Mapping[str, Any], lines: Sequence[Line]
) -> dict[str, Any]:
    """The result of one method.

    Args:
        resolved: recipe of one job, with numbers for step sizes.
        digest: of the recipe as written.
        problem: that was solved.
        start: merits at z^0.
        facts: what the driver found: reason, rounds, iterations, up_bytes, down_bytes (summed over the workers), and more.
        lines: the history.
    """
    target = resolved.stop.merit
    hit = reach(lines, target) if target is not None else None
    return {
        **facts,
        "label": resolved.label,
        "method": resolved.to_dict()["method"],
        "resolved": json.loads(resolved_json(resolved)),
        "problem": problem.name,
        "dimension": problem.dimension,
        "workers": resolved.workers,
        "seed": resolved.seed,
        "driver": resolved.driver,
        "recipe_digest": digest,
        "merit": next(iter(start)),
        "target": target,
        "start": dict(start),
        "merits": dict(lines[-1].record.merits) if lines else dict(start),
        "each_worker": {key: facts[key] / resolved.workers for key in ("up_bytes", "down_bytes")},
        "at_target": _facts_of(hit) if hit else None,
        "elapsed_s": round(lines[-1].elapsed_s, 3) if lines else 0.0,
        "start_s": round(facts.get("start_s", 0.0), 3),
        "rounds_per_s": _rate(lines),
    }


def _rate(lines: Sequence[Line]) -> float | None:
    """Rounds per second between the first record and the last: without the start of the processes."""
    if len(lines) < 2 or lines[-1].elapsed_s <= lines[0].elapsed_s:
        return None
    return round((lines[-1].record.round - lines[0].record.round) / (lines[-1].elapsed_s - lines[0].elapsed_s), 1)


def _facts_of(line: Line) -> dict[str, Any]:
    record = line.record
    counts = {key: getattr(record, key) for key in ("round", "iteration", "up_bytes", "down_bytes")}
    return {**counts, "merit": line.merit, "elapsed_s": round(line.elapsed_s, 3)}


def saving(main: Sequence[Line], baseline: Sequence[Line], *, start: float, target: float | None) -> dict[str, float] | None:
    """How many times more the baseline needs to get to the same merit: bytes up, down, in total, and rounds.

    The merit is the target where both reach it, else the best that both reach; None when one never gets below `start`.
    """
    bests = [min((line.merit for line in lines if math.isfinite(line.merit)), default=math.inf) for lines in (main, baseline)]
    merit = max(*bests, target or 0.0)
    if not merit < start:
        return None
    ours, theirs = reach(main, merit), reach(baseline, merit)
    if ours is None or theirs is None:
        return None
    a, b = ours.record, theirs.record
    return {
        "merit": merit,
        "up": b.up_bytes / a.up_bytes,
        "down": b.down_bytes / a.down_bytes,
        "total": (b.up_bytes + b.down_bytes) / (a.up_bytes + a.down_bytes),
        "rounds": b.round / a.round,
    }


_SUMMARISED = (
    "label",
    "reason",
    "rounds",
    "iterations",
    "merits",
    "up_bytes",
    "down_bytes",
    "each_worker",
    "at_target",
    "elapsed_s",
    "start_s",
    "rounds_per_s",
    "digest",
)


def summary(recipe: Recipe, results: Sequence[Mapping[str, Any]], histories: Sequence[Sequence[Line]]) -> dict[str, Any]:
    """The results of all methods of a recipe, the main one first, and its saving against each baseline."""
    first, target = results[0], recipe.stop.merit
    start = first["start"][first["merit"]]
    common = {key: first.get(key) for key in ("problem", "dimension", "workers", "seed", "driver", "merit", "target")}
    return {
        "title": recipe.title or first["problem"],
        **common,
        "jobs": [{key: result.get(key) for key in _SUMMARISED} for result in results],
        "savings": [
            {"baseline": result["label"], **(saving(histories[0], history, start=start, target=target) or {"merit": None})}
            for result, history in zip(results[1:], histories[1:], strict=True)
        ],
    }
