"""Error, and what is kept, against bits per coordinate for all compressors on one vector; the best are underlined."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from saddlebag.compression import Draws, Unbiased
from saddlebag.errors import DataError, SaddlebagError, reason_of
from saddlebag.launch.advice.examples import CHOICES, settings_of
from saddlebag.launch.advice.measure import SEED, family_of, squared_errors
from saddlebag.launch.recipe.plugins import REGISTRIES, load_plugins
from saddlebag.launch.results.house import PALETTE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from saddlebag.compression import Compressor, Vector

__all__ = ["Point", "frontier", "plot_tradeoff", "points_of"]

_MARKERS = "osD^v<>PXp*hd8"
_DRAWS = 3  # the error of a random compressor hardly varies where d is large,
_MANY_DRAWS = 60  # but for one that sends all or nothing
_VARIES = 0.05  # relative; of the sizes
_BEST: dict[str, Any] = {"color": "#222222", "linewidth": 6, "alpha": 0.16}
_BEST_LABEL = "no other has fewer bits and less error"
_EMPTY_BYTES = 8  # a message of nothing
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

    @property
    def kept(self) -> float:
        """1 - |C(x) - x|^2 / |x|^2; not positive for one that adds more noise than it keeps."""
        return 1.0 - self.error**2


def points_of(x_D: Vector, also: Sequence[tuple[str, Mapping[str, Any]]] = ()) -> list[Point]:
    """Every registered compressor at every example setting that fits the vector, and those in `also`."""
    load_plugins()
    names = sorted(REGISTRIES["compressors"].keys() - CHOICES)
    asked: list[tuple[str, Mapping[str, Any]]] = [(name, table) for name in names for table in settings_of(name)]
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
    if max(sizes) > (1 + _VARIES) * min(sizes) or (isinstance(compressor, Unbiased) and max(sizes) <= _EMPTY_BYTES):
        errors, sizes = squared_errors(compressor, x_D, _MANY_DRAWS)
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
    nothing = 8.0 * _EMPTY_BYTES / len(x_D)
    drawn = [point for point in points if point.error > _EXACT and point.bits > nothing]
    with mpl.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(14, 6.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        styles = _styles(drawn)
        _draw(left, drawn, lambda point: point.error, styles, mark)
        _draw(right, [point for point in drawn if point.kept > 0], lambda point: point.kept, styles, mark)
        left.set_ylabel("relative error  |C(x) - x| / |x|")
        right.set_ylabel("kept  1 - |C(x) - x|$^2$ / |x|$^2$")
        _annotate(left, [point for point in points if point.error <= _EXACT])
        figure.legend(handles=_legend(styles), loc="outside right center", frameon=False, fontsize=9)
        figure.suptitle(f"What a bit buys: every compressor on {what}, d = {len(x_D):,}", fontsize=12)
        try:
            figure.savefig(out, dpi=150)
        except (OSError, ValueError) as error:
            raise DataError(f"cannot write the plot {out}: {reason_of(error)}") from error
    return points


def _styles(points: Sequence[Point]) -> dict[str, dict[str, Any]]:
    """Name -> how it is drawn: colour by family, marker within it, hollow where unbiased. A name goes by its first family."""
    family: dict[str, str] = {}
    for point in points:
        family.setdefault(point.name, point.family)
    unbiased = {point.name for point in points if point.unbiased}
    styles: dict[str, dict[str, Any]] = {}
    for number, group in enumerate(sorted(set(family.values()))):
        names = sorted(name for name in family if family[name] == group)
        for place, name in enumerate(names):
            styles[name] = {"marker": _MARKERS[place % len(_MARKERS)], "color": PALETTE[number % len(PALETTE)]}
            styles[name] |= {"markersize": 6.5, "linewidth": 0.9, "label": name, "group": group}
            styles[name] |= {"markerfacecolor": "white"} if name in unbiased else {}
    return styles


def _legend(styles: Mapping[str, dict[str, Any]]) -> list[Line2D]:
    handles: list[Line2D] = []
    for group in dict.fromkeys(style["group"] for style in styles.values()):
        handles.append(Line2D([], [], linestyle="none", label=f"$\\bf{{{group.replace(' ', chr(92) + ' ')}}}$"))
        handles += [Line2D([], [], **_without_group(style)) for style in styles.values() if style["group"] == group]
    plain: dict[str, Any] = {"color": "#222222", "linestyle": "none", "marker": "o", "markerfacecolor": "white"}
    return [*handles, Line2D([], [], label="hollow: unbiased", **plain), Line2D([], [], label=_BEST_LABEL, **_BEST)]


def _without_group(style: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in style.items() if key != "group"}


def _draw(
    ax: Axes,
    points: Sequence[Point],
    height: Callable[[Point], float],
    styles: Mapping[str, dict[str, Any]],
    mark: tuple[str, Mapping[str, Any]] | None,
) -> None:
    """The points of one panel on logarithmic axes."""
    for name, style in styles.items():
        curve = sorted((point for point in points if point.name == name), key=lambda point: point.bits)
        ax.plot([point.bits for point in curve], [height(point) for point in curve], **_without_group(style))
    best = frontier(points)
    ax.step([point.bits for point in best], [height(point) for point in best], where="post", zorder=1, **_BEST)
    for point in points:
        if mark and (point.name, point.table) == mark:
            ax.plot(point.bits, height(point), "o", markersize=17, fillstyle="none", color="#222222", zorder=5)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("bits per coordinate, of the encoded message")
    ax.grid(True, which="major", color="#e6e6e6", linewidth=0.8)
    ax.set_axisbelow(True)


def _annotate(ax: Axes, exact: Sequence[Point]) -> None:
    """The error of sending nothing, and what is exact and so has no place on a logarithmic axis."""
    rule: dict[str, Any] = {"color": "#999999", "linewidth": 0.9, "linestyle": (0, (2, 2)), "zorder": 0}
    text: dict[str, Any] = {"fontsize": 8.5, "color": "#555555", "va": "bottom", "textcoords": "offset points"}
    ax.axhline(1.0, **rule)
    ax.annotate("error of sending nothing", (0.005, 1.0), xycoords=("axes fraction", "data"), xytext=(0, 3), **text)
    for bits in dict.fromkeys(round(point.bits, 1) for point in exact):
        names = ", ".join(point.name for point in exact if round(point.bits, 1) == bits)
        ax.axvline(bits, **rule)
        place: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "xytext": (-2, 0), "rotation": 90, "ha": "right"}
        ax.annotate(f"{names}: exact", (bits, 0.02), **place, **text)
