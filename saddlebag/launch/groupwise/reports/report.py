"""Reports of a study: a row for each group, with regret, bound and verdict; as a table, CSV and JSON.

Regret is to the best fixed model of the group in hindsight (linear, without a penalty), in the group's own rounds. Negative
values are real: experts are mixed per round, and the mixture can beat every single model.
"""

from __future__ import annotations

import csv
import io
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from saddlebag.algorithms.groupwise import LOSSES
from saddlebag.algorithms.groupwise.ledger import judge
from saddlebag.errors import DataError
from saddlebag.launch.groupwise.alarms import alarm_values, print_alarms, watch_of
from saddlebag.launch.groupwise.calibration import calibration_values, print_calibration
from saddlebag.launch.groupwise.intervals import interval_values, print_intervals
from saddlebag.launch.groupwise.recipe import make_algorithm
from saddlebag.launch.groupwise.reports.rivals import plain_words, print_rivals, rivals_of
from saddlebag.launch.groupwise.reports.shown import listed, shown
from saddlebag.launch.ownership import holds_service
from saddlebag.proto.checkpoint import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from saddlebag.algorithms.groupwise.base import Array
    from saddlebag.algorithms.groupwise.ledger import Alarm
    from saddlebag.launch.groupwise.data.stream import RoundStream
    from saddlebag.launch.groupwise.recipe import GroupwiseRecipe
    from saddlebag.launch.groupwise.study import Study

__all__ = ["CURVES", "GROUPS", "RESULT"]

RESULT, GROUPS, CURVES = "result.json", "groups.csv", "curves.csv"
FORMAT = "saddlebag groupwise 1"
_SIGMAS = 2.0  # of the paired difference's standard error
_ROUNDING = 1e-9  # relative
_WIDTH = 124  # of the table; a narrower terminal wraps lines rather than lose digits


def verdict(ours_S: Array, single_S: Array) -> str:
    """Whether a group is better or worse off than under the single model, from losses paired by order.

    "better" or "worse" when the mean difference exceeds two standard errors (with one order: rounding), "not a number" where
    a loss is none, else "no clear difference". Orders of one data set are no independent samples; the verdict is about the
    order of arrival.
    """
    difference_S = ours_S - single_S
    if not np.isfinite(difference_S).all():
        return "not a number"
    mean, count = float(difference_S.mean()), len(difference_S)
    error = float(difference_S.std(ddof=1)) / math.sqrt(count) if count > 1 else 0.0
    if abs(mean) <= max(_SIGMAS * error, _ROUNDING * float(np.abs(single_S).max())):
        return "no clear difference"
    return "better" if mean < 0 else "worse"


def summarise(title: str, groups: tuple[str, ...], study: Study, *, charge: str) -> dict[str, Any]:
    """The study as plain values; means and deviations (ddof 0, as published) over the orders."""
    rows = []
    for g, name in enumerate(groups):
        single_S, ours_S, own_S, best_S = (
            values[:, g] for values in (study.single_SG, study.ours_SG, study.own_SG, study.best_SG)
        )
        bound_S = study.meta_bound_SG[:, g] + study.learner_bound_SG[:, g]
        rows.append(
            {
                "group": name,
                "rounds": float(study.rounds_SG[:, g].mean()),
                "single_regret": _spread(single_S - best_S),
                "regret": _spread(ours_S - best_S),
                "best_loss": _spread(best_S),
                "single_loss": _spread(single_S),
                "loss": _spread(ours_S),
                "own_learner_loss": _spread(own_S),
                "meta_regret": _spread(ours_S - own_S),
                "meta_bound": _spread(study.meta_bound_SG[:, g]),
                "bound": _spread(bound_S) if np.isfinite(bound_S).all() else None,
                "within_meta_bound": bool((ours_S - own_S <= study.meta_bound_SG[:, g] * (1 + _ROUNDING) + _ROUNDING).all()),
                "verdict": verdict(ours_S, single_S),
            }
        )
    return {
        "format": FORMAT,
        "title": title,
        "charge": charge,
        "orders": len(study.played_S),
        "groups": rows,
        "single_loss": _spread(study.single_SG[:, -1]),
        "loss_played": _spread(study.played_S),
        "loss_expected": _spread(study.expected_S),
        "fell_back": _spread(study.fell_back_S),
        "largest_regret_of_a_round": float(study.largest.max()),
        "invariant_slack": float(study.slack.max()),
        "alarms": _alarms(groups, study),
    }


