"""`saddlebag worker`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from saddlebag.errors import ConfigError
from saddlebag.launch.commands.options import FILE, Tls, note, parent_option, recipe_options, tls_options, token_option

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["worker"]


@click.command()
@recipe_options
@click.option("--rank", type=int, required=True, help="Number of this worker, counted from 0.")
@click.option(
    "--server",
    "address",
    metavar="HOST:PORT,...",
    required=True,
    help="Where the server listens; of several (server.shards) all, with commas.",
)
@click.option("--out", type=FILE, help="Folder for checkpoints; none are kept without.")
@click.option("--signing-key", type=FILE, help="File of this worker's signing key, where the recipe has server.signers.")
@token_option
@tls_options("CA (PEM) that signed the server's certificate.")
@parent_option
def worker(recipe: Path, sets: list[str], tls: Tls, signing_key: Path | None, **given: Any) -> None:
    """Take part in a run as one worker; RECIPE is the server's."""
    from saddlebag.launch.commands.fleet.signer import read_signing_key
    from saddlebag.launch.drivers.worker import run_worker
    from saddlebag.launch.recipe.recipe import load_recipe

    loaded, ways = load_recipe(recipe, sets), {"security": tls.client(), "note": note, **given}  # rank, address, out, token
    if loaded.server.shards > 1:
        from saddlebag.launch.drivers.shards import run_shard_worker

        if signing_key is not None:
            raise ConfigError("--signing-key is for server.secure, which server.shards cannot keep")
        run_shard_worker(loaded, addresses=ways.pop("address").split(","), **ways)
        return
    run_worker(loaded, signing_key=read_signing_key(signing_key), **ways)
