"""Merit against bytes up, bytes down and rounds: one line for each method, named where it runs.

In the house style (`house.py`), and rates in per cent.
"""

from __future__ import annotations

import dataclasses
import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, PercentFormatter

from saddlebag.errors import DataError, reason_of
from saddlebag.launch.results.house import MARKERS, MOST, in_style, look, tidy
from saddlebag.launch.results.results import METRICS, RESULT, Line, read_json, read_lines
from saddlebag.launch.results.units import byte_unit, format_merit, is_rate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from saddlebag.algorithms.simulate import Record

__all__ = ["Curve", "draw", "plot", "read_curves"]

_DPI = 150
_FEW_POINTS = 4  # a line too short to be named on
_FLOOR = 1e-300  # a merit of exactly 0 has no logarithm


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curve:
    """The history of one method."""

    label: str
    detail: str
    title: str
    merit: str
    target: float | None
    start: float | None
    workers: int
    lines: Sequence[Line]


def read_curves(path: Path) -> list[Curve]:
    """The curves of a run's folder, of one method's folder, or of the `result.json` of either.

    Raises:
        DataError: there is no result, or its history is missing.
    """
    if not (path.is_dir() or path.name == RESULT):
        raise DataError(f"{path} is neither the folder of a run nor its {RESULT}")
    folder = path if path.is_dir() else path.parent
    values = read_json(folder / RESULT)
    if "jobs" not in values:
        return [_curve(folder, values, values.get("problem", ""))]
    folders = [folder / job["label"] for job in values["jobs"]]
    return [_curve(below, read_json(below / RESULT), values.get("title", "")) for below in folders]


def _curve(folder: Path, result: dict[str, Any], title: str) -> Curve:
    lines = read_lines(folder / METRICS)
    merit = result.get("merit") or next((name for line in lines for name in line.record.merits), "merit")
    try:
        return Curve(
            label=result["label"],
            detail=_detail(result.get("method", {})),
            title=title,
            merit=merit,
            target=result.get("target"),
            start=result["start"][merit] if "start" in result else None,
            workers=result["workers"],
            lines=lines,
        )
    except KeyError as error:
        raise DataError(f"{folder / RESULT}: no result of a run: {error} is missing") from error


def _detail(method: dict[str, Any]) -> str:
    """The compressors of a method, for the legend."""
    return ", ".join(f"{_compressor(method[side])} {side}" for side in ("up", "down") if side in method) or "uncompressed"


def _compressor(compressor: dict[str, Any]) -> str:
    fraction = compressor.get("fraction")
    return f"{compressor['name']} {fraction:.3g}" if fraction else str(compressor["name"])


def plot(results: Sequence[Path], out: Path) -> None:
    """Draw the curves of one or more results into a PNG, PDF or SVG file.

    Raises:
        DataError: a result cannot be read.
    """
    curves = _unique([curve for path in results for curve in read_curves(path)])
    figure = draw(curves)
    try:
        with in_style():
            figure.savefig(out, dpi=_DPI)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot write the plot {out}: {reason_of(error)}") from error


class _Shown(Figure):
    """A figure that notebooks show without pyplot, which nothing here uses."""

    def _repr_png_(self) -> bytes:
        with io.BytesIO() as picture:
            self.savefig(picture, format="png", dpi=_DPI / 2)
            return picture.getvalue()


def draw(curves: Sequence[Curve]) -> Figure:
    """A figure of the curves: the merit against bytes up, bytes down and rounds, a row of panels for every seven curves."""
    panels: tuple[tuple[str, Callable[[Curve, Record], float]], ...] = (
        ("up: sent by each worker", lambda curve, record: record.up_bytes / curve.workers),
        ("down: received by each worker", lambda curve, record: record.down_bytes / curve.workers),
        ("rounds", lambda curve, record: record.round),
    )
    chunks = [curves[first : first + MOST] for first in range(0, len(curves), MOST)] or [curves]
    with in_style():
        figure = _Shown(figsize=(12.5, 0.4 + 4.2 * len(chunks)), layout="constrained")
        grid = figure.subplots(len(chunks), len(panels), sharey=True, squeeze=False)
        for row, chunk in zip(grid, chunks, strict=True):
            for ax, (name, coordinate) in zip(row, panels, strict=True):
                xs = [[coordinate(curve, line.record) for line in curve.lines] for curve in chunk]
                _panel(ax, chunk, xs, name)
                if ax is row[0]:
                    _name(ax, chunk)
            row[0].set_ylabel(curves[0].merit.replace("_", " ") if curves else "merit")
            _targets(row, chunk)
        handles = [line for row in grid for line in row[0].get_lines() if not str(line.get_label()).startswith("_")]
        columns = min(len(handles), 4) or 1
        figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, handlelength=3)
        figure.suptitle(" · ".join(dict.fromkeys(curve.title for curve in curves)), fontsize=12)
    return figure


