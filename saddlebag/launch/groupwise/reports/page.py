"""A study as one page of HTML: a file without a network, that sorts, prints and reads on a phone.

Everything is in the file: style, a few lines of script, pictures as SVG. A policy in its head forbids any request. What comes
from recipes and data (names of groups, titles) is text and is escaped.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.launch.groupwise.alarms import sentence
from saddlebag.launch.groupwise.reports.plot import read_curves
from saddlebag.launch.groupwise.reports.report import CURVES, read_result
from saddlebag.launch.pages.drawing import Series, draw_curves, draw_dots
from saddlebag.launch.pages.frame import head_cells, number_cell, page
from saddlebag.proto.checkpoint import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from saddlebag.algorithms.groupwise.base import Array

PAGE = "report.html"
_MARKS = {"better": "▲ better", "worse": "▼ worse", "no clear difference": "● no clear difference"}


def write_page(folder: Path, out: Path | None = None) -> Path:
    """Write the page of a run's folder; returns its file.

    Raises:
        DataError: there is no result.
        StateError: the file cannot be written.
    """
    values, out = read_result(folder), out or folder / PAGE
    write_atomically(out, page_of(values, read_curves(folder / CURVES)).encode())
    return out


def page_of(values: Mapping[str, Any], curves: Mapping[str, Mapping[str, Array]]) -> str:
    """The page of a study's values and curves."""
    title = str(values["title"]) or "Groupwise study"
    said = "".join(f"<p>{escape(sentence)}</p>" for sentence in values.get("plain_words", ()))
    watch = values.get("watch", {})
    given = [*values["alarms"], *(sentence(row) for row in watch.get("given", ()))]
    alarms = "".join(f"<li>{escape(alarm)}</li>" for alarm in given)
    calm = f"No alarms. Watched: {', '.join(watch['kinds'])}." if watch else "No alarms."
    parts = [
        f"<header><h1>{escape(title)}</h1><p class=facts>{_facts(values)}</p></header><main>",
        f'<section class="words"><h2>What came of it</h2>{said or "<p>This result has no plain words.</p>"}</section>',
        f'<section class="alarms"><h2>Alarms</h2><ul>{alarms}</ul></section>'
        if alarms
        else f"<p class=calm>{escape(calm)}</p>",
        _table(values),
        _coverage(values),
        "<section><h2>Group by group</h2>",
        *(_group(values, row, curves.get(row["group"], {})) for row in values["groups"]),
        "</section></main>",
    ]
    return page(title, "\n".join(parts))


def _facts(values: Mapping[str, Any]) -> str:
    whole, orders = values["groups"][-1], values["orders"]
    count = values.get("of", len(values["groups"]) - 1)
    return (
        f"{whole['rounds']:,.0f} rounds, {count:,} groups, {orders} order{'s' if orders > 1 else ''} "
        f"of the rows. Charged: {escape(str(values['charge']))}. Regret is to the best fixed model for the group."
    )


def _table(values: Mapping[str, Any]) -> str:
    """All groups in one table; a click on a head sorts."""
    held, level = _by_group(values, "intervals"), _by_group(values, "calibration")
    heads = ["group", "than the single model", "rounds", "mean loss, constant", "mean loss, single model", "mean loss, ours"]
    heads += ["regret, single model", "regret, ours", "bound on regret"]
    if held:
        heads += ["label held", "with one threshold", "bound on the error", f"width, {values['intervals']['unit']}"]
    if level:
        heads += ["calibration error, single model", "calibration error, ours", "calibration error, calibrated"]
    rows = []
    for row in values["groups"]:
        name, count = row["group"], max(row["rounds"], 1e-300)
        numbers = [row["rounds"]]
        numbers += [row[key]["mean"] / count if key in row else None for key in ("constant_loss", "single_loss", "loss")]
        numbers += [row[key]["mean"] if row[key] else None for key in ("single_regret", "regret", "bound")]
        if held:
            numbers += [held[name][key]["mean"] for key in ("coverage", "one_threshold_coverage", "bound", "width")]
        if level:
            numbers += [level[name][f"{kind}_error"]["mean"] for kind in ("single", "ours", "calibrated")]
        cells = [number_cell(head, value, _number(value)) for head, value in zip(heads[2:], numbers, strict=True)]
        kind = row["verdict"].split()[0]
        mark = escape(_MARKS.get(row["verdict"], row["verdict"]))
        first = f'<th scope="row"><a href="#{_anchor(values, name)}">{escape(name)}</a></th>'
        second = f'<td class="verdict {kind}" data-head="{heads[1]}" data-value="{mark}">{mark}</td>'
        rows.append(f"<tr>{first}{second}{''.join(cells)}</tr>")
    body = f"<thead><tr>{head_cells(heads)}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return f'<section><h2>All groups</h2><div class="wide"><table>{body}</table></div></section>'


