"""Advice on local methods for people, and as JSON."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click
from rich.box import SIMPLE_HEAD
from rich.table import Table

from saddlebag.launch.results.columns import print_table
from saddlebag.launch.results.units import format_bytes, format_short

if TYPE_CHECKING:
    from collections.abc import Sequence

    from saddlebag.launch.advice.local_methods import LocalPrediction, Recommendation
    from saddlebag.launch.advice.model import Verdict

__all__ = ["local_json", "print_local"]

_COLUMNS = ("method", "every", "up", "down", "step", "exchange", "gradient", "speed-up")


def local_json(verdict: Verdict, rows: Sequence[LocalPrediction], recommended: Recommendation) -> dict[str, Any]:
    """Bytes are of an exchange in `costs`, of a gradient beside it; times in seconds."""
    dense_s = _dense_s(verdict)
    return {
        "local": [
            {
                **dataclasses.asdict(row),
                "up_bytes": row.up_bytes,
                "down_bytes": row.down_bytes,
                "exchange_s": row.exchange_s,
                "gradient_s": row.gradient_s,
                "speedup": dense_s / row.gradient_s,
            }
            for row in rows
        ],
        "recommended": dataclasses.asdict(recommended),
    }


def print_local(verdict: Verdict, rows: Sequence[LocalPrediction], recommended: Recommendation) -> None:
    """The table, and what to take."""
    click.echo("\nlocal steps, by gradient: bytes up and down, and its own step with its share of an exchange")
    table, dense_s = Table(box=SIMPLE_HEAD, pad_edge=False), _dense_s(verdict)
    for column in _COLUMNS:
        table.add_column(column, justify="left" if column == "method" else "right")
    for row in rows:
        table.add_row(
            row.costs.method,
            str(row.every),
            format_bytes(row.up_bytes),
            format_bytes(row.down_bytes),
            format_short(row.compute_s) if row.compute_s else "-",
            format_short(row.exchange_s),
            format_short(row.gradient_s),
            f"{dense_s / row.gradient_s:.2f}x",
        )
    print_table(table)
    if rows and not rows[0].compute_s:
        click.echo("the time of a step is unknown (--compute) and counts as nothing: exchanges weigh more here than they will")
    click.secho(recommended.reason, bold=True)


def _dense_s(verdict: Verdict) -> float:
    return next(each.total_s for each in verdict.ranked if each.costs.name == "identity")
