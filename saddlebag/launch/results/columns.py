"""Tables that fit: where a terminal is too narrow the least important columns are left out, and no number is cut."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Column", "fitted", "print_columns", "print_table"]

_WIDEST = 10_000  # characters; any table fits


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        head: its name.
        cells: text with markup, or anything that rich shows.
        worth: what has the least is left out first; None for what always stays.
        left: whether cells begin at the left, and not end at the right.
    """

    head: str
    cells: Sequence[Any]
    worth: int | None = None
    left: bool = False


def fitted(
    columns: Sequence[Column], width: int, *, title: str = "", caption: str = "", styles: Sequence[str | None] = ()
) -> Table:
    """A table of as many columns as fit into so many characters; `styles` are those of the rows."""
    kept = [column for column in columns if any(cell != "" for cell in column.cells) or column.worth is None]
    while True:
        table = _table(kept, title, caption, styles)
        droppable = [column for column in kept if column.worth is not None]
        if not droppable or _width_of(table) <= width:
            return table
        kept.remove(min(droppable, key=lambda column: column.worth or 0))


def _table(columns: Sequence[Column], title: str, caption: str, styles: Sequence[str | None]) -> Table:
    table = Table(
        title=escape(title) or None,
        title_justify="left",
        title_style="bold",
        caption=caption or None,
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for column in columns:
        table.add_column(escape(column.head), justify="left" if column.left else "right", no_wrap=True)
    rows = len(columns[0].cells)
    for row, style in zip(range(rows), styles or [None] * rows, strict=True):
        table.add_row(*(column.cells[row] for column in columns), style=style)
    return table


def _width_of(table: Table) -> int:
    """Characters that it wants."""
    console = Console(width=_WIDEST)
    return console.measure(table, options=console.options.update(max_width=_WIDEST)).maximum


def print_columns(
    columns: Sequence[Column], *, title: str = "", caption: str = "", styles: Sequence[str | None] = ()
) -> Console:
    """Print a table that fits the terminal, or the whole where there is none; returns the console for what follows."""
    console = Console(highlight=False)
    width = console.width if console.is_terminal else _WIDEST
    table = fitted(columns, width, title=title, caption=caption, styles=styles)
    if not console.is_terminal:  # a file has no width
        console = Console(highlight=False, width=max(console.width, _width_of(table)))
    console.print(table)
    return console


def print_table(table: Table) -> Console:
    """Print a table at its full width where there is no terminal to limit it; returns the console for what follows."""
    console = Console(highlight=False)
    if not console.is_terminal:  # a file has no width
        wide = console.measure(table, options=console.options.update(max_width=_WIDEST)).maximum
        console = Console(highlight=False, width=max(console.width, wide))
    console.print(table)
    return console
