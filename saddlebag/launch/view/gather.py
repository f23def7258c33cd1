"""What the folders of runs hold, for a page: also of runs that are under way, or were written by another release.

Nothing is built from a recipe here: it is read as a table, and what is missing stays away.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import tomllib
from typing import TYPE_CHECKING, Any

from saddlebag.errors import DataError
from saddlebag.launch.results.history import read_history
from saddlebag.launch.results.progress import PROGRESS, WAITING, read_progress, read_waiting

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = ["Curve", "gather"]

_RECIPES = ("recipe.toml", "job.toml")
_METRICS, _RESULT = "metrics.jsonl", "result.json"
_LARGEST = 8 << 20  # of a picture or a text on a page
_STUDIES = {
    "groups.csv": "a groupwise study; 'saddlebag groupwise report {folder} --html' writes its page",
    "comparison.json": "a comparison; its tables and plots are in it",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curve:
    """One method of one run.

    Attributes:
        label: unlike those of the other curves of a page.
        folder: of the method.
        title: of the run.
        result: as its driver left it; empty while it goes.
        settings: the recipe's, by their full keys.
        workers: how many share its bytes; 0 where nobody has said so yet.
        lines: of its history, in order of rounds.
        round: the last one that is known.
        waiting: for whom it waits.
        pictures: name -> PNG.
        texts: name -> rows of cells, the head first.
    """

    label: str
    folder: Path
    title: str
    result: Mapping[str, Any]
    settings: Mapping[str, str]
    workers: int
    lines: Sequence[Mapping[str, Any]]
    round: int
    waiting: str = ""
    pictures: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
    texts: Mapping[str, Sequence[Sequence[str]]] = dataclasses.field(default_factory=dict)

    @property
    def share(self) -> int:
        """What bytes are divided by, for those of one worker."""
        return self.workers or 1

    @property
    def merits(self) -> list[str]:
        """Names, that to stop on first."""
        return list(self.lines[0]["merits"]) if self.lines else list(self.result.get("merits", ()))

    @property
    def target(self) -> float | None:
        """The merit to reach, where there is one."""
        found = self.result.get("target", self.settings.get("stop.merit"))
        with contextlib.suppress(TypeError, ValueError):
            return float(found)
        return None


def gather(folders: Sequence[Path]) -> list[Curve]:
    """The curves of all folders: those of runs, of single methods, or a result.json in either.

    Raises:
        DataError: a folder holds no run.
    """
    found: list[tuple[Path, Curve]] = []
    for path in folders:
        folder = path.parent if path.name == _RESULT else path
        curves = list(_of_folder(folder))
        if not curves:
            raise DataError(_no_run(path))
        found += [(folder, curve) for curve in curves]
    labels = [curve.label for _, curve in found]
    taken: set[str] = set()
    named = []
    for folder, curve in found:
        label = curve.label if labels.count(curve.label) == 1 else f"{folder.resolve().name}/{curve.label}"
        number, free = 1, label
        while free in taken:
            number += 1
            free = f"{label} ({number})"
        taken.add(free)
        named.append(dataclasses.replace(curve, label=free))
    return named


def _no_run(path: Path) -> str:
    if not path.exists():
        return f"{path}: there is no such folder"
    for name, what in _STUDIES.items():
        if (path / name).is_file():
            return f"{path} holds {what.format(folder=path)}"
    return f"{path} holds no run: no recipe.toml with the folders of its methods, and no {_METRICS}"


def _of_folder(folder: Path) -> Iterator[Curve]:
    """The methods of a run's folder in the recipe's order, or the one of a method's."""
    recipe = _recipe(folder)
    if (folder / _METRICS).is_file():
        yield _curve(folder, recipe, folder.resolve().name)
        return
    baselines = recipe.get("baseline")
    for table in (recipe.get("method"), *(baselines if isinstance(baselines, list) else ())):
        label = table.get("label") if isinstance(table, dict) else None
        if isinstance(label, str) and label and "/" not in label and label not in (".", ".."):
            yield _curve(folder / label, {**recipe, "method": table}, label)


def _recipe(folder: Path) -> dict[str, Any]:
    for name in _RECIPES:
        with contextlib.suppress(OSError, ValueError):
            return tomllib.loads((folder / name).read_text(encoding="utf-8"))
    return {}


def _curve(folder: Path, recipe: Mapping[str, Any], label: str) -> Curve:
    result = _result(folder)
    lines = [line for line in read_history(folder / _METRICS) if _sound(line)]
    told = read_progress(folder / PROGRESS)
    rounds = max(lines[-1]["round"] if lines else 0, told.round if told else 0, _whole(result.get("rounds")))
    parts = {key: value for key, value in recipe.items() if key not in ("baseline", "title", "output")}
    return Curve(
        label=str(result.get("label", label)),
        folder=folder,
        title=str(recipe.get("title", "")),
        result=result,
        settings=dict(_flat(parts, "")) | _numbers(result),
        workers=_whole(result.get("workers")) or _whole(recipe.get("workers")),
        lines=lines,
        round=rounds,
        waiting="" if result else read_waiting(folder / WAITING),
        pictures=_pictures(folder / "pictures"),
        texts=_texts(folder / "texts"),
    )


def _result(folder: Path) -> dict[str, Any]:
    """A result as its driver left it; nothing where there is none, or something else."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads((folder / _RESULT).read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    return {}


def _whole(value: object) -> int:
    """A count, or 0 for something else."""
    return value if type(value) is int and value > 0 else 0


def _sound(line: Mapping[str, Any]) -> bool:
    """Whether a line is one of a history."""
    numbers = [line.get(key) for key in ("round", "up_bytes", "down_bytes", "elapsed_s")]
    merits = line.get("merits")
    whole = all(isinstance(number, int | float) and math.isfinite(number) for number in numbers)
    return whole and isinstance(merits, dict) and bool(merits) and all(isinstance(m, int | float) for m in merits.values())


def _flat(table: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        full = f"{path}.{key}" if path else key
        if isinstance(value, dict):
            yield from _flat(value, full)
        else:
            yield full, value if isinstance(value, str) else json.dumps(value)


def _numbers(result: Mapping[str, Any]) -> dict[str, str]:
    """What was worked out from a recipe, beside what it says."""
    found = result.get("resolved")
    return {f"found: {key}": value for key, value in _flat(found, "")} if isinstance(found, dict) else {}


def _pictures(folder: Path) -> dict[str, bytes]:
    """The newest of each picture."""
    return {path.stem: path.read_bytes() for path in _small(folder, "*.png") if not path.stem[-8:].isdecimal()}


def _texts(folder: Path) -> dict[str, list[list[str]]]:
    """Tables in Markdown, as runs write them."""
    found = {}
    for path in _small(folder, "*.md"):
        rows = [
            _cells(line) for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.startswith("|")
        ]
        if len(rows) > 2:
            found[path.stem] = [rows[0], *rows[2:]]
    return found


def _small(folder: Path, pattern: str) -> list[Path]:
    return [path for path in sorted(folder.glob(pattern)) if path.is_file() and path.stat().st_size <= _LARGEST]


def _cells(line: str) -> list[str]:
    """The cells of a row; a backslash keeps the letter after it as it is."""
    cells, letters = [""], iter(line.strip().removeprefix("|").removesuffix("|"))
    for letter in letters:
        if letter == "\\":
            cells[-1] += next(letters, "")
        elif letter == "|":
            cells.append("")
        else:
            cells[-1] += letter
    return [cell.strip() for cell in cells]
