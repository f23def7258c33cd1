"""Options of recipes and of torchrun's ranks, which several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

__all__ = ["data_option", "overrides", "set_option", "timeout_option"]

set_option = click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Override a key of the recipe.")
data_option = click.option("--data", metavar="PATH", help="Short for --set data.source=PATH.")
timeout_option = click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=1),
    default=600.0,
    show_default=True,
    help="Seconds that a rank may be busy before the others take it for lost.",
)


def overrides(sets: Sequence[str], data: str | None, *, bundled: Collection[str] = ()) -> list[str]:
    """What `--set` and `--data` say of a recipe; a path starts at the working directory, a bundled set's name is none."""
    if not data:
        return [*sets]
    return [*sets, f"data.source={data if data in bundled else Path(data).resolve()}"]
