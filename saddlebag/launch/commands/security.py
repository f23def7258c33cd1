"""Options of secrets and certificates, which servers and workers share."""

from __future__ import annotations

import os
from pathlib import Path

import click

from saddlebag.errors import ConfigError

__all__ = ["certificate_option", "key_option", "read_token", "token_option"]

_FILE = click.Path(path_type=Path)
_TOKEN = "SADDLEBAG_TOKEN"

token_option = click.option(
    "--token-file", type=_FILE, help=f"File with the secret that clients share with the server; else ${_TOKEN}."
)
certificate_option = click.option("--tls-cert", type=_FILE, help="Certificate (PEM) of this side.")
key_option = click.option("--tls-key", type=_FILE, help="Its private key.")


def read_token(path: Path | None) -> str:
    """The secret: of the file, or else of the environment; empty for none.

    Raises:
        ConfigError: the file cannot be read, or is empty.
    """
    if path is None:
        return os.environ.get(_TOKEN, "").strip()
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the token file {path}: {getattr(error, 'strerror', None) or error}") from error
    if not token:
        raise ConfigError(f"the token file {path} is empty")
    return token
