"""Alarms of a study: what is watched, round by round in each order, and when each group's first alarms came.

Shapes: N = rounds, S = orders, K = kinds, G = groups, M = targets.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms.groupwise import Seen, Watch, cell_edges
from saddlebag.errors import ConfigError
from saddlebag.launch.recipe.fields import at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from saddlebag.algorithms.groupwise import Groupwise
    from saddlebag.algorithms.groupwise.base import Array
    from saddlebag.launch.groupwise.data.stream import RoundStream
    from saddlebag.launch.groupwise.recipe import GroupwiseRecipe

SAID = {
    "worse": "worse off than under the single model",
    "coverage": "coverage left its margin",
    "calibration": "calibration drifted",
    "features": "features drifted",
}
"""An alarm of a kind, in words."""


@dataclasses.dataclass(frozen=True, eq=False)
class AlarmStudy:
    """First alarms.

    Attributes:
        first_SKG: the round of each order's first alarm of a kind on a group, from 1; 0 for none.
    """

    first_SKG: Array


def watch_of(recipe: GroupwiseRecipe, algorithm: Groupwise, stream: RoundStream) -> Watch | None:
    """What a recipe watches; None without [alarms].

    Raises:
        ConfigError: a kind is asked for that the recipe does not allow.
    """
    table = recipe.alarms
    if table is None:
        return None
    labels, targets = algorithm.label_interval, tuple(recipe.intervals.targets) if recipe.intervals is not None else ()
    span = labels if labels is not None and algorithm.interval is not None else None
    loss_range = algorithm.loss.range(span) if span is not None else math.inf
    reasons = {
        "worse": "" if math.isfinite(loss_range) else "needs losses with a range: label.interval and mixing.clip",
        "coverage": "" if targets else "needs [intervals]",
        "calibration": "" if labels is not None and labels[0] >= 0.0 and labels[1] <= 1.0 else "needs label.interval in [0, 1]",
        "features": "",
    }
    for kind in table.kinds:
        if reasons.get(kind):
            raise ConfigError(f"alarms.kinds: {kind!r} {reasons[kind]}")
    with at("alarms"):
        return Watch(
            kinds=tuple(table.kinds) or tuple(kind for kind, reason in reasons.items() if not reason),
            rate=table.rate,
            loss_range=loss_range if math.isfinite(loss_range) else 1.0,
            targets=targets,
            margin=table.margin,
            tolerance=table.tolerance,
            levels=table.levels,
            edges=cell_edges(stream.x_ND),
        )


def study_alarms(
    watch: Watch, streams: Sequence[RoundStream], excess_NS: Array, value_NS: Array, missed_NSM: Array | None
) -> AlarmStudy:
    """Watch some orders.

    Args:
        watch: what is watched.
        streams: the orders.
        excess_NS: our loss less the single model's.
        value_NS: predictions as they were given out.
        missed_NSM: whether intervals missed the label.
    """
    first = []
    for s, stream in enumerate(streams):
        state = watch.init(len(stream.groups))
        for t in range(len(stream.y_N)):
            seen = Seen(
                awake_G=stream.awake_NG[t],
                x_D=stream.x_ND[t],
                p=float(value_NS[t, s]),
                y=float(stream.y_N[t]),
                excess=float(excess_NS[t, s]),
                missed_M=None if missed_NSM is None else missed_NSM[t, s],
            )
            watch.see(state, seen)
        first.append(state.first_KG)
    return AlarmStudy(np.stack(first))


def alarm_values(watch: Watch, study: AlarmStudy, groups: tuple[str, ...]) -> dict[str, Any]:
    """Plain values: what was watched, and a row for each kind and group that gave an alarm."""
    rows = []
    for k, kind in enumerate(watch.kinds):
        for g, name in enumerate(groups):
            first_S = study.first_SKG[:, k, g]
            if (given := first_S[first_S > 0]).size:
                rows.append({"group": name, "kind": kind, "first": given.astype(int).tolist(), "orders": len(first_S)})
    return {"kinds": list(watch.kinds), "rate": watch.rate, "given": rows}


def sentence(row: dict[str, Any]) -> str:
    """An alarm in words.

    Example:
        >>> sentence({"group": "young", "kind": "features", "first": [312], "orders": 1})
        'young: features drifted, first alarm in round 312'
    """
    first = sorted(row["first"])
    when = f"round {first[0]:,}" if len(first) == 1 else f"rounds {first[0]:,} to {first[-1]:,}"
    orders = f" ({len(first)} of {row['orders']} orders)" if row["orders"] > 1 else ""
    return f"{row['group']}: {SAID[row['kind']]}, first alarm in {when}{orders}"


def print_alarms(console: Console, values: dict[str, Any]) -> None:
    """A line for each alarm, or that there was none."""
    console.print(
        f"\nwatched at all times: {', '.join(values['kinds'])}; any false alarm on a stream has a probability of at most "
        f"{values['rate']:.4g}"
    )
    for row in values["given"]:
        console.print(f"[bold red]alarm[/]: {sentence(row)}")
    if not values["given"]:
        console.print("no alarm")
