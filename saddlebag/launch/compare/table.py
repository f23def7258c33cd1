"""The table of a comparison: for the terminal, and as Markdown for documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from saddlebag.launch.results.units import REASONS, format_bytes, format_time

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["markdown", "print_comparison", "ranked", "setting"]

_HEADS = (
    "method",
    "compressors",
    "step x L",
    "p",
    "reached",
    "iterations",
    "rounds",
    "up",
    "down",
    "total",
    "ratio",
    "evaluations",
    "time",
)
_UNBOUNDED = 10_000  # characters
_NUMERIC = 2  # the heads before are words
_REASONS = {**REASONS, "cut": "over budget"}


def ranked(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The entries, those that always arrive first, by the total of bytes."""
    return sorted(values["entries"], key=lambda entry: entry["median"]["total"] if entry["median"] else float("inf"))


def setting(method: Mapping[str, Any]) -> str:
    """The compressors of a method, in words."""
    sides = {side: _compressor(method[side]) for side in ("up", "down") if side in method}
    if not sides:
        return "uncompressed"
    if sides.get("up") == sides.get("down"):
        return f"{sides['up']} both ways"
    return ", ".join(f"{name} {side}" for side, name in sides.items())


def _compressor(table: Mapping[str, Any]) -> str:
    parts = [str(table["name"])]
    parts += [f"{value:.4g}" if isinstance(value, float) else str(value) for key, value in table.items() if key != "name"]
    return " ".join(parts)


def _row(entry: Mapping[str, Any], reference: float | None) -> list[str]:
    step, p = entry["lipschitz_step"], entry["resolved"].get("probability")
    median = entry["median"]
    cells = [entry["label"], setting(entry["method"])]
    cells += ["" if step is None else f"{step:.3g}", "" if p is None else f"{p:.3g}"]
    if median is None:
        others = sorted({_REASONS.get(reason, reason) for reason in entry["reasons"] if reason != "merit"})
        found = f"{entry['reached']}/{entry['runs']}, " if entry["reached"] else ""
        return [*cells, found + ", ".join(others), *[""] * (len(_HEADS) - 5)]
    spread = entry["range"]["total"]
    total = format_bytes(median["total"])
    if spread[1] > spread[0] * 1.005:
        total += f" ({format_bytes(spread[0])} to {format_bytes(spread[1])})"
    ratio = "" if reference is None else f"{median['total'] / reference:.3g}"
    return [
        *cells,
        f"{entry['reached']}/{entry['runs']}",
        f"{median['iterations']:,.0f}",
        f"{median['rounds']:,.0f}",
        format_bytes(median["up"]),
        format_bytes(median["down"]),
        total,
        ratio,
        f"{median['evaluations']:,.0f}",
        format_time(median["time"]),
    ]


def _rows(values: Mapping[str, Any]) -> list[list[str]]:
    at = {entry["label"]: entry["median"] for entry in values["entries"]}.get(values["reference"])
    return [_row(entry, at["total"] if at else None) for entry in ranked(values)]


def caption(values: Mapping[str, Any]) -> str:
    """What the columns mean."""
    compare = values["compare"]
    rules = {"grid": f"steps and probabilities tuned by one grid for {compare['objective']}; ", "auto": "automatic steps; "}
    tuned = rules.get(compare["tune"], "")
    against = f"; ratio of the total to {values['reference']}'s" if values["reference"] else ""
    return (
        f"{values['problem']}, D = {values['dimension']}, {values['workers']} workers; until {values['merit']} "
        f"{values['target']:.0e}; medians of {values['seeds']} seeds; {tuned}bytes and evaluations of each worker; time: "
        f"communication only, modelled at {compare['bandwidth'] / 1e6:g} Mbit/s and {compare['latency'] * 1e3:g} ms{against}"
    )


def print_comparison(values: Mapping[str, Any]) -> None:
    """The table on the terminal."""
    table = Table(
        title=escape(values["title"]),
        title_justify="left",
        title_style="bold",
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for number, head in enumerate(_HEADS):
        table.add_column(head, justify="left" if number < _NUMERIC else "right", no_wrap=True)
    for number, row in enumerate(_rows(values)):
        table.add_row(*map(escape, row), style="bold" if number == 0 and row[-1] else None if row[-1] else "red")
    console = Console(highlight=False)
    wide = Console(width=_UNBOUNDED).measure(table).maximum
    if not console.is_terminal or console.width < wide:  # a file has no width, and a cut figure is worse than a long line
        console = Console(highlight=False, width=max(console.width, wide))
    console.print(table)
    console.print(escape(caption(values)), style="italic")


def markdown(values: Mapping[str, Any]) -> str:
    """The table as Markdown, with its caption."""
    lines = ["| " + " | ".join(_HEADS) + " |"]
    lines.append("|" + "|".join(" :--- " if number < _NUMERIC else " ---: " for number in range(len(_HEADS))) + "|")
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in _rows(values)]
    return "\n".join([*lines, "", f"{caption(values)}."])
