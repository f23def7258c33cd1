"""`saddlebag node`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from saddlebag.launch.commands.options import data_option, overrides, set_option, timeout_option
from saddlebag.launch.commands.security import certificate_option, key_option, read_token, token_option

__all__ = ["node"]

_FILE = click.Path(path_type=Path)


@click.command(short_help="Take part as a node of several ranks, under torchrun.")
@click.argument("recipe", type=_FILE)
@set_option
@data_option
@click.option("--worker", type=int, help="Number of this worker, from 0.  [default: torchrun's number of the node]")
@click.option("--server", "address", metavar="HOST:PORT", required=True, help="Where the server listens.")
@click.option("--out", type=_FILE, help="Folder for the leader's checkpoints; none are kept without.")
@timeout_option
@token_option
@certificate_option
@key_option
@click.option("--tls-ca", type=_FILE, help="CA (PEM) that signed the server's certificate.")
def node(
    recipe: Path,
    sets: tuple[str, ...],
    data: str | None,
    worker: int | None,
    address: str,
    out: Path | None,
    timeout_s: float,
    **rest: Any,
) -> int:
    """Take part in a run as one worker that computes on several ranks; RECIPE is the server's.

    torchrun --nproc-per-node 8 --max-restarts 10 -m saddlebag node RECIPE --server HOST:PORT --worker N
    """
    from saddlebag.launch.drivers.node import run_node
    from saddlebag.launch.recipe.recipe import load_recipe
    from saddlebag.launch.recipe.sections import BUNDLED
    from saddlebag.proto.endpoint import ClientSecurity

    return run_node(
        load_recipe(recipe, overrides(sets, data, bundled=BUNDLED)),
        worker,
        address,
        out=out,
        token=read_token(rest["token_file"]),
        security=ClientSecurity(certificate=rest["tls_cert"], key=rest["tls_key"], ca=rest["tls_ca"]),
        timeout_s=timeout_s,
        note=lambda text: click.echo(text, err=True),
    )
