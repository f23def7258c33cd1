"""`saddlebag nursery`, which `saddlebag run` starts: see `saddlebag.launch.drivers.nursery`."""

from __future__ import annotations

import click

__all__ = ["nursery"]


@click.command(hidden=True)
@click.option("--fd", type=int, required=True, help="Socket of the supervisor.")
@click.argument("also", nargs=-1, metavar="MODULE...")
@click.pass_context
def nursery(context: click.Context, fd: int, also: tuple[str, ...]) -> None:
    """Import once, fork for every server and worker."""
    from saddlebag.launch.drivers.nursery import tend

    tend(fd, also, context.obj)  # the command line itself, see `main`
