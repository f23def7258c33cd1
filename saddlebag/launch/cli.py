"""The command line `saddlebag`: names and options of the commands; what they do is imported when they run.

Exit status: 0 done, 1 a failed check, 2 an error in one line, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import click

from saddlebag.errors import ConfigError, explained
from saddlebag.launch.commands.advise import advise
from saddlebag.launch.commands.collective import collective
from saddlebag.launch.commands.compare import compare
from saddlebag.launch.commands.echo import echo
from saddlebag.launch.commands.groupwise import groupwise
from saddlebag.launch.commands.inspect_compressor import inspect
from saddlebag.launch.commands.node import node
from saddlebag.launch.commands.security import certificate_option, key_option, read_token, token_option
from saddlebag.version import __version__

__all__ = ["cli", "main"]

_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_FILE = click.Path(path_type=Path)
_TRACEBACK = "SADDLEBAG_TRACEBACK"

_recipe = click.argument("recipe", type=_FILE)
_sets = click.option(
    "--set", "sets", multiple=True, metavar="KEY=VALUE", help="Override a key of the recipe, e.g. method.step_size=0.1"
)
_parent = click.option("--parent-fd", type=int, hidden=True, help="End when this pipe closes.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="saddlebag")
@click.option("--debug", is_flag=True, help=f"Show tracebacks (also {_TRACEBACK}=1).")
def cli(debug: bool) -> None:
    """Train min-max games and variational inequalities with compressed communication over gRPC."""
    if debug:
        os.environ[_TRACEBACK] = "1"


@cli.command()
@_recipe
@_sets
@click.option(
    "--data", metavar="SOURCE", help="Short for --set data.source=SOURCE: a bundled set, or the path of a table or LIBSVM file."
)
@click.option(
    "--driver",
    type=click.Choice(["grpc", "simulate", "collective"]),
    help="A server and a process per worker, one process for all, or processes without a server (torch.distributed).",
)
@click.option("--out", type=_FILE, help="Folder for the results.  [default: the recipe's output.directory]")
@click.option("--resume", is_flag=True, help="Continue the run in that folder.")
@click.option("--force", is_flag=True, help="Replace the run in that folder.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON and nothing else.")
@click.option("--quiet", "-q", is_flag=True, help="Print nothing while it goes.")
def run(recipe: Path, sets: tuple[str, ...], data: str | None, driver: str | None, out: Path | None, **flags: bool) -> None:
    """Run the methods of RECIPE on this machine and compare them."""
    from saddlebag.launch.recipe.recipe import load_recipe
    from saddlebag.launch.results.folder import RECIPE
    from saddlebag.launch.results.table import Board, print_summary
    from saddlebag.launch.running import run as run_recipe

    if flags["resume"] and flags["force"]:
        raise ConfigError("--resume and --force exclude each other")
    extra = [f"{key}={value}" for key, value in (("data.source", data), ("driver", driver)) if value]
    loaded = load_recipe(recipe, [*sets, *extra])
    _warn_of_plugins()
    folder = out or Path(loaded.output.directory)
    labels = [job.label for job in loaded.jobs()]
    quiet = flags["quiet"] or flags["as_json"]
    board = Board(labels, stop=loaded.stop, workers=loaded.workers, title=loaded.title or recipe.stem, quiet=quiet)
    try:
        values = run_recipe(loaded, folder, board, resume=flags["resume"], force=flags["force"])
    except KeyboardInterrupt:
        if (folder / RECIPE).is_file():
            command = f"saddlebag run {_quote(folder / RECIPE)} --out {_quote(folder)} --resume"
            click.echo(f"stopped; to continue: {command}", err=True)
            if loaded.driver == "simulate":
                click.echo("(driver simulate keeps no checkpoints: the method that was running starts again)", err=True)
        raise
    if flags["as_json"]:
        _print_json(values)
    else:
        print_summary(values)
        click.echo(f"results in {folder}: plot.png, result.json, recipe.toml, and a folder for each method")


@cli.command()
@_recipe
@_sets
@click.option("--address", metavar="HOST:PORT", help="Where to listen.  [default: the recipe's server.address]")
@click.option("--out", type=_FILE, help="Folder for results and checkpoints.  [default: the recipe's output.directory]")
@click.option("--resume", is_flag=True, help="Continue from the last checkpoint in that folder.")
@click.option("--force", is_flag=True, help="Replace the run in that folder.")
@token_option
@certificate_option
@key_option
@click.option("--tls-ca", type=_FILE, help="CA (PEM) that must have signed the workers' certificates.")
@click.option("--insecure", is_flag=True, help="Serve other machines without TLS and authentication.")
@_parent
def server(recipe: Path, sets: tuple[str, ...], address: str | None, out: Path | None, insecure: bool, **rest: Any) -> None:
    """Serve the main method of RECIPE to workers on this or other machines."""
    from saddlebag.launch.remote import serve

    token = read_token(rest["token_file"])
    tls = (rest["tls_cert"], rest["tls_key"], rest["tls_ca"])
    serve(
        recipe,
        sets,
        address=address,
        out=out,
        resume=rest["resume"],
        force=rest["force"],
        insecure=insecure,
        token=token,
        tls=tls,
        parent_fd=rest["parent_fd"],
    )


@cli.command()
@_recipe
@_sets
@click.option("--rank", type=int, required=True, help="Number of this worker, counted from 0.")
@click.option("--server", "address", metavar="HOST:PORT", required=True, help="Where the server listens.")
@click.option("--out", type=_FILE, help="Folder for checkpoints; none are kept without.")
@token_option
@certificate_option
@key_option
@click.option("--tls-ca", type=_FILE, help="CA (PEM) that signed the server's certificate.")
@_parent
def worker(recipe: Path, sets: tuple[str, ...], rank: int, address: str, out: Path | None, **rest: Any) -> None:
    """Take part in a run as one worker; RECIPE is the server's."""
    from saddlebag.launch.remote import work

    token = read_token(rest["token_file"])
    tls = (rest["tls_cert"], rest["tls_key"], rest["tls_ca"])
    work(recipe, sets, rank=rank, address=address, out=out, token=token, tls=tls, parent_fd=rest["parent_fd"])


