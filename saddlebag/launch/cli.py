"""The command line `saddlebag`: the group of its commands (`commands/`), and how it ends.

Exit status: 0 done, 1 a failed check, 2 an error in one line, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sys
import traceback
import warnings

import click

from saddlebag.errors import ConfigError, explained
from saddlebag.launch.commands.advise import advise
from saddlebag.launch.commands.clean import clean
from saddlebag.launch.commands.compare import compare
from saddlebag.launch.commands.doctor import doctor
from saddlebag.launch.commands.echo import echo
from saddlebag.launch.commands.explain import explain, schema
from saddlebag.launch.commands.fleet.collective import collective
from saddlebag.launch.commands.fleet.host import host
from saddlebag.launch.commands.fleet.node import node
from saddlebag.launch.commands.fleet.nursery import nursery
from saddlebag.launch.commands.fleet.server import server
from saddlebag.launch.commands.fleet.signer import signer
from saddlebag.launch.commands.fleet.token import token
from saddlebag.launch.commands.fleet.worker import worker
from saddlebag.launch.commands.group import Commands
from saddlebag.launch.commands.groupwise import groupwise
from saddlebag.launch.commands.inspect_compressor import inspect
from saddlebag.launch.commands.list import list_
from saddlebag.launch.commands.new import new
from saddlebag.launch.commands.plot import plot
from saddlebag.launch.commands.rehearse import rehearse
from saddlebag.launch.commands.run import run
from saddlebag.launch.commands.view import view
from saddlebag.version import __version__

__all__ = ["cli", "main"]

_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_TRACEBACK, _UMASK = "SADDLEBAG_TRACEBACK", "SADDLEBAG_UMASK"
_DECIDING = ("numpy", "torch", "grpcio", "protobuf", "scikit-learn", "numba", "flwr")


def _version(context: click.Context, option: click.Parameter, asked: bool) -> None:
    """Our version, and on a second line those of what decides over bits and speed."""
    if not asked:
        return
    import importlib.metadata
    import platform

    click.echo(f"saddlebag, version {__version__}")
    found = [f"Python {platform.python_version()}"]
    for name in _DECIDING:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    click.echo(", ".join(found))
    context.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show versions and exit.")
@click.option(
    "--umask",
    metavar="OCTAL",
    envvar=_UMASK,
    default="077",
    show_default=True,
    help=f"What others may not do with files that are written (also {_UMASK}).",
)
@click.option("--debug", is_flag=True, help=f"Show tracebacks (also {_TRACEBACK}=1).")
@click.pass_context
def cli(context: click.Context, umask: str, debug: bool) -> None:
    """Train min-max games and variational inequalities with compressed communication over gRPC."""
    if debug:
        os.environ[_TRACEBACK] = "1"
    if not re.fullmatch("0?[0-7]{3}", umask):
        raise ConfigError(f"--umask must be three octal digits, got {umask!r}")
    os.environ[_UMASK] = umask  # for the processes that this one starts
    context.call_on_close(functools.partial(os.umask, os.umask(int(umask, 8))))


for _command in (
    advise,
    clean,
    collective,
    compare,
    doctor,
    echo,
    explain,
    groupwise,
    host,
    inspect,
    list_,
    new,
    node,
    nursery,
    plot,
    rehearse,
    run,
    schema,
    server,
    signer,
    token,
    view,
    worker,
):
    cli.add_command(_command)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; always ends with `SystemExit`."""
    for name in _ONE_THREAD:  # before numpy is imported: the bits of a sum depend on the number of BLAS threads
        os.environ.setdefault(name, "1")
    for told in ("overflow", "invalid value", "divide by zero"):  # by numpy; a state that is not finite has a sentence of ours
        warnings.filterwarnings("ignore", told, RuntimeWarning)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what its C core would print comes as an exception, too
    color = False if os.environ.get("NO_COLOR") else None
    try:
        status = cli.main(args=arguments, prog_name="saddlebag", standalone_mode=False, obj=main, color=color)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except click.MissingParameter as error:
        usage = f"; {error.ctx.get_usage()}" if error.ctx else ""
        _fail(error.format_message().rstrip(".") + usage, 2)
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
