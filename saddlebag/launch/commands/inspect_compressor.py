"""`saddlebag inspect compressor`."""

from __future__ import annotations

from typing import Any

import click

from saddlebag.launch.commands.group import COUNT, Choice, Commands
from saddlebag.launch.commands.options import FILE, json_option, print_json

__all__ = ["inspect"]


@click.group(cls=Commands)
def inspect() -> None:
    """Measure one part of a run by itself."""


@inspect.command()
@click.argument("name")
@click.option("--d", type=COUNT, help="Coordinates of a synthetic vector.  [default: 1000000]")
@click.option("--k", "kept", type=float, help="Coordinates kept: a fraction if below 1, else their number.")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Another parameter, e.g. levels=8.")
@click.option("--vector", type=Choice(["gaussian", "heavy", "uniform"]), help="Law of it.  [default: gaussian]")
@click.option("--from", "source", type=FILE, metavar="FILE", help="Take the vector from a safetensors file instead.")
@click.option("--tensor", metavar="NAME", help="One tensor of that file.  [default: all of them, in one vector]")
@click.option("--draws", type=click.IntRange(1, 10_000), default=10, show_default=True, help="Repetitions, for the mean error.")
@click.option("--plot", type=FILE, metavar="FILE", help="Draw error against bits for all compressors on that vector.")
@json_option
def compressor(name: str, kept: float | None, sets: tuple[str, ...], draws: int, as_json: bool, **rest: Any) -> None:
    """Measure compressor NAME: its constant against the proven one, encoded bytes, speed.

    Without parameters it is taken with typical ones, those of 'saddlebag list compressors'.
    """
    from saddlebag.launch.advice.inspection import inspect_compressor, parameters, print_report
    from saddlebag.launch.advice.vectors import vector_of

    table = parameters(name, kept, sets)
    x_D, what = vector_of(rest["source"], rest["tensor"], rest["vector"], rest["d"])
    report = inspect_compressor(name, table, x_D, draws=draws, what=what)
    if rest["plot"] is not None:
        from saddlebag.launch.advice.tradeoff import plot_tradeoff

        plot_tradeoff(x_D, rest["plot"], what=what, mark=(name, table))
    if as_json:
        print_json(report)
        return
    print_report(report)
    if rest["plot"] is not None:
        click.echo(f"plot in {rest['plot']}")
