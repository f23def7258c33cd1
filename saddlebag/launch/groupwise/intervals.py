"""Intervals of a study: thresholds by groups beside one threshold for all, around the same predictions.

"One threshold" is the same rule with a single group, that of all rounds: what a team has that calibrates over all its data.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table

from saddlebag.algorithms.groupwise import Intervals, Scorer, cover_recorded
from saddlebag.algorithms.groupwise.coverage.scores import Frame, recorded_frames

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from saddlebag.algorithms.groupwise.base import Array
    from saddlebag.algorithms.groupwise.losses import Interval
    from saddlebag.launch.groupwise.data.stream import RoundStream
    from saddlebag.launch.groupwise.recipe import GroupwiseRecipe
    from saddlebag.launch.groupwise.tables.interval_table import IntervalTable

_IDENTITY = 1e-9
_STYLE: Any = {"box": None, "pad_edge": False, "padding": (0, 1, 0, 0), "header_style": "bold", "title_justify": "left"}


@dataclasses.dataclass(frozen=True, eq=False)
class IntervalStudy:
    """What came of intervals; S orders, M targets, G groups with the always-on group last.

    Attributes:
        coverage_SMG, width_SMG: by groups: share of a group's rounds whose label was held, and the mean width.
        one_coverage_SMG, one_width_SMG: the same with one threshold for all.
        bound_SMG: proven bound on |coverage - target|.
        identity_SM: largest difference between the misses counted here and those that the thresholds' state tells.
    """

    coverage_SMG: Array
    width_SMG: Array
    one_coverage_SMG: Array
    one_width_SMG: Array
    bound_SMG: Array
    identity_SM: Array


def study_intervals(
    table: IntervalTable, streams: Sequence[RoundStream], value_NS: Array, labels: Interval | None
) -> tuple[IntervalStudy, Array]:
    """Intervals around the predictions of some orders (or around the user's own, where the table names a column).

    Returns what came of them, and whether each missed its label, shape (N, S, M).
    """
    rule, targets = table.rule(), tuple(table.targets)
    frames = []
    for s, stream in enumerate(streams):
        z_N = value_NS[:, s] if stream.given_N is None else stream.given_N
        frames.append(recorded_frames(table.score, stream.x_ND, z_N, stream.y_N, targets))
    frame_NS = Frame(*(np.stack([getattr(frame, name) for frame in frames], axis=1) for name in ("low_M", "high_M", "scale_M")))
    y_NS = np.column_stack([stream.y_N for stream in streams])
    awake_NSG = np.stack([stream.awake_NG for stream in streams], axis=1)
    binary = bool(np.isin(y_NS, (0.0, 1.0)).all())
    shares = []
    for member_NSG in (awake_NSG, awake_NSG[..., -1:]):
        covered = cover_recorded(rule, frame_NS, y_NS, member_NSG, labels)
        shares.append((covered, _means(1.0 - covered.missed_NSM, awake_NSG), _means(covered.widths(binary=binary), awake_NSG)))
    (ours, coverage_SMG, width_SMG), (_, one_coverage_SMG, one_width_SMG) = shares
    counted_SMG = rule.miss_M[:, None] + rule.error(ours.state) - (1.0 - coverage_SMG)
    identity_SM = np.abs(counted_SMG).max(axis=-1)
    bound_SMG = rule.bound(ours.state)
    study = IntervalStudy(coverage_SMG, width_SMG, one_coverage_SMG, one_width_SMG, bound_SMG, identity_SM)
    return study, ours.missed_NSM


def intervals_of(recipe: GroupwiseRecipe, stream: RoundStream) -> Intervals | None:
    """The intervals that a service or a block gives out, if the recipe asks for them; labels that are 0 and 1 get sets."""
    if recipe.intervals is None:
        return None
    table, rule = recipe.intervals, recipe.intervals.rule()
    return Intervals(
        rule=rule,
        scorer=Scorer(name=table.score, dimension=len(stream.features), targets=rule.targets),
        labels=None if recipe.label.interval == "any" else (float(recipe.label.interval[0]), float(recipe.label.interval[1])),
        binary=bool(np.isin(stream.y_N, (0.0, 1.0)).all()),
    )


def _means(value_NSM: Array, awake_NSG: Array) -> Array:
    """Means over each group's rounds; shape (S, M, G)."""
    total_SMG: Array = np.einsum("nsm,nsg->smg", value_NSM, awake_NSG)
    mean_SMG: Array = total_SMG / awake_NSG.sum(axis=0)[:, None, :]
    return mean_SMG


def interval_values(table: IntervalTable, study: IntervalStudy, stream: RoundStream) -> dict[str, Any]:
    """The intervals as plain values: means and deviations over the orders, widths in units of the label's column."""
    label = stream.meaning.get("label", {})
    unit = float(label.get("high", 1.0)) - float(label.get("low", 0.0))
    binary = bool(np.isin(stream.y_N, (0.0, 1.0)).all())
    rows = [
        {
            "group": name,
            "target": target,
            "coverage": _spread(study.coverage_SMG[:, m, g]),
            "one_threshold_coverage": _spread(study.one_coverage_SMG[:, m, g]),
            "width": _spread(study.width_SMG[:, m, g] * (1.0 if binary else unit)),
            "one_threshold_width": _spread(study.one_width_SMG[:, m, g] * (1.0 if binary else unit)),
            "bound": _spread(study.bound_SMG[:, m, g]),
        }
        for m, target in enumerate(table.targets)
        for g, name in enumerate(stream.groups)
    ]
    identity = float(study.identity_SM.max())
    return {
        "score": table.score,
        "form": table.form,
        "around": table.prediction or "our predictions",
        "binary": binary,
        "unit": "labels" if binary else str(label.get("column", "label")),
        "targets": list(table.targets),
        "groups": rows,
        "identity": identity,
        "alarms": [] if identity <= _IDENTITY else [f"the counts of misses and the thresholds differ by {identity:.3g}"],
    }


def _spread(values_S: Array) -> dict[str, float]:
    return {"mean": float(values_S.mean()), "sd": float(values_S.std())}


def print_intervals(console: Console, values: dict[str, Any], rounds: dict[str, float]) -> None:
    """The table for people, a part for each target."""
    for target in values["targets"]:
        rows = [row for row in values["groups"] if row["target"] == target]
        what = "sets of labels" if values["binary"] else "intervals"
        title = f"\n{what} around {values['around']} that hold {target:.4g} of each group's labels (score: {values['score']})"
        table = Table(title=title, **_STYLE)
        table.add_column("group", no_wrap=True)
        width = "labels\nin it" if values["binary"] else f"width,\n{values['unit']}"
        for name in ("rounds", "held,\nby groups", "held, one\nthreshold", width, "with one\nthreshold", "error", "its\nbound"):
            table.add_column(name, justify="right", no_wrap=True)
        for row in rows:
            held, one = row["coverage"]["mean"], row["one_threshold_coverage"]["mean"]
            colour = "red" if abs(one - target) > 0.05 else ""
            table.add_row(
                row["group"],
                f"{rounds[row['group']]:,.0f}",
                f"{held:.4f} ± {row['coverage']['sd']:.4f}",
                f"[{colour}]{one:.4f}[/]" if colour else f"{one:.4f}",
                f"{row['width']['mean']:.4g}",
                f"{row['one_threshold_width']['mean']:.4g}",
                f"{held - target:+.4f}",
                f"{min(row['bound']['mean'], 1.0):.4f}",
            )
        console.print(table)
        console.print(_summary(rows, target))


def _summary(rows: list[dict[str, Any]], target: float) -> str:
    """The worst groups, and what the intervals of groups cost in width."""
    ours, one = (max(rows, key=lambda row: abs(row[key]["mean"] - target)) for key in ("coverage", "one_threshold_coverage"))
    wide = rows[-1]["width"]["mean"] / max(rows[-1]["one_threshold_width"]["mean"], 1e-300) - 1.0
    held, one_held = ours["coverage"]["mean"], one["one_threshold_coverage"]["mean"]
    return (
        f"farthest from {target:.4g}: {ours['group']} with {held:.4f}; with one threshold {one['group']} with {one_held:.4f}. "
        f"Mean width {wide:+.1%}"
    )
