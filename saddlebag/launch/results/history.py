"""The history of a run: one JSON line for each evaluation of its merits, written by one process, followed by another."""

from __future__ import annotations

import json
import math
import time
from typing import TYPE_CHECKING, Any

from saddlebag.algorithms import Record
from saddlebag.proto.checkpoint import require_in_place, write_atomically, writing
from saddlebag.proto.ordinary import ordinary

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

__all__ = ["Follower", "History", "read_history"]

_SECONDS = ("elapsed_s", "evaluate_s")


def read_history(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a history; a last line that a crash cut short is left out."""
    if not path.exists():
        return []
    return list(_parse(ordinary(path).read_bytes()))


def _parse(data: bytes) -> Iterator[dict[str, Any]]:
    for line in data.split(b"\n"):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and _sound(value):
            yield value


def _sound(line: dict[str, Any]) -> bool:
    """Whether a line says of which round it is, and times that are some."""
    seconds = (line.get(key, 0.0) for key in _SECONDS)
    return type(line.get("round")) is int and all(type(each) in (int, float) and math.isfinite(each) for each in seconds)


class History:
    """Appends records to a file; on resuming, drops those of rounds that will be computed again.

    Raises:
        StateError: the file cannot be written.
    """

    def __init__(self, path: Path, *, upto_round: int = 0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        kept = [line for line in read_history(path) if line["round"] <= upto_round]
        write_atomically(path, b"".join(json.dumps(line).encode() + b"\n" for line in kept))
        self._before_s, self._before_evaluate_s = (kept[-1].get(key, 0.0) if kept else 0.0 for key in _SECONDS)
        self._begin = time.monotonic()
        self._file = path.open("a", buffering=1)

    def __enter__(self) -> History:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with writing(self._path):  # what a full disk did not take is tried once more
            self._file.close()

    def write(self, record: Record, evaluate_s: float | None = None) -> float:
        """Append a record with the seconds of work so far, those before a resumption included; returns them.

        `evaluate_s` of them, where a driver counts those, went to evaluating merits while the workers waited.

        Raises:
            StateError: the disk does not take it, or somebody has removed the file; what stands there in part of a line is no
                record to `read_history`.
        """
        elapsed_s = round(self._before_s + time.monotonic() - self._begin, 6)
        line = {
            "round": record.round,
            "iteration": record.iteration,
            "merits": dict(record.merits),
            "up_bytes": record.up_bytes,
            "down_bytes": record.down_bytes,
            "elapsed_s": elapsed_s,
        }
        if evaluate_s is not None:
            line["evaluate_s"] = round(self._before_evaluate_s + evaluate_s, 6)
        with writing(self._path):
            self._file.write(json.dumps(line) + "\n")
            require_in_place(self._file.fileno(), self._path)
        return elapsed_s


class Follower:
    """Reads what another process appends."""

    def __init__(self, path: Path) -> None:
        self._path, self._at, self._round = path, 0, 0

    def new(self) -> list[Record]:
        """The records since the last call; rounds that are computed again after a crash come once."""
        try:
            with self._path.open("rb") as file:
                if file.seek(0, 2) < self._at:  # rewritten by a server that resumed
                    self._at = 0
                file.seek(self._at)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._at += len(whole)
        records = [
            Record(v["round"], v["iteration"], v["merits"], v["up_bytes"], v["down_bytes"])
            for v in _parse(whole)
            if v["round"] > self._round
        ]
        if records:
            self._round = records[-1].round
        return records
