"""The live table of a run and the summary after it."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import sys
import time
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar

from saddlebag.algorithms.simulate import Record, Stop
from saddlebag.launch.results.columns import Column, fitted, print_columns
from saddlebag.launch.results.progress import Pace, Progress
from saddlebag.launch.results.units import REASONS, format_bytes, format_merit, format_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from rich.table import Table

__all__ = ["Board", "print_summary"]

_BAR_WIDTH = 12
_PER_SECOND = 8  # redraws
_SAY_EVERY_S = 30.0  # without a terminal
_LIVE = (  # columns, what they are worth where it is narrow, and whether they begin at the left
    ("method", None, True),
    ("progress", 6, True),
    ("iteration", 1, False),
    ("rounds", 7, False),
    ("merit", None, False),
    ("up", 5, False),
    ("down", 4, False),
    ("rounds/s", 2, False),
    ("start", 0, False),
    ("time", 3, False),
    ("left", 8, False),
)
_STATES = {"waiting": "dim", "running": "cyan", "merit": "green", "diverged": "red"}


@dataclasses.dataclass
class _Row:
    """What the table knows of one method."""

    label: str
    state: str = "waiting"
    start_merit: float = math.nan
    record: Record | None = None
    began_s: float = 0.0
    times: tuple[float, float] | None = None  # until the first round, and of the rounds, of a method that has ended
    pace: Pace = dataclasses.field(default_factory=Pace)
    said_s: float = 0.0
    waiting: str = ""  # for whom, if for anybody
    waits_since_s: float = 0.0
    waited_said_s: float = 0.0

    @property
    def merit(self) -> float:
        return next(iter(self.record.merits.values())) if self.record else self.start_merit

    def seconds(self) -> tuple[float, float]:
        """Until the first round, and since."""
        if self.times is not None or self.state == "waiting":
            return self.times or (0.0, 0.0)
        now, first = time.monotonic(), self.pace.began_s
        return (now - self.began_s, 0.0) if first is None else (first - self.began_s, now - first)

    @property
    def counts(self) -> Progress | None:
        """Rounds and iterations, from the last record or from what was told since."""
        told = self.pace.progress
        seen = Progress(self.record.round, self.record.iteration) if self.record else None
        return max(filter(None, (told, seen)), default=None)

    def rate(self) -> str:
        rate = self.pace.rounds_per_s()
        return f"{rate:,.0f}" if rate and rate >= 10 else f"{rate:.2g}" if rate else ""

    def left(self, stop: Stop) -> str:
        left_s = self.pace.left_s(stop) if self.state == "running" else None
        return "" if left_s is None else f"~{format_time(left_s)}"


class Board:
    """Shows how a run goes: a live table on a terminal, a line for each method elsewhere, nothing when quiet."""

    def __init__(self, labels: Sequence[str], *, stop: Stop, workers: int, title: str, quiet: bool = False) -> None:
        self._rows = {label: _Row(label) for label in labels}
        self._stop, self._workers, self._title, self._quiet = stop, workers, title, quiet
        self._console, self._errors = Console(highlight=False), Console(stderr=True, highlight=False)
        self._live: Live | None = None
        self._merit = "merit"

    @contextlib.contextmanager
    def shown(self) -> Iterator[Board]:
        """While the run goes."""
        if self._quiet or not self._console.is_terminal:
            yield self
            return
        with Live(
            console=self._console, get_renderable=self._table, refresh_per_second=_PER_SECOND, transient=True
        ) as self._live:
            yield self
        self._live = None

    def note(self, text: str) -> None:
        """Something a person should know."""
        console = self._live.console if self._live else self._errors
        console.print(escape(text), style="yellow", soft_wrap=True)

    def tell(self, text: str) -> None:
        """Something for who watches."""
        if not self._quiet:
            self._errors.print(escape(text), style="dim", soft_wrap=True)

    def begin(self, label: str, start: Mapping[str, float]) -> None:
        """A method starts."""
        row = self._rows[label]
        self._merit, row.start_merit = next(iter(start.items()))
        row.state, row.began_s = "running", time.monotonic()
        row.said_s = row.began_s
        self._say(f"{label}: starting {self._workers} workers")

    def observer(self, label: str) -> Callable[[Record], None]:
        """What to call with each record of a method."""
        row = self._rows[label]

        def observe(record: Record) -> None:
            row.record = record
            each_bytes = (record.up_bytes + record.down_bytes) / self._workers
            row.pace.tell(Progress(record.round, record.iteration), row.merit, each_bytes)

        return observe

    def progress(self, label: str) -> Callable[[Progress], None]:
        """What to call between records; where there is no live table, a line now and then says how a long run goes."""
        row = self._rows[label]

        def tell(progress: Progress) -> None:
            row.pace.tell(progress)
            if self._live is None and time.monotonic() - row.said_s >= _SAY_EVERY_S:
                row.said_s = time.monotonic()
                self._say(f"{label}: {_line(row, self._merit, self._stop)}")

        return tell

    def waiting(self, label: str) -> Callable[[str], None]:
        """What to call with for whom a method waits, empty for nobody: it stands below the live table, or in the log."""
        row = self._rows[label]

        def tell(words: str) -> None:
            now = time.monotonic()
            if words and not row.waiting:
                row.waits_since_s, row.waited_said_s = now, 0.0
            row.waiting = words
            if words and self._live is None and now - row.waits_since_s >= row.waited_said_s:
                row.waited_said_s += _SAY_EVERY_S
                self._say(f"{label}: {words}")

        return tell

    def end(self, label: str, result: Mapping[str, Any]) -> None:
        """A method has ended."""
        row = self._rows[label]
        row.state, row.times = result["reason"], _times(result, result["elapsed_s"])
        if row.began_s == 0.0:  # finished in an earlier run
            row.start_merit = next(iter(result["start"].values()))
            counts = (result["rounds"], result["iterations"], result["merits"], result["up_bytes"], result["down_bytes"])
            row.record = Record(*counts)
        words, merit = REASONS.get(row.state, row.state), format_merit(self._merit, row.merit)
        self._say(f"{label}: {words}, {self._merit} {merit} after {result['rounds']:,} rounds, {format_time(row.times[1])}")

    def _say(self, text: str) -> None:
        if not self._quiet and self._live is None:
            self._errors.print(escape(text), soft_wrap=True)
            sys.stderr.flush()

    def _table(self) -> Table:
        rows = [*self._rows.values()]
        waits = [f"{row.label}: {row.waiting}" for row in rows if row.waiting and row.state == "running"]
        caption = escape("\n".join([f"merit: {self._merit}; up and down: bytes of each worker", *waits]))
        cells = zip(*map(self._cells, rows), strict=True)
        columns = [Column(head, [*column], worth, left=left) for (head, worth, left), column in zip(_LIVE, cells, strict=True)]
        styles = [_STATES.get(row.state) for row in rows]
        return fitted(columns, self._console.width, title=self._title, caption=caption, styles=styles)

    def _cells(self, row: _Row) -> list[Any]:
        counts, record = row.counts, row.record
        bar: Any = ProgressBar(total=1.0, completed=self._progress(row), width=_BAR_WIDTH)
        if row.state == "running" and counts is None:
            bar = f"starting {self._workers} workers"
        done = [f"{counts.iteration:,}", f"{counts.round:,}"] if counts else ["", ""]
        sizes = [format_bytes(size / self._workers) for size in (record.up_bytes, record.down_bytes)] if record else ["", ""]
        merit = "" if math.isnan(row.merit) else format_merit(self._merit, row.merit)
        seconds = ["", ""] if row.state == "waiting" else [*map(format_time, row.seconds())]
        return [escape(row.label), bar, *done, merit, *sizes, row.rate(), *seconds, row.left(self._stop)]

    def _progress(self, row: _Row) -> float:
        """The largest part of any limit that is used up: of the way to the target on a log scale, of the rounds, and so on."""
        if row.state not in ("waiting", "running"):
            return 1.0
        parts, stop = [0.0], self._stop
        if row.record is not None and stop.merit and 0 < row.merit < row.start_merit and stop.merit < row.start_merit:
            parts.append(math.log(row.merit / row.start_merit) / math.log(stop.merit / row.start_merit))
        if (counts := row.counts) is not None:
            sent = (row.record.up_bytes + row.record.down_bytes) / self._workers if row.record else 0.0
            limits = (
                (counts.round, stop.max_rounds),
                (counts.iteration, stop.max_iterations),
                (sent, stop.max_bytes),
                (row.seconds()[1], stop.max_seconds),
            )
            parts += [count / limit for count, limit in limits if limit]
        return min(1.0, max(parts))


def _line(row: _Row, merit: str, stop: Stop) -> str:
    """How a running method goes, for a log."""
    counts, rate, left = row.counts, row.rate(), row.left(stop)
    parts = [f"round {counts.round:,}" if counts else "starting", f"{merit} {format_merit(merit, row.merit)}"]
    parts += [f"{rate} rounds/s"] if rate else []
    return ", ".join([*parts, f"{left} left"] if left else parts)


def _times(job: Mapping[str, Any], elapsed_s: float) -> tuple[float, float]:
    """Seconds until the first round, and of the rounds, of a result and a time since its begin."""
    start_s = min(job.get("start_s") or 0.0, elapsed_s)
    return start_s, elapsed_s - start_s


def print_summary(values: Mapping[str, Any]) -> None:
    """The table at the end: what each method needed, and the saving; without a target also the other merits at the end."""
    target, merit, workers, jobs = values["target"], values["merit"], values["workers"], values["jobs"]
    others = [] if target else [name for name in jobs[0]["merits"] if name != merit]
    ends = [
        job["at_target"] or {**job, "iteration": job["iterations"], "round": job["rounds"], "merit": job["merits"][merit]}
        for job in jobs
    ]
    times = [_times(job, at["elapsed_s"]) for job, at in zip(jobs, ends, strict=True)]
    outcomes = ["reached" if job["at_target"] else REASONS.get(job["reason"], job["reason"]) for job in jobs]
    columns = [
        Column("method", [escape(job["label"]) for job in jobs], left=True),
        Column("outcome", outcomes, 5),
        Column("merit", [format_merit(merit, at["merit"]) for at in ends]),
        *(Column(name, [format_merit(name, job["merits"][name]) for job in jobs], 3) for name in others),
        Column("iterations", [f"{at['iteration']:,}" for at in ends], 2),
        Column("rounds", [f"{at['round']:,}" for at in ends], 6),
        *(Column(side, [format_bytes(at[f"{side}_bytes"] / workers) for at in ends], 7) for side in ("up", "down")),
        Column("time", [format_time(rounds_s) for _, rounds_s in times], 4),
        Column("start", [format_time(start_s) if start_s else "" for start_s, _ in times], 1),
    ]
    about = f"merit: {merit}; up and down: bytes of each worker" + (f" until {target:.0e}" if target else "")
    print_columns(columns, title=values["title"], caption=escape(about))
    if values["savings"]:
        _print_savings(jobs[0]["label"], merit, values["savings"])


def _print_savings(label: str, merit: str, savings: Sequence[Mapping[str, Any]]) -> None:
    """How many times fewer bytes the method needs than each baseline."""
    goals = [format_merit(merit, saved["merit"]) if saved["merit"] else f"no {merit} that both reach" for saved in savings]
    columns = [
        Column(f"{label} against", [escape(saved["baseline"]) for saved in savings], left=True),
        Column(f"to {merit}", goals, 0),
        *(
            Column(side, [_ratio(saved[side]) if saved["merit"] else "" for saved in savings], worth)
            for side, worth in (("up", 1), ("down", 2), ("total", None))
        ),
    ]
    print_columns(columns)


def _ratio(value: float) -> str:
    return f"{value:.1f}x fewer" if value >= 1 else f"{1 / value:.1f}x more"
