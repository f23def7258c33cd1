"""`saddlebag list`."""

from __future__ import annotations

import click

from saddlebag.launch.commands.options import json_option, print_json, warn_of_plugins

__all__ = ["list_"]

_KINDS = ("methods", "compressors", "problems", "learners", "mixers")


@click.command("list")
@click.argument("kind", required=False, type=click.Choice(_KINDS))
@json_option
def list_(kind: str | None, as_json: bool) -> None:
    """Show what a recipe may name, and which package brings it."""
    from saddlebag.launch.advice.listing import entries, print_entries

    kinds = [kind] if kind else [*_KINDS]
    if as_json:
        print_json({each: entries(each) for each in kinds})
    else:
        print_entries(kinds)
    warn_of_plugins()
