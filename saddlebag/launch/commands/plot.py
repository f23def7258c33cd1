"""`saddlebag plot`."""

from __future__ import annotations

from pathlib import Path

import click

from saddlebag.launch.commands.options import FILE

__all__ = ["plot"]


@click.command()
@click.argument("results", nargs=-1, required=True, type=FILE, metavar="RESULT...")
@click.option("--output", "-o", type=FILE, default=Path("plot.png"), show_default=True, help="PNG, PDF or SVG file.")
def plot(results: tuple[Path, ...], output: Path) -> None:
    """Draw merit against bytes and rounds, for runs or single methods.

    RESULT is the folder of a run or of one of its methods, or a result.json in it.
    """
    from saddlebag.launch.results.plot import plot as draw

    draw(results, output)
    click.echo(str(output))
