"""The log of a run whose rounds are merged: who was counted in which. With it the run can be done again, to the same bits."""

from __future__ import annotations

import dataclasses
import json
import operator
from typing import TYPE_CHECKING, Any, TextIO

from saddlebag.algorithms.merging import Arrivals, Counted
from saddlebag.errors import StateError
from saddlebag.proto.ordinary import ordinary

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from types import TracebackType

__all__ = ["ARRIVALS", "ArrivalLog", "by_round", "joined_at", "read_arrivals", "stays"]

ARRIVALS = "arrivals.jsonl"
"""Its name in a run's folder; there is none where rounds wait for everybody."""


class ArrivalLog:
    """Writes the log, a line at a time.

    Args:
        path: of the file, which appears with its first line.
        upto_round: the round from which a resumed run goes on, what the file says of later ones will be done again; -1 for a
            run that begins.

    Attributes:
        joined: workers that began anew at that round, as far as the file says.
    """

    def __init__(self, path: Path, *, upto_round: int) -> None:
        self.joined: tuple[int, ...] = ()
        self._path, self._file = path, self._cut(path, upto_round) if path.exists() else None

    def _cut(self, path: Path, upto_round: int) -> TextIO | None:
        entries = {
            line: entry
            for line in ordinary(path).read_text(errors="replace").splitlines()
            if (entry := _parsed(line)) is not None
        }
        kept = [line for line, entry in entries.items() if stays(entry, upto_round)]
        self.joined = joined_at(map(entries.__getitem__, kept), upto_round)
        path.unlink()
        if not kept:
            return None
        path.write_text("\n".join(kept) + "\n")
        return path.open("a")

    def __enter__(self) -> ArrivalLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, arrivals: Arrivals) -> None:
        """Write a line at once."""
        if self._file is None:
            self._file = self._path.open("a")
        entry: dict[str, Any] = {"round": arrivals.round}
        if arrivals.joined:
            entry["joined"] = list(arrivals.joined)
        if arrivals.counted:
            entry["counted"] = [[each.worker, each.age, each.samples, each.share] for each in arrivals.counted]
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()


def _parsed(line: str) -> Arrivals | None:
    """A line: workers that have joined before a round has ended, or whom it has counted. None for what is no line."""
    names = ("worker", "age", "samples", "share")
    try:
        entry = json.loads(line)
        rows = [Counted(**dict(zip(names, map(operator.index, row), strict=True))) for row in entry.get("counted", [])]
        joined = tuple(map(operator.index, entry.get("joined", [])))
        return Arrivals(round=operator.index(entry["round"]), counted=tuple(rows), joined=joined)
    except (AttributeError, LookupError, TypeError, ValueError):
        return None


def stays(entry: Arrivals, upto_round: int) -> bool:
    """Whether a line still holds when a server goes on from a round: who began there anew has done so."""
    return entry.round < upto_round or (entry.round == upto_round and not entry.counted)


def joined_at(entries: Iterable[Arrivals], round_: int) -> tuple[int, ...]:
    """The workers that began anew at this boundary."""
    return tuple(sorted({worker for entry in entries if entry.round == round_ for worker in entry.joined}))


def by_round(entries: Iterable[Arrivals]) -> list[Arrivals]:
    """One entry a round, for `replayed`: who has joined, with those whom the round has counted."""
    found: list[Arrivals] = []
    joined: list[int] = []
    for entry in entries:
        joined += entry.joined
        if entry.counted:
            found.append(dataclasses.replace(entry, joined=tuple(joined)))
            joined = []
    return found


def read_arrivals(path: Path) -> list[Arrivals]:
    """The log of a run, one entry a round, for `saddlebag.algorithms.merging.replayed`.

    Raises:
        StateError: a line is none of such a log.
    """
    entries = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if (entry := _parsed(line)) is None:
            raise StateError(f"{path}, line {number}, is no line of a log of arrivals")
        entries.append(entry)
    return by_round(entries)
