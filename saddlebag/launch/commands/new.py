"""`saddlebag new`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from saddlebag.errors import ConfigError
from saddlebag.launch.commands.options import FILE

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["new"]


@click.command()
@click.option("--from", "name", default="robust_logistic", show_default=True, metavar="NAME", help="Of 'list recipes'.")
@click.argument("file", type=FILE)
def new(name: str, file: Path) -> None:
    """Write a recipe of one's own into FILE: a copy of one that runs."""
    from saddlebag.launch.recipe.shipped import located, shipped

    text = located(name).read_bytes()
    try:
        with file.open("xb") as opened:
            opened.write(text)
    except FileExistsError:
        raise ConfigError(f"{file} exists; choose another name") from None
    except OSError as error:
        raise ConfigError(f"{file} cannot be written: {error.strerror}") from error
    command = next((each.command for each in shipped() if each.name == name), "saddlebag run")
    click.echo(f"{file}: a copy of {name}; 'saddlebag explain KEY' says what a key means, '{command} {file}' runs it")
