"""One worker made of the ranks of a node: `torchrun --nproc-per-node R -m saddlebag.launch.node RECIPE --server HOST:PORT`.

Works in a job of its own on every node (`--worker N` says which worker it is) and in one job over several nodes (then the
node's number is torchrun's). After a restart by torchrun's agent the leader comes back from its checkpoint (`--out`) or the
server's snapshot; other ranks have no state.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from saddlebag.errors import ConfigError, SaddlebagError
from saddlebag.launch.commands.security import certificate_option, key_option, read_token, token_option

__all__ = ["main"]

_FILE = click.Path(path_type=Path)


def _number(name: str) -> int:
    """A number of torchrun's environment."""
    value = os.environ.get(name, "")
    if not value.isdigit():
        raise ConfigError(f"{name} must be a whole number, got {value!r}; start this with torchrun")
    return int(value)


def _take_part(recipe_path: Path, sets: list[str], node: int | None, address: str, out: Path | None, rest: Any) -> None:
    import torch
    import torch.distributed as dist

    from saddlebag.client.group import NodeGroup, start_processes
    from saddlebag.launch.build import build_problem
    from saddlebag.launch.processes import run_worker
    from saddlebag.launch.recipe import load_recipe
    from saddlebag.launch.remote import note
    from saddlebag.proto.endpoint import ClientSecurity

    recipe = load_recipe(recipe_path, sets)
    ranks, local, rank = _number("LOCAL_WORLD_SIZE"), _number("LOCAL_RANK"), _number("RANK")
    world, node = _number("WORLD_SIZE"), _number("GROUP_RANK") if node is None else node
    if not 0 <= node < recipe.workers:
        raise ConfigError(f"worker must lie in [0, {recipe.workers}), the recipe's workers, got {node}")
    problem: Any = build_problem(recipe)
    if not hasattr(problem, "part"):
        raise ConfigError(f"problem {recipe.problem.name!r} does not divide a worker's batch among ranks; use saddlebag worker")
    part = problem.part(node, local, ranks)
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // ranks))
    cuda = torch.cuda.is_available()
    start_processes(cuda=cuda)
    try:
        groups = [dist.new_group(list(range(at, at + ranks))) for at in range(0, world, ranks)] if world > ranks else [None]
        device = f"cuda:{local}" if cuda else "cpu"
        group = NodeGroup(problem.dimension, group=groups[rank // ranks if world > ranks else 0], device=device)
        if local:
            group.follow(part)
            return
        security = ClientSecurity(certificate=rest["tls_cert"], key=rest["tls_key"], ca=rest["tls_ca"])
        token = read_token(rest["token_file"])
        try:
            lead = group.lead(part)
            run_worker(recipe, node, address, out=out, token=token, security=security, note=note, operator=lead)
        finally:
            group.end()
        note(f"node {node}: the run is over")
    finally:
        dist.destroy_process_group()


@click.command()
@click.argument("recipe", type=_FILE)
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Override a key of the recipe.")
@click.option("--data", metavar="PATH", help="Short for --set data.source=PATH.")
@click.option("--worker", "node", type=int, help="Number of this worker, from 0.  [default: torchrun's number of the node]")
@click.option("--server", "address", metavar="HOST:PORT", required=True, help="Where the server listens.")
@click.option("--out", type=_FILE, help="Folder for the leader's checkpoints; none are kept without.")
@token_option
@certificate_option
@key_option
@click.option("--tls-ca", type=_FILE, help="CA (PEM) that signed the server's certificate.")
def main(
    recipe: Path, sets: tuple[str, ...], data: str | None, node: int | None, address: str, out: Path | None, **rest: Any
) -> None:
    """Take part in a run as one worker that computes on several ranks; RECIPE is the server's."""
    given = [*sets, *([f"data.source={Path(data).resolve()}"] if data else [])]
    try:
        _take_part(recipe, given, node, address, out, rest)
    except SaddlebagError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
