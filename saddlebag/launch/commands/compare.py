"""`saddlebag compare`: the methods of a recipe beside each other, tuned alike."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from saddlebag.launch.commands.options import FILE, json_option, print_json, recipe_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["compare"]


@click.command()
@recipe_options
@click.option("--out", type=FILE, help="Folder for the results.  [default: the recipe's output.directory]")
@click.option("--jobs", "-j", type=click.IntRange(min=1), default=1, show_default=True, help="Processes.")
@click.option("--bandwidth", type=float, help="Of each worker's link in bit/s, for the modelled time.")
@click.option("--latency", type=float, help="One way, in seconds, for the modelled time.")
@json_option
@click.option("--quiet", "-q", is_flag=True, help="Print nothing while it goes.")
def compare(
    recipe: Path, sets: list[str], out: Path | None, jobs: int, as_json: bool, quiet: bool, **model: float | None
) -> None:
    """Compare the methods of RECIPE by what they need to reach the target; its table [compare] says how.

    The run can be interrupted: the same command continues it.
    """
    from saddlebag.launch.compare import running as comparing
    from saddlebag.launch.compare.plot import plot_comparison
    from saddlebag.launch.compare.spec import load_comparison
    from saddlebag.launch.compare.table import markdown, print_comparison
    from saddlebag.proto.checkpoint import write_atomically

    modelled = [f"compare.{key}={value}" for key, value in model.items() if value is not None]
    loaded, section = load_comparison(recipe, [*sets, *modelled])
    folder = out or Path(loaded.output.directory)
    try:
        with _shown(quiet or as_json) as progress:
            values = comparing.compare(loaded, section, folder, jobs=jobs, progress=progress)
    except KeyboardInterrupt:
        click.echo(f"stopped; the same command continues; finished runs are in {shlex.quote(str(folder))}", err=True)
        raise
    plot_comparison(values, folder / "plot.png")
    write_atomically(folder / "table.md", (markdown(values) + "\n").encode())
    if as_json:
        print_json(values)
    else:
        print_comparison(values)
        click.echo(f"results in {folder}: plot.png, table.md, comparison.json")


@contextlib.contextmanager
def _shown(quiet: bool) -> Iterator[Callable[[int, int, str], None]]:
    """A progress bar on a terminal, a line for each run elsewhere, nothing when quiet."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True, highlight=False)
    if quiet:
        yield lambda done, total, text: None
    elif not console.is_terminal:
        yield lambda done, total, text: click.echo(f"[{done}/{total}] {text}", err=True)
    else:
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("starting", total=None)
            yield lambda done, total, text: bar.update(task, completed=done, total=total, description=escape(text))
