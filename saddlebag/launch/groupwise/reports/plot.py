"""Regret in each group's own clock: a panel for each group, ours against the single model, bands over the orders."""

from __future__ import annotations

import csv
import math
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from saddlebag.errors import DataError, reason_of
from saddlebag.launch.groupwise.reports.report import CURVES, read_result
from saddlebag.launch.results.house import PALETTE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from saddlebag.algorithms.groupwise.base import Array

_COLUMNS, _MANY = 4, 16  # one column more for many groups
_MOST = 100  # panels
_SINGLE, _OURS = PALETTE[1], PALETTE[0]
_DPI = 150
_OURS_LABEL = "groupwise"
_COLOURS = {"better": "#1b7837", "worse": "#b2182b"}

Curves = dict[str, dict[str, "Array"]]


def read_curves(path: Path) -> Curves:
    """Group -> name of a column -> values, shape (orders, points).

    Raises:
        DataError: the file is missing or malformed.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        orders = 1 + max(int(row["order"]) for row in rows)
        columns = ("round_of_group", "single_regret", "regret")
        groups: dict[str, list[dict[str, str]]] = {}
        for row in rows:
            groups.setdefault(row["group"], []).append(row)
        return {
            group: {name: np.array([float(row[name]) for row in its]).reshape(orders, -1) for name in columns}
            for group, its in groups.items()
        }
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: not the curves of a groupwise run: {error}") from error


def plot_regret(folder: Path, out: Path) -> None:
    """Draw a run's curves into a PNG, PDF or SVG file.

    Raises:
        DataError: there is no result, or the picture cannot be written.
    """
    values, curves = read_result(folder), read_curves(folder / CURVES)
    panels_of = [row for row in values["groups"] if row["group"] in curves][-_MOST:]
    curves = {row["group"]: curves[row["group"]] for row in panels_of}
    rows = math.ceil(len(curves) / (_COLUMNS if len(curves) <= _MANY else _COLUMNS + 1))
    columns = math.ceil(len(curves) / rows)
    settings: Any = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 9.5}
    with mpl.rc_context(settings):
        figure = Figure(figsize=(3.1 * columns, 2.35 * rows + 0.8), layout="constrained")
        panels: Sequence[Axes] = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
        for number, (ax, row) in enumerate(zip(panels, panels_of, strict=False)):
            _panel(ax, row, curves[row["group"]])
            if number + columns >= len(curves):
                ax.set_xlabel("rounds of the group")
        for ax in panels[len(curves) :]:
            ax.set_visible(False)
        handles, labels = panels[0].get_legend_handles_labels()
        if values["orders"] > 1:
            labels = [
                f"{label} (mean and range of {values['orders']} runs)" if label == _OURS_LABEL else label for label in labels
            ]
        figure.supylabel("regret to the best fixed model for the group so far", fontsize=10)
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9.5)
        if values["title"]:
            figure.suptitle(values["title"], fontsize=11.5, x=0.01, ha="left")
        try:
            figure.savefig(out, dpi=_DPI)
        except (OSError, ValueError) as error:
            raise DataError(f"cannot write the plot {out}: {reason_of(error)}") from error


def _panel(ax: Axes, row: dict[str, Any], curve: dict[str, Array]) -> None:
    clock_P = curve["round_of_group"].mean(axis=0)
    ax.axhline(0.0, color="#999999", linewidth=0.8, zorder=1)
    series = (("single_regret", "single model", _SINGLE, (0, (4, 1.5))), ("regret", _OURS_LABEL, _OURS, "-"))
    for name, label, colour, style in series:
        values_SP = curve[name]
        mean_P, low_P, high_P = values_SP.mean(axis=0), values_SP.min(axis=0), values_SP.max(axis=0)
        ax.fill_between(clock_P, low_P, high_P, color=colour, alpha=0.18, linewidth=0, zorder=2)
        ax.plot(clock_P, mean_P, color=colour, linestyle=style, linewidth=1.7, label=label, zorder=3)
    ax.set_title(f"{row['group']}  ({row['rounds']:,.0f} rounds)", color=_COLOURS.get(row["verdict"], "#222222"), loc="left")
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.yaxis.set_major_locator(MaxNLocator(5))
    ax.set_xlim(left=0)
    ax.grid(True, color="#e6e6e6", linewidth=0.7)
    ax.set_axisbelow(True)
