"""`saddlebag clean`: remove old runs."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from saddlebag.launch.commands.options import FILE, note

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["clean"]

_DAY_S = 86_400.0


@click.command()
@click.argument("folder", type=FILE, default=Path("runs"))
@click.option("--days", type=click.FloatRange(min=0), default=30.0, show_default=True, help="Spare what is younger.")
@click.option("--yes", is_flag=True, help="Remove them, and do not only show them.")
def clean(folder: Path, days: float, yes: bool) -> None:
    """Show the runs in FOLDER that are old, and remove them with --yes.

    Runs are folders with a recipe.toml and the results of 'run', 'compare' or 'groupwise run'; others are left alone, and so is
    a run that a process is at work on. FOLDER is runs/ without an argument.
    """
    from saddlebag.errors import ConfigError
    from saddlebag.launch.ownership import owned
    from saddlebag.launch.results.units import format_bytes

    found = [path for path in _runs(folder) if time.time() - _touched(path) >= days * _DAY_S]
    for path in found:
        size, age = format_bytes(_size(path)), (time.time() - _touched(path)) / _DAY_S
        if yes:
            try:
                with owned(path, "saddlebag clean"):
                    shutil.rmtree(path)
            except ConfigError as error:
                note(f"left: {error}")
                continue
        click.echo(f"{'removed' if yes else 'old'}  {path}  {size}, {age:.0f} days")
    if not found:
        click.echo(f"no run in {folder} is {days:g} days old")
    elif not yes:
        click.echo("--yes removes them")


def _runs(folder: Path) -> Iterator[Path]:
    """The folders of runs, not those of links; a folder may be a run itself."""
    for path in (folder, *sorted(folder.iterdir())) if folder.is_dir() else ():
        results = any((path / name).is_file() for name in ("result.json", "comparison.json"))
        if path.is_dir() and not path.is_symlink() and results and (path / "recipe.toml").is_file():
            yield path


def _touched(folder: Path) -> float:
    """When the last file was written, in seconds since 1970."""
    return max(path.stat().st_mtime for path in (folder, *folder.rglob("*")) if not path.is_symlink())


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
