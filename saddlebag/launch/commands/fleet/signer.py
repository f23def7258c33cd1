"""`saddlebag signer`, and the file of a signing key."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from saddlebag.errors import ConfigError
from saddlebag.launch.commands.options import FILE, read_secret

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["read_signing_key", "signer"]

_BYTES = 32


@click.command(short_help="Make a worker's signing key, and print the public one for server.signers.")
@click.argument("file", type=FILE)
def signer(file: Path) -> None:
    """Print the public key of the signing key in FILE, which is made if it is not there.

    The worker keeps FILE to itself; the printed key goes into the recipe's server.signers, at the place of its rank.
    """
    from saddlebag.proto.secure.primitives import public_of, require_cryptography

    require_cryptography()
    if not file.exists():
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as opened:
            opened.write(os.urandom(_BYTES).hex() + "\n")
    click.echo(public_of(read_signing_key(file)).hex())


def read_signing_key(file: Path | None) -> bytes:
    """The signing key in a file; nothing where there is no file.

    Raises:
        ConfigError: it cannot be read, or holds no key.
    """
    if file is None:
        return b""
    text = read_secret(file, "signing key")
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != _BYTES:
        raise ConfigError(f"{file} holds no signing key of 64 hexadecimal digits; 'saddlebag signer FILE' makes one")
    return key
