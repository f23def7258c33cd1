"""Error against bits per coordinate for all compressors on one vector, with the best of them joined by a line."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from saddlebag.compression import Draws, Unbiased
from saddlebag.errors import DataError, SaddlebagError
from saddlebag.launch.examples import settings_of
from saddlebag.launch.measure import SEED, family_of, squared_errors
from saddlebag.launch.plot import PALETTE
from saddlebag.launch.plugins import REGISTRIES, load_plugins

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from saddlebag.compression import Compressor, Vector

__all__ = ["Point", "frontier", "plot_tradeoff", "points_of"]

_MARKERS = "osD^v<>PXp*hd8"
_DRAWS = 3  # the error of a random compressor hardly varies where d is large
_EXACT = 1e-6  # relative; below it a vector has only been rounded to float32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """One compressor with one setting: bits per coordinate as encoded, and |C(x) - x| / |x|, root mean square."""

    name: str
    table: Mapping[str, Any]
    family: str
    unbiased: bool
    bits: float
    error: float


def points_of(x_D: Vector, also: Sequence[tuple[str, Mapping[str, Any]]] = ()) -> list[Point]:
    """Every registered compressor at every example setting that fits the vector, and those in `also`."""
    load_plugins()
    asked: list[tuple[str, Mapping[str, Any]]] = [
        (name, table) for name in sorted(REGISTRIES["compressors"]) for table in settings_of(name)
    ]
    asked += [each for each in also if each not in asked]
    points = []
    for name, table in asked:
        try:
            points.append(_point(name, table, REGISTRIES["compressors"][name](**table), x_D))
        except SaddlebagError:  # it does not fit this dimension
            continue
    return points


def _point(name: str, table: Mapping[str, Any], compressor: Compressor, x_D: Vector) -> Point:
    errors, sizes = squared_errors(compressor, x_D, _DRAWS)
    family = family_of(compressor.encode(x_D, Draws(SEED, 0, 0)))
    error = math.sqrt(sum(errors) / len(errors))
    bits = 8.0 * sum(sizes) / len(sizes) / len(x_D)
    return Point(name=name, table=table, family=family, unbiased=isinstance(compressor, Unbiased), bits=bits, error=error)


def frontier(points: Iterable[Point]) -> list[Point]:
    """The points that no other one beats in both bits and error, by increasing bits."""
    best: list[Point] = []
    for point in sorted(points, key=lambda point: (point.bits, point.error)):
        if not best or point.error < best[-1].error:
            best.append(point)
    return best


def plot_tradeoff(x_D: Vector, out: Path, *, what: str, mark: tuple[str, Mapping[str, Any]] | None = None) -> list[Point]:
    """Draw the points into a PNG, PDF or SVG file and return them; `mark` is added and ringed.

    Raises:
        DataError: the file cannot be written.
    """
    points = points_of(x_D, [mark] if mark else [])
    drawn = [point for point in points if point.error > _EXACT]
    with mpl.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(11, 6.6), layout="constrained")
        ax: Axes = figure.subplots()
        _draw(ax, drawn)
        _decorate(ax, drawn, [point for point in points if point.error <= _EXACT])
        for point in drawn:
            if mark and (point.name, point.table) == mark:
                ax.plot(point.bits, point.error, "o", markersize=17, fillstyle="none", color="#222222", zorder=5)
        ax.set_title(f"What a bit buys: every compressor on {what}, d = {len(x_D):,}", loc="left", fontsize=12)
        try:
            figure.savefig(out, dpi=150)
        except (OSError, ValueError) as error:
            raise DataError(f"cannot write the plot {out}: {getattr(error, 'strerror', None) or error}") from error
    return points


def _draw(ax: Axes, points: Sequence[Point]) -> None:
    families = list(dict.fromkeys(point.family for point in sorted(points, key=lambda point: point.family)))
    names = list(dict.fromkeys(point.name for point in points))
    handles: list[Any] = []
    for number, family in enumerate(families):
        color = PALETTE[number % len(PALETTE)]
        handles.append(Line2D([], [], linestyle="none", label=f"$\\bf{{{family.replace(' ', chr(92) + ' ')}}}$"))
        present = [name for name in names if any((p.name, p.family) == (name, family) for p in points)]
        for place, name in enumerate(present):
            mine = sorted((p for p in points if (p.name, p.family) == (name, family)), key=lambda p: p.bits)
            if mine:
                style: dict[str, Any] = {"marker": _MARKERS[place % len(_MARKERS)], "markersize": 6.5}
                style |= {"markerfacecolor": "white"} if mine[0].unbiased else {}
                (line,) = ax.plot(
                    [p.bits for p in mine], [p.error for p in mine], color=color, linewidth=0.9, label=name, **style
                )
                handles.append(line)
    best = frontier(points)
    (line,) = ax.step(
        [p.bits for p in best], [p.error for p in best], where="post", color="#222222", linewidth=5, alpha=0.18, zorder=1
    )
    line.set_label("best: fewer bits mean more error")
    hollow = Line2D([], [], linestyle="none", marker="o", color="#222222", markerfacecolor="white", label="hollow: unbiased")
    ax.legend(handles=[*handles, hollow, line], loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9)


def _decorate(ax: Axes, points: Sequence[Point], exact: Sequence[Point]) -> None:
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("bits per coordinate, of the encoded message")
    ax.set_ylabel("relative error  |C(x) - x| / |x|")
    ax.grid(True, which="major", color="#e6e6e6", linewidth=0.8)
    ax.set_axisbelow(True)
    if points:
        ax.axhline(1.0, color="#999999", linewidth=0.9, linestyle=(0, (2, 2)), zorder=0)
        ax.annotate(
            "error of sending nothing",
            (0.005, 1.0),
            xycoords=("axes fraction", "data"),
            fontsize=8.5,
            color="#555555",
            va="bottom",
            textcoords="offset points",
            xytext=(0, 2),
        )
    for bits in dict.fromkeys(round(point.bits, 1) for point in exact):
        names = ", ".join(point.name for point in exact if round(point.bits, 1) == bits)
        ax.axvline(bits, color="#999999", linewidth=0.9, linestyle=(0, (2, 2)), zorder=0)
        ax.annotate(
            f"{names}: exact",
            (bits, 0.02),
            xycoords=("data", "axes fraction"),
            fontsize=8.5,
            color="#555555",
            rotation=90,
            ha="right",
            va="bottom",
            textcoords="offset points",
            xytext=(-2, 0),
        )
