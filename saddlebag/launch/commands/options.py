"""Options that several commands share, each read in one place: recipes and their overrides, secrets, certificates, output."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from saddlebag.errors import ConfigError, reason_of
from saddlebag.launch.recipe.sections import BUNDLED
from saddlebag.proto.token import TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from saddlebag.proto.endpoint import ClientSecurity, ServerSecurity

__all__ = [
    "FILE",
    "Tls",
    "force_option",
    "json_option",
    "note",
    "overrides",
    "parent_option",
    "print_json",
    "read_secret",
    "read_token",
    "recipe_options",
    "set_option",
    "timeout_option",
    "tls_options",
    "token_option",
    "warn_of_plugins",
]

FILE = click.Path(path_type=Path)

set_option = click.option(
    "--set", "sets", multiple=True, metavar="KEY=VALUE", help="Override a key of the recipe, e.g. method.step_size=0.1."
)
force_option = click.option("--force", is_flag=True, help="Replace the run in that folder.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else.")
timeout_option = click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=1),
    default=600.0,
    show_default=True,
    help="Seconds that a rank may be busy before the others take it for lost.",
)


def overrides(sets: Sequence[str], data: str | None) -> list[str]:
    """What `--set` and `--data` say of a recipe; a path starts at the working directory, a bundled set's name is none."""
    if not data:
        return [*sets]
    return [*sets, f"data.source={data if data in BUNDLED else Path(data).resolve()}"]


def recipe_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """RECIPE, `--set` and `--data`: the command is given `recipe`, and as `sets` all that is overridden."""

    @functools.wraps(command)
    def given(recipe: Path, sets: tuple[str, ...], data: str | None, **rest: Any) -> Any:
        return command(recipe=recipe, sets=overrides(sets, data), **rest)

    about = "Short for --set data.source=SOURCE: a bundled set's name, or a path that starts at the working directory."
    data_option = click.option("--data", metavar="SOURCE", help=about)
    return click.argument("recipe", type=FILE)(set_option(data_option(given)))


def _watch_parent(context: click.Context, option: click.Parameter, fd: int | None) -> None:
    if fd is not None:
        from saddlebag.launch.drivers.process import watch_parent

        watch_parent(fd)


parent_option = click.option(
    "--parent-fd", type=int, hidden=True, expose_value=False, callback=_watch_parent, help="End when this pipe closes."
)


_LONGEST = 4096
"""Characters of a secret; a device never ends."""


def read_secret(path: Path, what: str) -> str:
    """The text of a small file, at most one character longer than any secret; `what` is its name in an error.

    Raises:
        ConfigError: it cannot be read, or holds no text.
    """
    try:
        with path.open("rb") as file:
            return file.read(_LONGEST + 1).decode().strip()
    except OSError as error:
        raise ConfigError(f"cannot read the {what} {path}: {reason_of(error)}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"cannot read the {what} {path}: {error}") from error


def read_token(path: Path | None) -> str:
    """The secret: of the file, or else of the environment; empty for none.

    Raises:
        ConfigError: the file cannot be read, or is empty.
    """
    if path is None:
        return os.environ.get(TOKEN, "").strip()
    token = read_secret(path, "token file")
    if not token:
        raise ConfigError(f"the token file {path} is empty")
    if len(token) > _LONGEST:
        raise ConfigError(f"the token file {path} holds more than a token: over {_LONGEST} characters")
    return token


token_option = click.option(
    "--token-file",
    "token",
    type=FILE,
    callback=lambda context, option, path: read_token(path),
    help=f"File with the secret that clients share with the server; else ${TOKEN}.",
)


class Tls(NamedTuple):
    """Files (PEM) of one side of a connection."""

    certificate: Path | None
    key: Path | None
    ca: Path | None

    def client(self) -> ClientSecurity:
        """As a client uses them."""
        from saddlebag.proto.endpoint import ClientSecurity

        return ClientSecurity(certificate=self.certificate, key=self.key, ca=self.ca)

    def server(self, *, insecure: bool) -> ServerSecurity:
        """As a server uses them; `insecure` serves other machines without any."""
        from saddlebag.proto.endpoint import ServerSecurity

        return ServerSecurity(certificate=self.certificate, key=self.key, ca=self.ca, insecure=insecure)


def tls_options(ca: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`--tls-cert`, `--tls-key` and `--tls-ca`, which `ca` explains: the command is given all three as `tls`."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def given(tls_cert: Path | None, tls_key: Path | None, tls_ca: Path | None, **rest: Any) -> Any:
            return command(tls=Tls(tls_cert, tls_key, tls_ca), **rest)

        certificate = click.option("--tls-cert", type=FILE, help="Certificate (PEM) of this side.")
        key = click.option("--tls-key", type=FILE, help="Its private key.")
        return certificate(key(click.option("--tls-ca", type=FILE, help=ca)(given)))

    return add


def note(text: str) -> None:
    """Tell the person at the terminal."""
    click.echo(text, err=True)


def print_json(values: Any) -> None:
    """Values on standard output, as JSON."""
    import json

    click.echo(json.dumps(values, indent=2))


def warn_of_plugins() -> None:
    """Say which plug-ins could not be used."""
    from saddlebag.launch.recipe.plugins import load_plugins

    for warning in load_plugins().warnings:
        note(f"warning: {warning}")