def summarise_recipe(recipe: GroupwiseRecipe, title: str, stream: RoundStream, study: Study) -> dict[str, Any]:
    """`summarise`, with what else the recipe asks for."""
    values = summarise(title, stream.groups, study, charge=recipe.mixing.charge)
    rivals = rivals_of(stream, LOSSES[recipe.mixing.loss](), is_log=recipe.mixing.loss == "log")
    for row, constant, fixed in zip(values["groups"], rivals.constant_G, rivals.fixed_G, strict=True):
        row |= {"constant_loss": {"mean": float(constant), "sd": 0.0}, "fixed_loss": {"mean": float(fixed), "sd": 0.0}}
    values["plain_words"] = plain_words(values)
    if study.calibration is not None:
        values["calibration"] = calibration_values(study.calibration, stream.groups)
    if recipe.intervals is not None and study.intervals is not None:
        values["intervals"] = interval_values(recipe.intervals, study.intervals, stream)
        values["alarms"] += values["intervals"].pop("alarms")
    algorithm = make_algorithm(recipe, stream.x_ND.shape[1], len(stream.groups))
    if study.alarms is not None and (watch := watch_of(recipe, algorithm, stream)) is not None:
        values["watch"] = alarm_values(watch, study.alarms, stream.groups)
    return values


def _spread(values_S: Array) -> dict[str, float]:
    return {"mean": float(values_S.mean()), "sd": float(values_S.std())}


def _alarms(groups: tuple[str, ...], study: Study) -> list[str]:
    """What the theory rules out: then losses left their range, or the accounts are broken."""
    judged = judge(
        declared=float(study.declared.max()),
        largest=float(study.largest.max()),
        rounds=float(study.rounds_SG.max()),
        slack=study.slack,
        charged_E=study.ours_SG.ravel(),
        own_E=study.own_SG.ravel(),
        bound_E=study.meta_bound_SG.ravel(),
    )
    found = [_named(alarm, groups) for alarm in judged]
    over_SG = np.isfinite(study.learner_bound_SG) & ~(study.learner_excess_SG <= 1e-6 * (1.0 + study.own_SG))
    for g in np.flatnonzero(over_SG.any(axis=0)).tolist():
        excess = study.learner_excess_SG[:, g].max()
        found.append(f"{groups[g]}: its learner's regret exceeds the learner's proven bound by {excess:.4g}")
    totals = np.stack((study.played_S, study.expected_S, study.best_SG.sum(axis=1)))
    if not np.isfinite(totals).all():
        found.append("total losses are not finite")
    return found


def _named(alarm: Alarm, groups: tuple[str, ...]) -> str:
    """An alarm whose experts are groups, order after order; those of the invariant are orders."""
    names = dict.fromkeys(groups[e % len(groups)] for e in alarm.experts) if alarm.what != "invariant" else ()
    return f"{listed(list(names))}: {alarm.message}" if names else alarm.message


