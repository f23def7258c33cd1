"""`saddlebag token`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from saddlebag.errors import ConfigError
from saddlebag.launch.commands.options import recipe_options, token_option

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["token"]


@click.command(short_help="Make the token of one worker from the run's secret.")
@recipe_options
@click.option("--rank", type=int, required=True, help="Number of the worker, counted from 0.")
@token_option
def token(recipe: Path, sets: list[str], rank: int, token: str) -> None:
    """Print the token of one worker: it lets that worker of RECIPE in and no other, where the secret lets in all.

    RECIPE and --set as for 'saddlebag server', and the secret that it has.
    """
    from saddlebag.launch.recipe.recipe import load_recipe
    from saddlebag.proto.token import TOKEN, rank_token

    loaded = load_recipe(recipe, sets)
    if not 0 <= rank < loaded.workers:
        raise ConfigError(f"--rank must lie in [0, {loaded.workers}), the recipe's workers, got {rank}")
    if not token:
        raise ConfigError(f"the run's secret is missing: give --token-file or ${TOKEN}")
    click.echo(rank_token(token, loaded.canonical(), rank))
