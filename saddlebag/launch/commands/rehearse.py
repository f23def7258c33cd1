"""`saddlebag rehearse`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from saddlebag.launch.commands.options import FILE, json_option, note, print_json, recipe_options

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["rehearse"]


@click.command(short_help="Predict a run of many workers in virtual time.")
@recipe_options
@click.option("--workers", type=click.IntRange(min=1), help="How many.  [default: the recipe's]")
@click.option("--rounds", type=click.IntRange(min=1), help="How many.  [default: the recipe's stop.max_rounds, or 1000]")
@click.option("--links", "links_file", type=FILE, help="TOML file of links, speeds and failures.  [default: a local network]")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of what is drawn.")
@click.option("--record", "few", type=click.IntRange(min=1), help="Workers whose messages are recorded.  [default: 8, or more]")
@click.option("--exact", is_flag=True, help="Real cores and vectors of all workers, rather than recorded sizes.")
@json_option
def rehearse(
    recipe: Path,
    sets: list[str],
    workers: int | None,
    rounds: int | None,
    links_file: Path | None,
    seed: int,
    few: int | None,
    exact: bool,
    as_json: bool,
) -> None:
    """Predict rounds an hour, bytes and the server's load of RECIPE's main method with many workers, in virtual time.

    Message sizes are recorded from a few real workers, the server's costs measured on its real core with all of them.
    """
    from saddlebag.launch.rehearsal.links import Links, load_links
    from saddlebag.launch.rehearsal.report import print_report, report

    links = load_links(links_file) if links_file is not None else Links()
    tell = (lambda text: None) if as_json else note
    values = report(recipe, sets, links, workers=workers, rounds=rounds, seed=seed, exact=exact, few=few, tell=tell)
    if as_json:
        print_json(values)
    else:
        print_report(values)
