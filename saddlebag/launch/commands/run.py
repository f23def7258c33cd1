"""`saddlebag run`."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from saddlebag.errors import ConfigError
from saddlebag.launch.commands.group import Choice
from saddlebag.launch.commands.options import FILE, force_option, json_option, print_json, recipe_options, warn_of_plugins

__all__ = ["run"]


@click.command()
@recipe_options
@click.option(
    "--driver",
    type=Choice(["grpc", "simulate", "collective"]),
    help="A server and a process per worker, one process for all, or processes without a server (torch.distributed).",
)
@click.option("--shards", type=click.IntRange(min=1), help="Server processes, each with a slice of the coordinates.")
@click.option("--out", type=FILE, help="Folder for the results.  [default: the recipe's output.directory]")
@click.option("--resume", is_flag=True, help="Continue the run in that folder.")
@force_option
@json_option
@click.option("--quiet", "-q", is_flag=True, help="Print nothing while it goes.")
def run(
    recipe: Path,
    sets: list[str],
    driver: str | None,
    shards: int | None,
    out: Path | None,
    as_json: bool,
    quiet: bool,
    **continues: bool,
) -> None:
    """Run the methods of RECIPE on this machine and compare them."""
    from saddlebag.launch.recipe.recipe import load_recipe
    from saddlebag.launch.results.folder import RECIPE
    from saddlebag.launch.results.table import Board, print_summary
    from saddlebag.launch.running import run as run_recipe

    if continues["resume"] and continues["force"]:
        raise ConfigError("--resume and --force exclude each other")
    short = {"driver": driver, "server.shards": shards}
    loaded = load_recipe(recipe, [*sets, *(f"{key}={value}" for key, value in short.items() if value is not None)])
    warn_of_plugins()
    folder = out or Path(loaded.output.directory)
    labels = [job.label for job in loaded.jobs()]
    title = loaded.title or recipe.stem
    board = Board(labels, stop=loaded.stop, workers=loaded.workers, title=title, quiet=quiet or as_json)
    try:
        values = run_recipe(loaded, folder, board, **continues)
    except KeyboardInterrupt:
        if (folder / RECIPE).is_file():
            file, directory = (shlex.quote(str(path)) for path in (folder / RECIPE, folder))
            click.echo(f"stopped; to continue: saddlebag run {file} --out {directory} --resume", err=True)
            if loaded.driver == "simulate":
                click.echo("(driver simulate keeps no checkpoints: the method that was running starts again)", err=True)
        raise
    if as_json:
        print_json(values)
    else:
        print_summary(values)
        click.echo(f"results in {folder}: plot.png, result.json, recipe.toml, and a folder for each method")
