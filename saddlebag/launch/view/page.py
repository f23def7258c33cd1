"""Runs on one page: pictures, a table, where their settings differ, and what they have to show."""

from __future__ import annotations

import base64
import math
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from saddlebag.launch.pages.frame import head_cells, number_cell, page
from saddlebag.launch.pages.lines import MOST, Drawn, draw_lines
from saddlebag.launch.results.units import REASONS, format_bytes, format_merit, format_time, is_rate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from saddlebag.launch.view.gather import Curve

__all__ = ["page_of"]

_LETTERS = 60  # of a setting in the table


class _Coordinate(NamedTuple):
    """What a picture has across: its name, a line's value, and a tick's text."""

    name: str
    value: Callable[[Curve, Mapping[str, Any]], float]
    tick: Callable[[float], str]


_COORDINATES = (
    _Coordinate(
        "bytes of each worker, both ways",
        lambda curve, line: (line["up_bytes"] + line["down_bytes"]) / curve.share,
        format_bytes,
    ),
    _Coordinate("rounds", lambda curve, line: line["round"], lambda value: f"{value:,.0f}"),
    _Coordinate(
        "seconds of rounds", lambda curve, line: max(0.0, line["elapsed_s"] - _start_s(curve)), lambda value: f"{value:.4g}"
    ),
    _Coordinate("bytes up of each worker", lambda curve, line: line["up_bytes"] / curve.share, format_bytes),
    _Coordinate("bytes down of each worker", lambda curve, line: line["down_bytes"] / curve.share, format_bytes),
)
_SHOWN = 3  # of them, until one asks for more


def _start_s(curve: Curve) -> float:
    """Seconds until the first round; while a run goes they are not known yet."""
    told = curve.result.get("start_s")
    return min(float(told) if isinstance(told, int | float) else 0.0, float(curve.lines[0]["elapsed_s"]))


def page_of(curves: Sequence[Curve], *, again_s: float | None = None, when: str = "") -> str:
    """The page of some curves.

    Args:
        curves: labels unlike each other.
        again_s: the page loads itself anew after so many seconds; None for one that is complete.
        when: of what moment it is, for people.
    """
    title = " · ".join(dict.fromkeys(curve.title for curve in curves if curve.title)) or "Runs"
    merits = list(dict.fromkeys(merit for curve in curves for merit in curve.merits))
    state = f"live, {escape(when)}" if again_s else escape(when)
    facts = f"{len(curves)} curve{'s' if len(curves) != 1 else ''}; {state}" if when else f"{len(curves)} curves"
    parts = [
        f'<header><h1>{escape(title)}</h1><p class=facts id=state data-again="{again_s or ""}">{facts}</p></header><main>',
        _choices(curves, merits),
        *(_pictures_of(curves, merit, first=merit == merits[0]) for merit in merits),
        "" if merits else "<p class=calm>No evaluation has been written yet.</p>",
        _table(curves),
        _differences(curves),
        *_shown(curves),
        "</main>",
    ]
    style, script = (Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("view.css", "view.js"))
    return page(title, "\n".join(parts), style=style, script=script, pictures=True)


def _choices(curves: Sequence[Curve], merits: Sequence[str]) -> str:
    """Which merit, which coordinates, which curves: for the script; without one everything is shown."""
    asked = "".join(f"<option>{escape(merit)}</option>" for merit in merits)
    across = "".join(
        f'<label><input type="checkbox" data-across="{number}"{_ticked(number < _SHOWN)}> {escape(each.name)}</label>'
        for number, each in enumerate(_COORDINATES)
    )
    boxes = "".join(
        f'<label class="{_look(number)}"><input type="checkbox" data-of="{number}" checked> {_named(curve)}</label>'
        for number, curve in enumerate(curves)
    )
    return (
        f'<form class="choices"><p><label>merit <select id="merit">{asked}</select></label> {across}</p><p>{boxes}</p></form>'
    )


def _ticked(yes: bool) -> str:
    return " checked" if yes else ""


def _named(curve: Curve) -> str:
    return f"<b>{escape(curve.label)}</b>"


def _look(number: int) -> str:
    """The class of a curve: its colour and dashes."""
    return f"c{number % MOST}"


def _pictures_of(curves: Sequence[Curve], merit: str, *, first: bool) -> str:
    """The pictures of one merit: a row for every seven curves."""
    numbered = [(number, curve) for number, curve in enumerate(curves) if curve.lines]
    rows = []
    for begin in range(0, len(numbered), MOST):
        chunk = numbered[begin : begin + MOST]
        figures = "".join(_figure(chunk, merit, number) for number in range(len(_COORDINATES)))
        rows.append(f'<div class="pictures">{figures}</div>')
    head = f"<h2>{escape(merit.replace('_', ' '))}</h2>"
    return f'<section class="merit{"" if first else " later"}" data-merit="{escape(merit)}">{head}{"".join(rows)}</section>'


def _figure(chunk: Sequence[tuple[int, Curve]], merit: str, number: int) -> str:
    across = _COORDINATES[number]
    drawn = [
        Drawn(
            curve.label,
            place,
            [(across.value(curve, line), float(line["merits"][merit])) for line in curve.lines if merit in line["merits"]],
        )
        for place, curve in chunk
    ]
    targets = {curve.target for _, curve in chunk if curve.merits[:1] == [merit]}
    target = targets.pop() if len(targets) == 1 else None
    tick = (lambda value: f"{100 * value:.3g} %") if is_rate(merit) else (lambda value: f"{value:.3g}")
    picture = draw_lines(
        drawn, title=f"{merit} against {across.name}", across=across.name, tick_x=across.tick, tick_y=tick, target=target
    )
    return f'<figure data-across="{number}"{"" if number < _SHOWN else " class=more"}>{picture}</figure>'


