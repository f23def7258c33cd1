"""`saddlebag compare`: the methods of a recipe beside each other, tuned alike."""

from __future__ import annotations

import contextlib
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["compare"]

_FILE = click.Path(path_type=Path)


@click.command()
@click.argument("recipe", type=_FILE)
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Override a key of the recipe, e.g. compare.seeds=3")
@click.option("--data", metavar="SOURCE", help="Short for --set data.source=SOURCE.")
@click.option("--out", type=_FILE, help="Folder for the results.  [default: the recipe's output.directory]")
@click.option("--jobs", "-j", type=click.IntRange(min=1), default=1, show_default=True, help="Processes.")
@click.option("--bandwidth", type=float, help="Of each worker's link in bit/s, for the modelled time.")
@click.option("--latency", type=float, help="One way, in seconds, for the modelled time.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON and nothing else.")
@click.option("--quiet", "-q", is_flag=True, help="Print nothing while it goes.")
def compare(
    recipe: Path,
    sets: tuple[str, ...],
    data: str | None,
    out: Path | None,
    jobs: int,
    bandwidth: float | None,
    latency: float | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Compare the methods of RECIPE by what they need to reach the target; its table [compare] says how.

    The run can be interrupted: the same command continues it.
    """
    from saddlebag.launch.compare import running as comparing
    from saddlebag.launch.compare.plot import plot_comparison
    from saddlebag.launch.compare.spec import load_comparison
    from saddlebag.launch.compare.table import markdown, print_comparison
    from saddlebag.proto.checkpoint import write_atomically

    given = (("data.source", data), ("compare.bandwidth", bandwidth), ("compare.latency", latency))
    loaded, section = load_comparison(recipe, [*sets, *(f"{key}={value}" for key, value in given if value is not None)])
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
        click.echo(json.dumps(values, indent=2))
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
