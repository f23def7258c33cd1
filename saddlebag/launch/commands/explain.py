"""`saddlebag explain` and `saddlebag schema`."""

from __future__ import annotations

import click

from saddlebag.launch.commands.group import Choice
from saddlebag.launch.commands.options import print_json

__all__ = ["explain", "schema"]


@click.command()
@click.argument("key", required=False)
@click.option("--markdown", is_flag=True, help="Print the reference of all keys as a page.")
def explain(key: str | None, markdown: bool) -> None:
    """Say what a KEY of a recipe means: method.up.step, stop.merit, or the name of a method."""
    from saddlebag.launch.reference.keys import explained, keys
    from saddlebag.launch.reference.page import paragraphs, reference_page

    if markdown:
        click.echo(reference_page(), nl=False)
    elif key is None:
        tables = dict.fromkeys(f"[{each.table}]" for each in (*keys("run"), *keys("groupwise")) if each.table)
        click.echo(f"tables of recipes: {', '.join(tables)}; 'saddlebag explain TABLE' shows the keys of one")
    else:
        click.echo("\n\n".join(paragraphs(explained(key))))


@click.command()
@click.argument("kind", required=False, default="run", type=Choice(["run", "groupwise"]))
def schema(kind: str) -> None:
    """Print a JSON Schema of recipes, from which editors complete and check.

    For editors with Taplo's language server, such as the extension Even Better TOML: saddlebag schema > recipe.schema.json, and
    the first line of a recipe is #:schema ./recipe.schema.json
    """
    from saddlebag.launch.reference.schema import recipe_schema

    print_json(recipe_schema("groupwise" if kind == "groupwise" else "run"))