def _unique(curves: list[Curve]) -> list[Curve]:
    """Curves with different names."""
    labels = [curve.label for curve in curves]
    return [
        dataclasses.replace(curve, label=f"{curve.label} ({number})") if labels.count(curve.label) > 1 else curve
        for number, curve in enumerate(curves, 1)
    ]


def _panel(ax: Axes, curves: Sequence[Curve], xs: Sequence[Sequence[float]], name: str) -> None:
    scale, unit = (1.0, "") if name == "rounds" else byte_unit(max((x for each in xs for x in each), default=0.0))
    wide = _decade([each[-1] for each in xs if each])  # the ends tell how far the methods are apart
    for number, (curve, x) in enumerate(zip(curves, xs, strict=True)):
        start = [] if curve.start is None or wide else [curve.start]  # no bytes have no logarithm
        merits = [max(value, _FLOOR) for value in (*start, *(line.merit for line in curve.lines))]
        seen = look(number)
        ends = [value / scale for value in ([0.0] * len(start) + list(x))]
        ax.plot(ends, merits, label=f"{curve.label} ({curve.detail})", **seen)
        mark = MARKERS[number % len(MARKERS)]
        ax.plot(ends[-1:], merits[-1:], mark, color=seen["color"], markersize=6, zorder=seen["zorder"])
    _merit_axis(ax, curves)
    if wide:
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:,g}"))
    else:
        ax.set_xlim(left=0)
    ax.set_xlabel(f"{name} ({unit})" if unit else name)
    tidy(ax)


def _decade(values: Sequence[float]) -> bool:
    """Whether positive values span a decade."""
    positive = [value for value in values if 0 < value < math.inf]
    return bool(positive) and max(positive) >= 10 * min(positive)


def _merit_axis(ax: Axes, curves: Sequence[Curve]) -> None:
    """Logarithmic where the merits span a decade; a rate is in per cent."""
    values = [line.merit for curve in curves for line in curve.lines]
    if _decade([max(value, _FLOOR) for value in values]):
        ax.set_yscale("log")
    elif curves and is_rate(curves[0].merit):
        ax.yaxis.set_major_formatter(PercentFormatter(1.0))


def _targets(row: Sequence[Axes], curves: Sequence[Curve]) -> None:
    """The targets of a row of panels, written beside the last, where nothing else is."""
    for target in dict.fromkeys(curve.target for curve in curves if curve.target):
        for ax in row:
            ax.axhline(target, color="#777777", linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)
        text = f"target\n{format_merit(curves[0].merit, target)}"
        row[-1].annotate(
            text,
            (1, target),
            xycoords=("axes fraction", "data"),
            xytext=(6, 0),
            textcoords="offset points",
            color="#555555",
            fontsize=8.5,
            va="center",
            annotation_clip=False,
        )


def _name(ax: Axes, curves: Sequence[Curve]) -> None:
    """The methods' names on their lines, each at another height and away from the ends, where the markers are."""
    halo = [withStroke(linewidth=3, foreground="white")]
    left, right = ax.get_xlim()
    ax.set_xlim(left, right * 3 if ax.get_xscale() == "log" else right + 0.2 * (right - left))  # room for the last name
    for number, (curve, line) in enumerate(zip(curves, ax.get_lines()[::2], strict=True)):
        points = [(x, y) for x, y in np.asarray(line.get_xydata()).tolist() if math.isfinite(x) and math.isfinite(y)]
        if len(points) < _FEW_POINTS:
            continue
        share = 0.3 + 0.4 * (number + 0.5) / len(curves)
        place = points[int(share * (len(points) - 1))]
        ax.annotate(
            curve.label,
            place,
            xytext=(5, 4),
            textcoords="offset points",
            color=line.get_color(),
            fontsize=8.5,
            path_effects=halo,
            zorder=5,
        )
