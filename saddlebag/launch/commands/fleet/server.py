"""`saddlebag server`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from saddlebag.launch.commands.options import (
    FILE,
    Tls,
    force_option,
    note,
    parent_option,
    recipe_options,
    tls_options,
    token_option,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from saddlebag.algorithms.simulate import Record

__all__ = ["printer", "server"]

_PRINT_EVERY_S = 2.0


@click.command()
@recipe_options
@click.option("--address", metavar="HOST:PORT", help="Where to listen.  [default: the recipe's server.address]")
@click.option("--out", type=FILE, help="Folder for results and checkpoints.  [default: the recipe's output.directory]")
@click.option("--shard", type=click.IntRange(min=0), help="Which of the recipe's server.shards this is, from 0.")
@click.option("--resume", is_flag=True, help="Continue from the last checkpoint in that folder.")
@force_option
@token_option
@tls_options("CA (PEM) that must have signed the workers' certificates.")
@click.option("--insecure", is_flag=True, help="Serve other machines without TLS and authentication.")
@parent_option
def server(recipe: Path, sets: list[str], out: Path | None, tls: Tls, insecure: bool, **given: Any) -> None:
    """Serve the main method of RECIPE to workers on this or other machines."""
    from saddlebag.launch.drivers.server import run_server
    from saddlebag.launch.drivers.supervisor import SHARD
    from saddlebag.launch.recipe.recipe import load_recipe

    loaded = load_recipe(recipe, sets)
    folder = out or Path(loaded.output.directory) / loaded.label
    shard = given["shard"]
    if out is None and shard is not None:
        folder /= SHARD.format(shard)
    what = loaded.label if shard is None else f"shard {shard} of {loaded.label}"
    result = run_server(
        loaded,
        folder,
        security=tls.server(insecure=insecure),
        note=note,
        observe=printer(loaded.workers),
        listening=lambda bound: note(f"serving {what} to {loaded.workers} workers at {bound}; results in {folder}"),
        **given,  # address, shard, resume, force, token
    )
    found = "".join(f": {name} {value:.2e}" for name, value in [*result["merits"].items()][:1])  # a shard has none
    note(f"finished ({result['reason']}){found} after {result['rounds']:,} rounds")


def printer(num_workers: int) -> Callable[[Record], None]:
    """An observer that prints a record now and then."""
    from saddlebag.launch.results.units import format_bytes

    last = -_PRINT_EVERY_S

    def observe(record: Record) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _PRINT_EVERY_S:
            last = now
            (name, value), *_ = record.merits.items()
            up, down = (format_bytes(size / num_workers) for size in (record.up_bytes, record.down_bytes))
            note(f"round {record.round:,}, iteration {record.iteration:,}: {name} {value:.2e}; per worker {up} up, {down} down")

    return observe