@cli.command()
@click.argument("results", nargs=-1, required=True, type=_FILE, metavar="RESULT...")
@click.option("--output", "-o", type=_FILE, default=Path("plot.png"), show_default=True, help="PNG, PDF or SVG file.")
def plot(results: tuple[Path, ...], output: Path) -> None:
    """Draw merit against bytes up, bytes down and rounds, for runs or single methods (folders or result.json files)."""
    from saddlebag.launch.results.plot import plot as draw

    draw(results, output)
    click.echo(str(output))


@cli.command("list")
@click.argument("kind", required=False, type=click.Choice(["methods", "compressors", "problems", "learners", "mixers"]))
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_(kind: str | None, as_json: bool) -> None:
    """Show what a recipe may name, and which package brings it."""
    from saddlebag.launch.advice.listing import entries, print_entries

    kinds = [kind] if kind else ["methods", "compressors", "problems", "learners", "mixers"]
    if as_json:
        _print_json({each: entries(each) for each in kinds})
    else:
        print_entries(kinds)
    _warn_of_plugins()


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def doctor(as_json: bool) -> None:
    """Check that this machine can run, and show what it runs with."""
    from saddlebag.launch.doctor import diagnose

    rows = diagnose()
    if as_json:
        _print_json(rows)
    else:
        for row in rows:
            mark = click.style("ok  ", fg="green") if row["ok"] else click.style("FAIL", fg="red")
            click.echo(f"{mark}  {row['name']:10} {row['detail']}")
        _warn_of_plugins()
    if not all(row["ok"] for row in rows):
        raise click.exceptions.Exit(1)


cli.add_command(groupwise)
cli.add_command(collective)
cli.add_command(compare)
cli.add_command(advise)
cli.add_command(echo)
cli.add_command(inspect)
cli.add_command(node)


def _print_json(values: Any) -> None:
    import json

    click.echo(json.dumps(values, indent=2))


def _quote(path: Path) -> str:
    import shlex

    return shlex.quote(str(path))


def _warn_of_plugins() -> None:
    from saddlebag.launch.recipe.plugins import load_plugins

    for warning in load_plugins().warnings:
        click.echo(f"warning: {warning}", err=True)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; always ends with `SystemExit`."""
    for name in _ONE_THREAD:  # before numpy is imported: the bits of a sum depend on the number of BLAS threads
        os.environ.setdefault(name, "1")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what its C core would print comes as an exception, too
    try:
        status = cli.main(args=arguments, prog_name="saddlebag", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        _fail(error.format_message(), 2)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output has gone
        _drop_output()
        sys.exit(1)
    except Exception as error:  # whatever it is: a process that has failed says so and is gone
        if isinstance(error, OSError):  # perhaps our own output: what of it still waits would fail at the exit once more
            _drop_output()
        if os.environ.get(_TRACEBACK) == "1":
            traceback.print_exception(error)
        _fail(str(explained(error)), 2)
    sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str, status: int) -> None:
    with contextlib.suppress(OSError):  # a log on a full disk; the status says enough
        click.echo("error: " + " ".join(message.split()), err=True)
    sys.exit(status)


def _drop_output() -> None:
    """Let what is still to be printed go nowhere."""
    with contextlib.suppress(OSError):  # standard output may be no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
