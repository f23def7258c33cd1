"""How `saddlebag list` prints its entries; it knows their rows alone, and imports nothing of the mathematics."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, Literal

import click

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CONSTANTS", "DIMENSION", "print_entries"]

CONSTANTS = {"unbiased": "omega", "contractive": "alpha", "absolute": "absolute_error"}
"""Kind of a compressor -> the constant that it is known by."""
DIMENSION = 1_000_000
"""At which compressors are compared."""

_INDENT = 6 * " "
_COLUMNS = ("name", "kind", "for example", "constant", "bits/d", "reference")
_WHOLE = ("name", "kind", "constant", "bits/d")  # columns that no terminal wraps
_WIDEST_EXAMPLE = 40


def print_entries(found: Mapping[str, list[dict[str, Any]]]) -> None:
    """The entries of some kinds for people."""
    for kind, rows in found.items():
        if kind == "compressors":
            _print_compressors(rows)
            continue
        click.secho(kind, bold=True)
        for row in rows:
            click.echo(f"  {row['name']:24}  {row['kind']:40}  {row['origin']}")
            click.echo(textwrap.fill(row["description"], 100, initial_indent=_INDENT, subsequent_indent=_INDENT))
            if row["parameters"]:
                click.echo(f"{_INDENT}parameters: {row['parameters']}")
        click.echo()


def _print_compressors(rows: list[dict[str, Any]]) -> None:
    from rich.box import SIMPLE_HEAD  # here, as other kinds do without
    from rich.markup import escape
    from rich.table import Table

    from saddlebag.launch.results.columns import print_table

    origins = sorted({row["origin"] for row in rows})
    table = Table(box=SIMPLE_HEAD, title="compressors", title_justify="left", title_style="bold", pad_edge=False)
    for column in (*_COLUMNS, *(["from"] if len(origins) > 1 else [])):
        widest = _WIDEST_EXAMPLE if column == "for example" else None
        justify: Literal["left", "right"] = "right" if column == "bits/d" else "left"
        table.add_column(column, justify=justify, no_wrap=column in _WHOLE, overflow="fold", max_width=widest)
    for row in rows:
        constants = [f"{name} = {row[name]:.4g}" for name in CONSTANTS.values() if row[name] is not None]
        bits = "-" if row["bits_per_coordinate"] is None else f"{row['bits_per_coordinate']:.4g}"
        kind = row["kind"].replace("unbiased and contractive", "both")
        example = "-" if row["example"] is None else row["example"]
        texts = [row["name"], kind, example, "\n".join(constants) or "-", bits, row["reference"] or "-", row["origin"]]
        table.add_row(*map(escape, texts[: len(table.columns)]))
    print_table(table)
    click.echo(f"constants as proven, bits per coordinate as modelled, at d = {DIMENSION:,}")
    if len(origins) == 1:
        click.echo(f"all from {origins[0]}")
    click.echo()
