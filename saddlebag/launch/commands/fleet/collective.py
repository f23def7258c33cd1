"""`saddlebag collective`."""

from __future__ import annotations

import time
from pathlib import Path

import click

from saddlebag.errors import PeerLost
from saddlebag.launch.commands.options import FILE, force_option, note, parent_option, recipe_options, timeout_option

__all__ = ["collective"]

_AFTER_OTHERS_S = 2.0
_ANOTHER_START_MAY_HELP = 1


@click.command(short_help="Run without a server, under torchrun.")
@recipe_options
@click.option("--out", type=FILE, help="Folder for results and checkpoints, of all ranks.  [default: the recipe's]")
@click.option("--resume", is_flag=True, help="Continue the run in that folder.")
@force_option
@timeout_option
@parent_option
def collective(recipe: Path, sets: list[str], out: Path | None, timeout_s: float, **continues: bool) -> int:
    """Run the main method of RECIPE on the ranks of torchrun's job, each of them a worker; without torchrun, start it here.

    torchrun --nproc-per-node 4 --max-restarts 10 -m saddlebag collective RECIPE --out DIR --resume
    """
    import os

    from saddlebag.launch.drivers.collective import run_rank
    from saddlebag.launch.drivers.ranks import start_ranks
    from saddlebag.launch.recipe.recipe import load_recipe

    loaded = load_recipe(recipe, sets)
    folder = out or Path(loaded.output.directory) / loaded.label
    if "LOCAL_RANK" not in os.environ:
        return start_ranks(loaded, folder, timeout_s=timeout_s, **continues)
    try:
        result = run_rank(loaded, folder, timeout_s=timeout_s, note=note, **continues)
    except PeerLost as error:  # whoever failed is to be the first that torchrun sees, and the one that says why
        time.sleep(_AFTER_OTHERS_S)
        note(f"error: {error}")
        return _ANOTHER_START_MAY_HELP
    if result is not None:
        name, value = next(iter(result["merits"].items()))
        note(f"finished ({result['reason']}): {name} {value:.2e} after {result['rounds']:,} rounds")
    return 0
