"""`saddlebag node`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from saddlebag.launch.commands.options import FILE, Tls, note, recipe_options, timeout_option, tls_options, token_option

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["node"]


@click.command(short_help="Take part as a node of several ranks, under torchrun.")
@recipe_options
@click.option("--worker", type=int, help="Number of this worker, from 0.  [default: torchrun's number of the node]")
@click.option(
    "--server",
    "address",
    metavar="HOST:PORT,...",
    required=True,
    help="Where the server listens; of several (server.shards) all.",
)
@click.option("--out", type=FILE, help="Folder for the leader's checkpoints; none are kept without.")
@timeout_option
@token_option
@tls_options("CA (PEM) that signed the server's certificate.")
def node(recipe: Path, sets: list[str], tls: Tls, **given: Any) -> int:
    """Take part in a run as one worker that computes on several ranks; RECIPE is the server's.

    torchrun --nproc-per-node 8 --max-restarts 10 -m saddlebag node RECIPE --server HOST:PORT --worker N
    """
    from saddlebag.launch.drivers.node import run_node
    from saddlebag.launch.recipe.recipe import load_recipe

    return run_node(
        load_recipe(recipe, sets), security=tls.client(), note=note, **given
    )  # worker, address, out, timeout_s, token
