"""The house style of plots: colours for all eyes, dashes of their own, names beside lines.

Okabe and Ito's colours, and dashes, so that lines are told apart in grey, too; an axis is logarithmic only where its values
span a decade; at most seven lines a panel; text lies on no marker and on no other text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Sequence

    from matplotlib.axes import Axes

__all__ = ["MARKERS", "MOST", "PALETTE", "STYLES", "in_style", "look", "name_beside", "tidy"]

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's colours, told apart by all common kinds of colour blindness; yellow, too pale on white, is left out."""
STYLES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
"""Dashes of lines, in turn."""
MARKERS = "osD^v"
"""Of the ends of lines, in turn."""
MOST = len(PALETTE)
"""Lines of a panel at most."""

_APART = 0.06  # of the height of a panel, between names
_GREY, _GRID = "#777777", "#e6e6e6"


def in_style(size: float = 10) -> contextlib.AbstractContextManager[None]:
    """Settings of matplotlib while a figure is drawn and saved."""
    return mpl.rc_context({"font.size": size, "axes.spines.top": False, "axes.spines.right": False})


def look(number: int) -> dict[str, Any]:
    """Colour, dashes and width of a panel's line; the first is the one that matters."""
    width = {"linewidth": 2.4 if number == 0 else 1.7, "zorder": 3 if number == 0 else 2}
    return {"color": PALETTE[number % MOST], "linestyle": STYLES[number % len(STYLES)], **width}


def tidy(ax: Axes, target: float | None = None) -> None:
    """A pale grid below the lines, and a dotted line at the target."""
    ax.grid(True, which="major", color=_GRID, linewidth=0.8)
    ax.set_axisbelow(True)
    if target is not None:
        ax.axhline(target, color=_GREY, linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)


def name_beside(ax: Axes, names: Sequence[tuple[str, str, tuple[float, float]]], size: float = 8.5) -> None:
    """Names to the right of a panel whose limits are set, at the height where their lines end, none on another.

    Args:
        ax: the panel.
        names: text, colour, and the line's end (x, y).
        size: of the letters, points.
    """
    place = ax.transData + ax.transAxes.inverted()
    ends = sorted(
        ((*place.transform(end), name, color) for name, color, end in names), key=lambda each: (-round(each[1], 2), -each[0])
    )
    above = 1.0 + _APART
    for number, (x, y, name, color) in enumerate(ends):
        rest = len(ends) - 1 - number  # names that still need room below
        above = min(above - _APART, max(min(y, 1.0), rest * _APART))
        ax.annotate(
            name,
            (min(x, 1.0), min(max(y, 0.0), 1.0)),
            xycoords="axes fraction",
            xytext=(1.035, above),
            textcoords="axes fraction",
            color=color,
            fontsize=size,
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": color,
                "linewidth": 0.5,
                "alpha": 0.6,
                "relpos": (0, 0.5),
                "shrinkA": 1,
                "shrinkB": 4,
            },
        )
