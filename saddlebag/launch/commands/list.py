"""`saddlebag list`."""

from __future__ import annotations

import dataclasses

import click

from saddlebag.launch.commands.group import Choice
from saddlebag.launch.commands.options import json_option, note, print_json

__all__ = ["list_"]

_KINDS = ("methods", "compressors", "problems", "learners", "mixers")
_RECIPES = "recipes"


@click.command("list")
@click.argument("kind", required=False, type=Choice((*_KINDS, _RECIPES)))
@json_option
def list_(kind: str | None, as_json: bool) -> None:
    """Show what a recipe may name, and the recipes that come with it."""
    if kind == _RECIPES:
        _list_recipes(as_json)
        return
    from saddlebag.launch.advice.entry_table import print_entries
    from saddlebag.launch.advice.kept_entries import entries_of

    found, warnings = entries_of([kind] if kind else _KINDS)
    if as_json:
        print_json(found)
    else:
        print_entries(found)
    for warning in warnings:
        note(f"warning: {warning}")


def _list_recipes(as_json: bool) -> None:
    """What runs by its name alone."""
    from saddlebag.launch.recipe.shipped import shipped

    found = shipped()
    if as_json:
        print_json({_RECIPES: [dataclasses.asdict(each) for each in found]})
        return
    for each in found:
        click.echo(f"{click.style(f'{each.command} {each.name}', bold=True)}\n      {each.title}")
        for key in ("needs", "takes", "gives"):
            text = dataclasses.asdict(each)[key]
            if text:
                click.echo(f"      {key} {text}")
    click.echo("\n'saddlebag new --from NAME my.toml' copies one to change it.")