def _by_group(values: Mapping[str, Any], part: str) -> dict[str, Any]:
    """The rows of a part by group; of several targets the first."""
    rows: dict[str, Any] = {}
    for row in values.get(part, {}).get("groups", ()):
        rows.setdefault(row["group"], row)
    return rows


def _coverage(values: Mapping[str, Any]) -> str:
    """A picture for each target: where groups lie, by groups and with one threshold."""
    found = values.get("intervals")
    if not found:
        return ""
    parts = ["<section><h2>How often the label was held</h2>", _key("by groups (●)", "with one threshold for all (□)")]
    for target in found["targets"]:
        rows = [row for row in found["groups"] if row["target"] == target]
        dots = [(row["group"], row["coverage"]["mean"], row["one_threshold_coverage"]["mean"]) for row in rows]
        parts.append(f"<h3>{target:.4g} asked for</h3>")
        parts.append(draw_dots(dots, target, f"share of labels held, {target:.4g} asked for", ("by groups", "one threshold")))
    return "".join([*parts, "</section>"])


def _key(ours: str, single: str) -> str:
    return f'<p class="key"><span class="ours">{escape(ours)}</span> <span class="single">{escape(single)}</span></p>'


def _group(values: Mapping[str, Any], row: Mapping[str, Any], curve: Mapping[str, Array]) -> str:
    """One group's pictures."""
    name, pictures = row["group"], []
    if curve:
        clock_P = curve["round_of_group"].mean(axis=0)
        series = [
            Series(label, look, clock_P, *(getattr(curve[key], how)(axis=0) for how in ("mean", "min", "max")))
            for key, label, look in (("single_regret", "single model", "single"), ("regret", "ours", "ours"))
        ]
        drawn = draw_curves(
            series, f"regret on {name}", across="rounds of the group", up="regret to the best fixed model so far"
        )
        pictures.append(f"<figure>{drawn}<figcaption>{_key('ours (full line)', 'single model (dashes)')}</figcaption></figure>")
    level = _by_group(values, "calibration").get(name)
    if level:
        drawn = draw_curves(
            [_levels(level, "single"), _levels(level, "calibrated")],
            f"calibration on {name}",
            across="predicted",
            up="observed",
            diagonal=True,
        )
        pictures.append(f"<figure>{drawn}<figcaption>{_key('ours, calibrated', 'single model')}</figcaption></figure>")
    head = f"{escape(name)} <small>{row['rounds']:,.0f} rounds, {escape(_MARKS.get(row['verdict'], row['verdict']))}</small>"
    return f'<article id="{_anchor(values, name)}"><h3>{head}</h3><div class="pictures">{"".join(pictures)}</div></article>'


def _levels(level: Mapping[str, Any], kind: str) -> Series:
    """Predicted against observed, with two standard errors of a share as the band."""
    points = level[f"{kind}_levels"]
    rounds_P, x_P, y_P = (np.array(points[key]) for key in ("rounds", "predicted", "observed"))
    error_P = 2.0 * np.sqrt(np.clip(y_P * (1.0 - y_P), 0.0, None) / np.maximum(rounds_P, 1.0))
    low_P, high_P = np.clip(y_P - error_P, 0.0, 1.0), np.clip(y_P + error_P, 0.0, 1.0)
    return Series(
        kind, "ours" if kind == "calibrated" else "single", np.clip(x_P, 0.0, 1.0), np.clip(y_P, 0.0, 1.0), low_P, high_P
    )


def _anchor(values: Mapping[str, Any], name: str) -> str:
    return f"g{next(number for number, row in enumerate(values['groups']) if row['group'] == name)}"


def _number(value: float | None) -> str:
    if value is None or not np.isfinite(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.4g}".rstrip(".")
