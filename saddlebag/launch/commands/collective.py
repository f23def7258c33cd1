"""`saddlebag collective`."""

from __future__ import annotations

import time
from pathlib import Path

import click

from saddlebag.errors import PeerLost
from saddlebag.launch.commands.options import data_option, overrides, set_option, timeout_option

__all__ = ["collective"]

_AFTER_OTHERS_S = 2.0
_ANOTHER_START_MAY_HELP = 1
_FILE = click.Path(path_type=Path)


@click.command(short_help="Run without a server, under torchrun.")
@click.argument("recipe", type=_FILE)
@set_option
@data_option
@click.option("--out", type=_FILE, help="Folder for results and checkpoints, of all ranks.  [default: the recipe's]")
@click.option("--resume", is_flag=True, help="Continue the run in that folder.")
@click.option("--force", is_flag=True, help="Replace the run in that folder.")
@timeout_option
@click.option("--parent-fd", type=int, hidden=True, help="End when this pipe closes.")
def collective(
    recipe: Path,
    sets: tuple[str, ...],
    data: str | None,
    out: Path | None,
    timeout_s: float,
    parent_fd: int | None,
    **flags: bool,
) -> int:
    """Run the main method of RECIPE on the ranks of torchrun's job, each of them a worker; without torchrun, start it here.

    torchrun --nproc-per-node 4 --max-restarts 10 -m saddlebag collective RECIPE --out DIR --resume
    """
    import os

    from saddlebag.launch.drivers.collective import run_rank
    from saddlebag.launch.drivers.ranks import start_ranks
    from saddlebag.launch.recipe.recipe import load_recipe
    from saddlebag.launch.recipe.sections import BUNDLED

    loaded = load_recipe(recipe, overrides(sets, data, bundled=BUNDLED))
    folder = out or Path(loaded.output.directory) / loaded.label
    if "LOCAL_RANK" not in os.environ:
        return start_ranks(loaded, folder, timeout_s=timeout_s, parent_fd=parent_fd, **flags)
    try:
        result = run_rank(loaded, folder, timeout_s=timeout_s, **flags, note=lambda text: click.echo(text, err=True))
    except PeerLost as error:  # whoever failed is to be the first that torchrun sees, and the one that says why
        time.sleep(_AFTER_OTHERS_S)
        click.echo(f"error: {error}", err=True)
        return _ANOTHER_START_MAY_HELP
    if result is not None:
        name, value = next(iter(result["merits"].items()))
        click.echo(f"finished ({result['reason']}): {name} {value:.2e} after {result['rounds']:,} rounds", err=True)
    return 0
