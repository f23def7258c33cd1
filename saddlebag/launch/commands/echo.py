"""`saddlebag echo`."""

from __future__ import annotations

import click

__all__ = ["echo"]


@click.command(short_help="Answer 'advise --link' from another machine.")
@click.option("--address", metavar="HOST:PORT", default="127.0.0.1:0", show_default=True, help="Where to listen.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), default=600.0, show_default=True, help="End after.")
@click.option("--insecure", is_flag=True, help="Answer other machines; the measurement has no TLS and no authentication.")
def echo(address: str, seconds: float, insecure: bool) -> None:
    """Answer 'saddlebag advise --link' on another machine, which measures the network between the two."""
    from saddlebag.launch.echo import serve_echo

    serve_echo(
        address,
        seconds=seconds,
        insecure=insecure,
        note=lambda text: click.echo(text, err=True),
        listening=lambda bound: click.echo(f"answering for {seconds:g} s at {bound}"),
    )
