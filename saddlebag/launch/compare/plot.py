"""The plot of a comparison: merit against everything that may be scarce, one line for each method.

Both axes are logarithmic: the distance between two lines is the factor between them, wherever one reads it.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from saddlebag.errors import DataError, reason_of
from saddlebag.launch.compare.table import ranked, setting
from saddlebag.launch.results.house import MARKERS, MOST, in_style, look, name_beside, tidy
from saddlebag.launch.results.units import byte_unit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

__all__ = ["plot_comparison"]

_PANELS = (
    ("total", "bytes of each worker, both directions"),
    ("up", "bytes up"),
    ("down", "bytes down"),
    ("rounds", "rounds"),
    ("evaluations", "operator evaluations of each worker"),
    ("time", "modelled time of communication (s)"),
)
_BYTES = ("total", "up", "down")
_MAIN = "main"  # the line of a method that its name belongs to
_DPI = 110
_FLOOR = 1e-300  # a merit of exactly 0 has no logarithm
_DECADES = 1.7  # of the axis left of the first arrival


def plot_comparison(values: Mapping[str, Any], out: Path) -> None:
    """Draw a comparison into a PNG, PDF or SVG file: the median seed of each method in full, the others faintly.

    Raises:
        DataError: the file cannot be written.
    """
    entries = ranked(values)
    chunks = [entries[first : first + MOST] for first in range(0, len(entries), MOST)] or [entries]
    with in_style(9.5):
        figure = Figure(figsize=(13.5, (6.4 + 0.5) * len(chunks) + 0.6), layout="constrained")
        parts = figure.subfigures(len(chunks), 1, squeeze=False)[:, 0]
        for part, chunk in zip(parts, chunks, strict=True):
            _part(part, values, chunk)
        where = f"{values['problem']}, D = {values['dimension']}, {values['workers']} workers"
        title = values["title"]
        figure.suptitle(f"{title}\n{where}" if title else where, fontsize=11.5)
        try:
            figure.savefig(out, dpi=_DPI)
        except (OSError, ValueError) as error:
            raise DataError(f"cannot write the plot {out}: {reason_of(error)}") from error


def _part(part: SubFigure, values: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> None:
    """The six panels of seven methods at most, those that arrive first in the first part."""
    axes = part.subplots(2, 3, sharey=True)
    for ax, (key, name) in zip(axes.flat, _PANELS, strict=True):
        _panel(ax, values, entries, key, name)
    for row in axes:
        row[0].set_ylabel(values["merit"].replace("_", " "))
        last = row[-1].get_lines()
        ends = [(line.get_label(), line.get_color(), line.get_xydata()[-1]) for line in last if line.get_gid() == _MAIN]
        name_beside(row[-1], [(str(name).partition(" (")[0], color, tuple(end)) for name, color, end in ends])
    handles, labels = axes.flat[0].get_legend_handles_labels()
    part.legend(handles, labels, loc="outside lower center", ncols=2 if len(labels) > 3 else 1, frameon=False, handlelength=3.2)


def _panel(ax: Axes, values: Mapping[str, Any], entries: Sequence[Mapping[str, Any]], key: str, name: str) -> None:
    ends = [curve[key][-1] for entry in entries for curve in entry["curves"] if curve[key]]
    scale, unit = byte_unit(max(ends, default=1.0)) if key in _BYTES else (1.0, "")
    for number, entry in enumerate(entries):
        _draw(ax, entry, key, number, scale)
    arrivals = [entry["range"][key][0] for entry in entries if entry["range"]]
    if arrivals:
        ax.set_xlim(left=max(min(arrivals) * 10**-_DECADES, 1e-12) / scale)
    ax.set_xscale("log")
    ax.set_yscale("log")
    merits = [curve["merit"] for entry in entries for curve in entry["curves"]]
    top = 4 * max((entry["start"] for entry in entries), default=1.0)  # what diverges leaves the picture
    low = min((value for merit in merits for value in merit if value > 0), default=values["target"])
    ax.set_ylim(0.5 * min(values["target"], max(low, 1e-3 * values["target"])), top)
    ax.set_xlabel(f"{name} ({unit})" if unit else name)
    ax.xaxis.set_minor_locator(LogLocator(subs=range(2, 10)))
    ax.xaxis.set_minor_formatter(NullFormatter())
    tidy(ax, values["target"])


def _draw(ax: Axes, entry: Mapping[str, Any], key: str, number: int, scale: float) -> None:
    seen, main = look(number), _median_run(entry)
    for run, curve in enumerate(entry["curves"]):
        x = [value / scale for value in curve[key]]
        y = [max(value, _FLOOR) for value in curve["merit"]]
        if run != main:
            ax.plot(x, y, color=seen["color"], linestyle=seen["linestyle"], linewidth=0.6, alpha=0.35, zorder=1.5)
            continue
        label = f"{entry['label']} ({setting(entry['method'])})" + (
            "" if entry["median"] else f", arrives {entry['reached']} of {entry['runs']} times"
        )
        ax.plot(x, y, label=label, gid=_MAIN, **seen)
        if entry["reasons"][run] == "merit":
            ax.plot(x[-1:], y[-1:], MARKERS[number % len(MARKERS)], color=seen["color"], markersize=5, zorder=5)


def _median_run(entry: Mapping[str, Any]) -> int:
    """The run whose total is nearest to the median of those that arrived; the first when none did."""
    arrived = [number for number, reason in enumerate(entry["reasons"]) if reason == "merit"]
    if not arrived:
        return 0
    totals = {number: entry["curves"][number]["total"][-1] for number in arrived}
    middle = statistics.median(totals.values())
    return min(arrived, key=lambda number: abs(totals[number] - middle))
