"""Groups of commands with manners: whole summaries in their help, and the nearest name where one is unknown."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["COUNT", "Choice", "Commands", "nearest"]

_LONGEST = 200  # characters of a summary, which help wraps
_COUNT = re.compile(r"(\d[\d_,]*(?:\.\d+)?(?:[eE]\+?\d+)?)\s*([kKMGT]?)")
_SIZES = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def nearest(name: str, known: Iterable[str]) -> str:
    """What was perhaps meant, as the end of a message; empty if nothing is near."""
    near = difflib.get_close_matches(name, [*known], 1)
    return f"; did you mean {near[0]!r}?" if near else ""


class Commands(click.Group):
    """A group whose help shows whole summaries, and whose errors suggest."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else ""
        known = [each for each in self.list_commands(ctx) if not self.commands[each].hidden]
        if name and not name.startswith("-") and self.get_command(ctx, name) is None:
            hint = nearest(name, known) or f"; known: {', '.join(known)}"
            ctx.fail(f"No such command {name!r}{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [
            (name, command.get_short_help_str(_LONGEST))
            for name in self.list_commands(ctx)
            if (command := self.get_command(ctx, name)) is not None and not command.hidden
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class Choice(click.Choice):  # type: ignore[type-arg,unused-ignore]  # generic in newer releases of click
    """A choice that suggests the nearest one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            self.fail(error.message.rstrip(".") + (nearest(str(value), map(str, self.choices)) or "."), param, ctx)


class _Count(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic in newer releases of click
    """A number of things as people write it: 1000000, 1_000_000, 1e6, 10M."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = _COUNT.fullmatch(str(value).strip())
        number = float(match[1].replace("_", "").replace(",", "")) * _SIZES[match[2]] if match else 0.0
        if not (1 <= number < 2**63 and number == int(number)):
            self.fail(f"{value!r} must be a whole number of at least 1, such as 1000000, 1e6 or 10M", param, ctx)
        return int(number)


COUNT = _Count()