def _table(curves: Sequence[Curve]) -> str:
    """One row for each curve."""
    merit = next((curve.merits[0] for curve in curves if curve.merits), "merit")
    heads = [
        "curve",
        "outcome",
        merit.replace("_", " "),
        "rounds",
        "iterations",
        "bytes up",
        "bytes down",
        "seconds",
        "rounds a second",
    ]
    rows = []
    for number, curve in enumerate(curves):
        cells = [number_cell(head, value, text) for head, (value, text) in zip(heads[2:], _numbers(curve, merit), strict=True)]
        name = f'<th scope="row" class="{_look(number)}">{_named(curve)}</th>'
        outcome = escape(_outcome(curve))
        rows.append(
            f'<tr>{name}<td class="verdict" data-head="outcome" data-value="{outcome}">{outcome}</td>{"".join(cells)}</tr>'
        )
    body = f"<thead><tr>{head_cells(heads)}</tr></thead><tbody>{''.join(rows)}</tbody>"
    about = "Bytes are those of a worker, the mean; seconds those of rounds, without the start of processes."
    if unknown := [curve.label for curve in curves if not curve.workers]:
        about += f" How many workers there are is not known yet of {', '.join(unknown)}: its bytes are those of all."
    about = escape(about)
    return (
        f'<section><h2>At the end, or now</h2><div class="wide"><table>{body}</table></div><p class=calm>{about}</p></section>'
    )


def _outcome(curve: Curve) -> str:
    if curve.result:
        reason = str(curve.result.get("reason"))
        return REASONS.get(reason, reason)
    if not curve.round:
        return "not yet begun"
    return f"running; {curve.waiting}" if curve.waiting else "running"


def _numbers(curve: Curve, merit: str) -> Iterator[tuple[float | None, str]]:
    last = curve.lines[-1] if curve.lines else None
    value = last["merits"].get(merit) if last else None
    yield (value, format_merit(merit, value)) if value is not None and math.isfinite(value) else (None, "-")
    yield curve.round, f"{curve.round:,}"
    if last is None:
        yield from [(None, "-")] * 5
        return
    yield last.get("iteration", 0), f"{last.get('iteration', 0):,}"
    for side in ("up_bytes", "down_bytes"):
        size = last[side] / curve.share
        yield size, format_bytes(size)
    seconds = max(0.0, last["elapsed_s"] - _start_s(curve))
    yield seconds, format_time(seconds)
    rate = last["round"] / seconds if seconds > 0 else None
    yield (rate, f"{rate:,.4g}") if rate is not None else (None, "-")


def _differences(curves: Sequence[Curve]) -> str:
    """Where settings differ, a row for each key; the rest, which all have in common, below."""
    keys = sorted({key for curve in curves for key in curve.settings})
    values = {key: [curve.settings.get(key, "") for curve in curves] for key in keys}
    differ = [key for key in keys if len({*values[key]}) > 1 and key != "method.label"]
    heads = "".join(f'<th scope="col" class="{_look(number)}">{_named(curve)}</th>' for number, curve in enumerate(curves))
    rows = "".join(f'<tr><th scope="row">{escape(key)}</th>{"".join(map(_setting, values[key]))}</tr>' for key in differ)
    common = "".join(
        f'<tr><th scope="row">{escape(key)}</th>{_setting(values[key][0])}</tr>' for key in keys if len({*values[key]}) == 1
    )
    head = f'<thead><tr><th scope="col">key</th>{heads}</tr></thead>'
    table = f'<div class="wide"><table class="plain">{head}<tbody>{rows}</tbody></table></div>'
    parts = [table] if differ else ["<p class=calm>They have the same settings.</p>"]
    if common:
        parts.append(
            f"<details><summary>What all have in common</summary><table class=plain><tbody>{common}</tbody></table></details>"
        )
    return f"<section><h2>Where settings differ</h2>{''.join(parts)}</section>"


def _setting(value: str) -> str:
    short = value if len(value) <= _LETTERS else f"{value[: _LETTERS - 1]}…"
    return f'<td title="{escape(value)}">{escape(short) or "-"}</td>'


def _shown(curves: Sequence[Curve]) -> Iterator[str]:
    """Pictures and texts of those that have some."""
    for number, curve in enumerate(curves):
        figures = "".join(
            f'<figure><img alt="{escape(name)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
            f"<figcaption>{escape(name.replace('_', ' '))}</figcaption></figure>"
            for name, png in curve.pictures.items()
        )
        tables = "".join(
            f'<h4>{escape(name.replace("_", " "))}</h4><div class="wide"><table class="plain">{_rows(rows)}</table></div>'
            for name, rows in curve.texts.items()
        )
        if figures or tables:
            head = f'<h3 class="{_look(number)}">{_named(curve)}</h3>'
            shows = f'<div class="pictures">{figures}</div>{tables}'
            yield f'<section data-curve="{number}"><h2>What it shows</h2>{head}{shows}</section>'


def _rows(rows: Sequence[Sequence[str]]) -> str:
    head, *rest = rows
    heads = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rest)
    return f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody>"
