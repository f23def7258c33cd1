"""`saddlebag host`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from saddlebag.launch.commands.group import Choice
from saddlebag.launch.commands.options import FILE, Tls, force_option, note, read_token, tls_options, token_option

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["host"]


@click.command(short_help="Serve programs that link their own training loops (saddlebag.join).")
@click.option("--workers", type=click.IntRange(min=1), required=True, help="How many programs take part.")
@click.option("--out", type=FILE, required=True, help="Folder for results and checkpoints.")
@click.option("--address", metavar="HOST:PORT", default="127.0.0.1:7070", show_default=True, help="Where to listen.")
@click.option("--rounds", type=click.IntRange(min=1), help="End after so many rounds; else when all programs are done.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the compressors' draws.")
@click.option("--lease", "lease_s", type=float, default=30.0, show_default=True, help="Seconds of silence until one is lost.")
@click.option(
    "--on-lost",
    type=Choice(["drop", "pause"]),
    default="drop",
    show_default=True,
    help="Go on without a lost program, or wait for it.",
)
@click.option("--quorum", type=click.IntRange(min=0), default=0, help="Programs that close a round; others count later.")
@click.option("--grace", "grace_s", type=float, default=0.0, show_default=True, help="Seconds for the others after a quorum.")
@click.option(
    "--weights",
    type=click.Choice(["equal", "samples"]),
    default="equal",
    show_default=True,
    help="Mean over the programs, or over the samples that each told link.step.",
)
@click.option("--balance", is_flag=True, help="Slower programs make fewer steps, so that all end together.")
@click.option("--above", type=FILE, metavar="FILE", help="TOML with the table [above]: this site is a worker of that server.")
@click.option(
    "--checkpoint-every", type=click.IntRange(min=0), default=1, show_default=True, help="Rounds between checkpoints."
)
@click.option(
    "--tracker", "trackers", multiple=True, type=click.Choice(["mlflow", "wandb"]), help="A service that is told the curves."
)
@click.option("--resume", is_flag=True, help="Continue the run in that folder.")
@force_option
@token_option
@tls_options("CA (PEM) that must have signed the programs' certificates.")
@click.option("--insecure", is_flag=True, help="Serve other machines without TLS and authentication.")
def host(
    workers: int, out: Path, lease_s: float, on_lost: Any, above: Path | None, tls: Tls, insecure: bool, **given: Any
) -> None:
    """Serve programs that link their own training loops with saddlebag.join.

    The first of them brings what travels and where it starts, all others must agree; the run ends when all are done.
    """
    from saddlebag.launch.commands.fleet.server import printer
    from saddlebag.launch.link.above import read_above
    from saddlebag.launch.link.host import host as serve
    from saddlebag.launch.recipe.server_section import ServerSection

    policy = {name: given.pop(name) for name in ("address", "quorum", "grace_s", "weights", "balance")}
    result = serve(
        out,
        workers=workers,
        server=ServerSection(lease_s=lease_s, on_lost=on_lost, **policy),
        security=tls.server(insecure=insecure),
        above=None if above is None else read_above(above, read_token),
        note=note,
        observe=printer(workers),
        listening=lambda bound: note(f"waiting for {workers} programs at {bound}; results in {out}"),
        **given,  # checkpoint_every, seed, rounds, resume, force, token, trackers
    )
    note(f"finished ({result['reason']}) after {result['rounds']:,} rounds")
