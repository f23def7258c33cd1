"""How far a run is between evaluations, which are rare where they are dear: told now and then, through a file if need be."""

from __future__ import annotations

import contextlib
import json
import math
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from saddlebag.algorithms.simulate import Stop

__all__ = [
    "PROGRESS",
    "WAITING",
    "Pace",
    "Progress",
    "read_progress",
    "read_waiting",
    "throttled",
    "write_progress",
    "write_waiting",
]

PROGRESS, WAITING = "progress.json", "waiting.txt"
"""Where a server says how far it is, and for whom it waits, in its folder."""


_MOST_MERITS = 128  # that a slope is taken from
_FEW_MERITS = 4


class Progress(NamedTuple):
    """Rounds and iterations done."""

    round: int
    iteration: int


def throttled(tell: Callable[[Progress], None], every_s: float = 0.5) -> Callable[[Progress], None]:
    """`tell`, at most once in so many seconds."""
    last = -math.inf

    def maybe(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= every_s:
            last = now
            tell(progress)

    return maybe


def write_progress(path: Path, progress: Progress) -> None:
    """Replace the file: a reader sees the old or the new one. Nothing waits for the disk: after a crash there may be none."""
    temporary = path.with_name(f".{path.name}.tmp")
    with contextlib.suppress(OSError):  # a full disk is the checkpoint's business
        temporary.write_text(json.dumps(progress._asdict()))
        temporary.replace(path)


def read_progress(path: Path) -> Progress | None:
    """What the file says; None without one."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        return Progress(**json.loads(path.read_text()))
    return None


def write_waiting(path: Path, words: str) -> None:
    """Say for whom a round waits; an empty line says that it does no longer."""
    temporary = path.with_name(f".{path.name}.tmp")
    with contextlib.suppress(OSError):
        temporary.write_text(words)
        temporary.replace(path)


def read_waiting(path: Path) -> str:
    """What the file says; empty without one."""
    with contextlib.suppress(OSError, ValueError):
        return path.read_text()
    return ""


class Pace:
    """Rounds a second and the time that is left, from what is told; the first word is the start of the clock."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._now = clock or (lambda: time.monotonic())
        self._first: tuple[Progress, float] | None = None
        self._last: tuple[Progress, float] | None = None
        self._merits: list[tuple[float, float]] = []  # rounds, and the logarithm of the first merit there
        self._bytes = (0, 0.0)  # rounds, and the bytes of a worker until there

    @property
    def progress(self) -> Progress | None:
        """The last word."""
        return self._last[0] if self._last else None

    @property
    def began_s(self) -> float | None:
        """When the first word came, by the clock."""
        return self._first[1] if self._first else None

    def tell(self, progress: Progress, merit: float | None = None, num_bytes: float = 0.0) -> None:
        """Hear how far the run is; what is no news, or is computed again after a crash, is passed over.

        Args:
            progress: rounds and iterations done.
            merit: the first one there, if it was due.
            num_bytes: of a worker, both ways, where they are known.
        """
        if self._last is None or progress.round > self._last[0].round:
            self._last = (progress, self._now())
            self._first = self._first or self._last
        if num_bytes:
            self._bytes = (progress.round, num_bytes)
        if merit is not None and 0 < merit < math.inf and (not self._merits or progress.round > self._merits[-1][0]):
            self._merits.append((progress.round, math.log(merit)))
            if len(self._merits) > _MOST_MERITS:  # means of two say as much
                pairs = zip(self._merits[::2], self._merits[1::2], strict=False)
                self._merits = [((first[0] + second[0]) / 2, (first[1] + second[1]) / 2) for first, second in pairs]

    def rounds_per_s(self) -> float | None:
        """Up to the last word; None before two."""
        return self._rate("round")

    def left_s(self, stop: Stop) -> float | None:
        """Seconds to the end as it looks now; None where nobody can tell.

        That is the first limit on rounds, iterations, bytes or seconds, at the pace so far, or the target, on the line through
        the merit's logarithm over the later half of the rounds. A merit that does not fall has no such line, and the limits,
        which may be hours away or never come, are not told in its place.
        """
        found = list(self._to_limits(stop))
        if stop.merit is not None:
            rounds, pace = self._rounds_to(stop.merit), self._rate("round")
            if rounds is None or not pace:
                return None
            found.append(rounds / pace)
        if not found or self._last is None:
            return None
        return max(0.0, min(found) - (self._now() - self._last[1]))

    def _to_limits(self, stop: Stop) -> Iterator[float]:
        """Seconds from the last word to each limit but the merit."""
        if self._last is None or self._first is None:
            return
        for unit, limit in (("round", stop.max_rounds), ("iteration", stop.max_iterations)):
            rate = self._rate(unit)
            if limit is not None and rate:
                yield (limit - getattr(self._last[0], unit)) / rate
        rounds, num_bytes = self._bytes
        pace = self._rate("round")
        if stop.max_bytes is not None and num_bytes and pace:
            yield (stop.max_bytes * rounds / num_bytes - self._last[0].round) / pace
        if stop.max_seconds is not None:
            yield stop.max_seconds - (self._last[1] - self._first[1])

    def _rounds_to(self, target: float) -> float | None:
        """Rounds from the last word until the merit is there, by least squares; None if it does not fall."""
        known = self._merits
        later = known[len(known) // 2 :] if len(known) > _FEW_MERITS else known
        if len(later) < 2 or self._last is None:
            return None
        middle, height = sum(rounds for rounds, _ in later) / len(later), sum(log for _, log in later) / len(later)
        moved = sum((rounds - middle) * (log - height) for rounds, log in later)
        slope = moved / sum((rounds - middle) * (rounds - middle) for rounds, _ in later)
        if not slope < 0:
            return None
        there: float = middle + (math.log(target) - height) / slope
        return max(0.0, there - self._last[0].round)

    def _rate(self, unit: str) -> float | None:
        if self._first is None or self._last is None:
            return None
        count = getattr(self._last[0], unit) - getattr(self._first[0], unit)
        seconds = self._last[1] - self._first[1]
        return count / seconds if count and seconds > 0 else None
