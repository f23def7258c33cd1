"""`saddlebag echo`."""

from __future__ import annotations

import click

from saddlebag.launch.commands.options import Tls, note, tls_options

__all__ = ["echo"]


@click.command(short_help="Answer 'advise --link' from another machine.")
@click.option("--address", metavar="HOST:PORT", default="127.0.0.1:0", show_default=True, help="Where to listen.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), default=600.0, show_default=True, help="End after.")
@tls_options("CA (PEM) that must have signed the other side's certificate.")
@click.option("--insecure", is_flag=True, help="Answer other machines without TLS and authentication.")
def echo(address: str, seconds: float, insecure: bool, tls: Tls) -> None:
    """Answer 'saddlebag advise --link' on another machine, which measures the network between the two."""
    from saddlebag.launch.advice.echo import serve_echo

    serve_echo(
        address,
        seconds=seconds,
        security=tls.server(insecure=insecure),
        note=note,
        listening=lambda bound: click.echo(f"answering for {seconds:g} s at {bound}"),
    )
