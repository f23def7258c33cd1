"""`saddlebag view`."""

from __future__ import annotations

from pathlib import Path

import click

from saddlebag.launch.commands.options import FILE, note

__all__ = ["view"]


@click.command()
@click.argument("runs", nargs=-1, required=True, type=FILE, metavar="RUN...")
@click.option("--output", "-o", type=FILE, default=Path("view.html"), show_default=True, help="File of the page.")
@click.option("--watch", is_flag=True, help="Write it again until the runs have ended; an open page follows.")
@click.option("--every", type=click.FloatRange(min=0.1), default=2.0, show_default=True, help="Seconds between, with --watch.")
def view(runs: tuple[Path, ...], output: Path, watch: bool, every: float) -> None:
    """Write one page of HTML that lays runs over each other by bytes, rounds and seconds.

    RUN is the folder of a run, also of one under way, or of one of its methods. The page needs no network: tables, the settings
    in which runs differ, pictures and texts are in it.
    """
    from saddlebag.launch.view.writing import write_view

    if watch:
        note(f"writing {output.resolve().as_uri()} every {every:g} s until the runs have ended; Ctrl-C stops")
    write_view(runs, output, every_s=every if watch else None)
    click.echo(str(output))
