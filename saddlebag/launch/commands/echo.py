"""`saddlebag echo`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from saddlebag.launch.commands.security import certificate_option, key_option

__all__ = ["echo"]


@click.command(short_help="Answer 'advise --link' from another machine.")
@click.option("--address", metavar="HOST:PORT", default="127.0.0.1:0", show_default=True, help="Where to listen.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), default=600.0, show_default=True, help="End after.")
@certificate_option
@key_option
@click.option("--tls-ca", type=click.Path(path_type=Path), help="CA (PEM) that must have signed the other side's certificate.")
@click.option("--insecure", is_flag=True, help="Answer other machines without TLS and authentication.")
def echo(address: str, seconds: float, insecure: bool, **tls: Any) -> None:
    """Answer 'saddlebag advise --link' on another machine, which measures the network between the two."""
    from saddlebag.launch.advice.echo import serve_echo
    from saddlebag.proto.endpoint import ServerSecurity

    serve_echo(
        address,
        seconds=seconds,
        security=ServerSecurity(certificate=tls["tls_cert"], key=tls["tls_key"], ca=tls["tls_ca"], insecure=insecure),
        note=lambda text: click.echo(text, err=True),
        listening=lambda bound: click.echo(f"answering for {seconds:g} s at {bound}"),
    )