def write_result(folder: Path, values: dict[str, Any], groups: tuple[str, ...], study: Study) -> None:
    """Write result.json (what is shown), groups.csv (all groups) and curves.csv (of groups that have some)."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / RESULT, (json.dumps(shown(values), indent=1) + "\n").encode())
        write_atomically(folder / GROUPS, _groups_csv(values).encode())
        write_atomically(folder / CURVES, _curves_csv(groups, study).encode())
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error.strerror}") from error


def _groups_csv(values: dict[str, Any]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    rows = values["groups"]
    spreads = [key for key, value in rows[0].items() if isinstance(value, dict) or key == "bound"]
    writer.writerow(["group", "rounds", *(f"{key}_{part}" for key in spreads for part in ("mean", "sd")), "verdict"])
    for row in rows:
        cells = [(row[key] or {"mean": "", "sd": ""})[part] for key in spreads for part in ("mean", "sd")]
        writer.writerow([row["group"], row["rounds"], *cells, row["verdict"]])
    return out.getvalue()


def _curves_csv(groups: tuple[str, ...], study: Study) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["group", "order", "round_of_group", "single_regret", "regret"])
    S, _, P = study.clock_SGP.shape
    drawn = groups if study.drawn_G is None else [name for name, kept in zip(groups, study.drawn_G, strict=True) if kept]
    for g, name in enumerate(drawn):
        for s in range(S):
            for p in range(P):
                values = (study.clock_SGP[s, g, p], study.single_curve_SGP[s, g, p], study.ours_curve_SGP[s, g, p])
                writer.writerow([name, s, *(f"{value:.9g}" for value in values)])
    return out.getvalue()


def read_result(folder: Path) -> dict[str, Any]:
    """The values that `write_result` wrote.

    Raises:
        DataError: there are none, or the file is something else.
    """
    path = folder / RESULT if folder.is_dir() else folder
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        if folder.is_dir() and holds_service(folder):
            raise DataError(
                f"{folder} holds the state of 'saddlebag groupwise serve', not a study; a client's report() asks the service, "
                "and --metrics answers Prometheus"
            ) from error
        raise DataError(f"{path}: cannot be read: {error.strerror}; give the folder of a groupwise run") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON: {error}") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise DataError(f"{path}: not the result of a groupwise run")
    return values


def print_report(values: dict[str, Any]) -> None:
    """The table for people."""
    console = Console(highlight=False)
    if console.width < _WIDTH:
        console = Console(highlight=False, width=_WIDTH)
    values = shown(values)
    table = _empty(values["title"] or None)
    styles = {"better": "green", "worse": "red", "not a number": "red"}
    for row in values["groups"]:
        cells = [_show(row[key]) for key in ("single_regret", "regret")]
        numbers = [_mean(row[key]) for key in ("best_loss", "meta_regret", "meta_bound", "bound")]
        colour = styles.get(row["verdict"], "")
        judged = f"[{colour}]{row['verdict']}[/]" if colour else row["verdict"]
        table.add_row(row["group"], f"{row['rounds']:,.0f}", *cells, *numbers, judged)
    console.print(table)
    single, played, expected = (values[key]["mean"] for key in ("single_loss", "loss_played", "loss_expected"))
    lower = f", {abs(1 - played / single):.1%} {'less' if played <= single else 'more'}" if single > 0 else ""
    console.print(
        f"total loss: single model {single:.2f}; mixture {played:.2f}{lower}; expected loss of sampling {expected:.2f} "
        f"(charged: {values['charge']}); {values['orders']} order{'s' if values['orders'] > 1 else ''}"
    )
    worse = [row["group"] for row in values["groups"] if row["verdict"] == "worse"]
    console.print(f"worse off than under the single model: {listed(worse) or 'no group'}")
    if "of" in values:
        console.print(f"shown: the worst and best off and the largest of {values['of']:,} groups; all are in {GROUPS}")
    if "plain_words" in values:
        print_rivals(console, values)
    rounds = {row["group"]: row["rounds"] for row in values["groups"]}
    if "calibration" in values:
        print_calibration(console, values["calibration"], rounds)
    if "intervals" in values:
        print_intervals(console, values["intervals"], rounds)
    if "watch" in values:
        print_alarms(console, values["watch"])
    for alarm in values["alarms"]:
        console.print(f"[bold red]alarm[/]: {alarm}")


def _empty(title: str | None) -> Table:
    """The heads of the columns."""
    style: Any = {"box": None, "pad_edge": False, "padding": (0, 1, 0, 0), "header_style": "bold", "title_justify": "left"}
    table = Table(title=title, **style)
    table.add_column("group", no_wrap=True)
    names = (
        "rounds",
        "regret of the\nsingle model",
        "regret,\nours",
        "best\nloss",
        "to own\nlearner",
        "its\nbound",
        "regret\nbound",
    )
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("than the\nsingle model", no_wrap=True)
    return table


def _show(spread: dict[str, float]) -> str:
    return f"{spread['mean']:.3f} ± {spread['sd']:.3f}"


def _mean(spread: dict[str, float] | None) -> str:
    return "-" if spread is None else f"{spread['mean']:.3f}"
