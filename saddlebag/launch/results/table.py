"""The live table of a run and the summary after it."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import sys
import time
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

from saddlebag.algorithms.simulate import Record, Stop
from saddlebag.launch.results.progress import Pace, Progress
from saddlebag.launch.results.units import format_bytes, format_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = ["Board", "print_summary", "print_table"]

_BAR_WIDTH = 12
_WIDEST = 10_000  # characters; any table fits
_PER_SECOND = 8  # redraws
_SAY_EVERY_S = 30.0  # without a terminal
_STATES = {"waiting": "dim", "running": "cyan", "merit": "green", "diverged": "red"}
_WORDS = {"merit": "reached", "max_rounds": "round limit", "max_iterations": "iteration limit"}


@dataclasses.dataclass
class _Row:
    """What the table knows of one method."""

    label: str
    state: str = "waiting"
    start_merit: float = math.nan
    record: Record | None = None
    began_s: float = 0.0
    ended_s: float | None = None
    pace: Pace = dataclasses.field(default_factory=Pace)
    said_s: float = 0.0
    waiting: str = ""  # for whom, if for anybody
    waits_since_s: float = 0.0
    waited_said_s: float = 0.0

    @property
    def merit(self) -> float:
        return next(iter(self.record.merits.values())) if self.record else self.start_merit

    def elapsed_s(self) -> float:
        if self.state == "waiting":
            return 0.0
        return (self.ended_s or time.monotonic()) - self.began_s

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
        return "" if left_s is None else format_time(left_s)


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
        self._say(f"{label}: running")

    def observer(self, label: str) -> Callable[[Record], None]:
        """What to call with each record of a method."""
        row = self._rows[label]

        def observe(record: Record) -> None:
            row.record = record
            row.pace.tell(Progress(record.round, record.iteration))

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
        row.state, row.ended_s = result["reason"], time.monotonic()
        if row.began_s == 0.0:  # finished in an earlier run
            row.began_s = row.ended_s - result["elapsed_s"]
            row.start_merit = next(iter(result["start"].values()))
            counts = (result["rounds"], result["iterations"], result["merits"], result["up_bytes"], result["down_bytes"])
            row.record = Record(*counts)
        words = _WORDS.get(row.state, row.state)
        self._say(
            f"{label}: {words}, {self._merit} {row.merit:.1e} after {result['rounds']} rounds, {format_time(row.elapsed_s())}"
        )

    def _say(self, text: str) -> None:
        if not self._quiet and self._live is None:
            self._errors.print(escape(text), soft_wrap=True)
            sys.stderr.flush()

    def _table(self) -> Table:
        table = _new_table(self._title)
        waits = [f"{row.label}: {row.waiting}" for row in self._rows.values() if row.waiting and row.state == "running"]
        table.caption = escape("\n".join([f"merit: {self._merit}; up and down: bytes of each worker", *waits]))
        table.add_column("method", no_wrap=True)
        table.add_column("progress")
        for column in ("iteration", "rounds", "merit", "up", "down", "rounds/s", "time", "left"):
            table.add_column(column, justify="right", no_wrap=True)
        for row in self._rows.values():
            table.add_row(*self._cells(row), style=_STATES.get(row.state))
        return table

    def _cells(self, row: _Row) -> list[Any]:
        bar = ProgressBar(total=1.0, completed=self._progress(row), width=_BAR_WIDTH)
        counts, record = row.counts, row.record
        done = [f"{counts.iteration:,}", f"{counts.round:,}"] if counts else ["", ""]
        sizes = [format_bytes(size / self._workers) for size in (record.up_bytes, record.down_bytes)] if record else ["", ""]
        merit = "" if math.isnan(row.merit) else f"{row.merit:.1e}"
        seconds = "" if row.state == "waiting" else format_time(row.elapsed_s())
        return [escape(row.label), bar, *done, merit, *sizes, row.rate(), seconds, row.left(self._stop)]

    def _progress(self, row: _Row) -> float:
        """The largest part of any limit that is used up: of the way to the target on a log scale, or of the rounds."""
        if row.state not in ("waiting", "running"):
            return 1.0
        parts, stop = [0.0], self._stop
        if row.record is not None and stop.merit and 0 < row.merit < row.start_merit and stop.merit < row.start_merit:
            parts.append(math.log(row.merit / row.start_merit) / math.log(stop.merit / row.start_merit))
        if (counts := row.counts) is not None:
            limits = ((counts.round, stop.max_rounds), (counts.iteration, stop.max_iterations))
            parts += [count / limit for count, limit in limits if limit]
        return min(1.0, max(parts))


def _line(row: _Row, merit: str, stop: Stop) -> str:
    """How a running method goes, for a log."""
    counts, rate, left = row.counts, row.rate(), row.left(stop)
    parts = [f"round {counts.round:,}" if counts else "starting", f"{merit} {row.merit:.1e}"]
    parts += [f"{rate} rounds/s"] if rate else []
    return ", ".join([*parts, f"{left} left"] if left else parts)


def _new_table(title: str) -> Table:
    return Table(
        title=escape(title),
        title_justify="left",
        title_style="bold",
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )


def print_summary(values: Mapping[str, Any]) -> None:
    """The table at the end: what each method needed, and the saving; without a target also the other merits at the end."""
    target, merit, workers = values["target"], values["merit"], values["workers"]
    others = [] if target else [name for name in values["jobs"][0]["merits"] if name != merit]
    table = _new_table(values["title"])
    table.caption = escape(f"merit: {merit}; up and down: bytes of each worker" + (f" until {target:.0e}" if target else ""))
    table.add_column("method", no_wrap=True)
    for column in ("outcome", "merit", *others, "iterations", "rounds", "up", "down", "time"):
        table.add_column(escape(column), justify="right", no_wrap=True)
    for job in values["jobs"]:
        hit = job["at_target"]
        last = {**job, "iteration": job["iterations"], "round": job["rounds"], "merit": job["merits"][merit]}
        at = hit or last
        sizes = [format_bytes(at[key] / workers) for key in ("up_bytes", "down_bytes")]
        outcome = "reached" if hit else _WORDS.get(job["reason"], job["reason"])
        merits = [f"{value:.1e}" for value in (at["merit"], *(job["merits"][name] for name in others))]
        counts = (f"{at['iteration']:,}", f"{at['round']:,}")
        table.add_row(escape(job["label"]), outcome, *merits, *counts, *sizes, format_time(at["elapsed_s"]))
    console = print_table(table)
    for saved in values["savings"]:
        console.print(_saving_line(values["jobs"][0]["label"], saved, merit), soft_wrap=True)


def _saving_line(label: str, saved: Mapping[str, Any], merit: str) -> str:
    against = f"{escape(label)} against {escape(saved['baseline'])}"
    if saved["merit"] is None:
        return f"{against}: no {merit} that both reach"
    ratios = (
        f"[bold]{_ratio(saved['up'])}[/] bytes up, [bold]{_ratio(saved['down'])}[/] down, {_ratio(saved['total'])} in total"
    )
    return f"{against} to {merit} {saved['merit']:.1e}: {ratios}"


def _ratio(value: float) -> str:
    return f"{value:.1f}x fewer" if value >= 1 else f"{1 / value:.1f}x more"


def print_table(table: Table) -> Console:
    """Print a table at its full width where there is no terminal to limit it; returns the console for what follows."""
    console = Console(highlight=False)
    if not console.is_terminal:  # a file has no width
        wide = console.measure(table, options=console.options.update(max_width=_WIDEST)).maximum
        console = Console(highlight=False, width=max(console.width, wide))
    console.print(table)
    return console
