"""Calibration of a study: our probabilities, those of the single model, and ours corrected for every group and level."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table

from saddlebag.algorithms.groupwise import calibrate_recorded, calibration_cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from saddlebag.algorithms.groupwise import Loss
    from saddlebag.algorithms.groupwise.base import Array
    from saddlebag.launch.groupwise.data.stream import RoundStream
    from saddlebag.launch.groupwise.tables.calibration_table import CalibrationTable

_STYLE: Any = {"box": None, "pad_edge": False, "padding": (0, 1, 0, 0), "header_style": "bold", "title_justify": "left"}
KINDS = ("single", "ours", "calibrated")


@dataclasses.dataclass(frozen=True, eq=False)
class CalibrationStudy:
    """What came of it; S orders, P = 3 kinds of predictions (`KINDS`), G groups, B levels of the prediction.

    Attributes:
        rounds_SPGB, predicted_SPGB, label_SPGB: of each cell: rounds, and sums of predictions and of labels.
        loss_SPG: total losses.
        bound_SG: proven bound on the calibration error of the group's largest cell (levels of our prediction).
    """

    rounds_SPGB: Array
    predicted_SPGB: Array
    label_SPGB: Array
    loss_SPG: Array
    bound_SG: Array


def study_calibration(
    table: CalibrationTable, streams: Sequence[RoundStream], single_NS: Array, value_NS: Array, loss: Loss
) -> CalibrationStudy:
    """Correct the predictions of some orders."""
    rule, cells, losses, bounds = table.rule(), [], [], []
    for s, stream in enumerate(streams):
        base_N = np.clip(value_NS[:, s], 0.0, 1.0)
        p_N, state = calibrate_recorded(rule, base_N, stream.y_N, stream.awake_NG)
        kinds = (single_NS[:, s], value_NS[:, s], p_N)
        cells.append([calibration_cells(q_N, stream.y_N, stream.awake_NG, table.bins) for q_N in kinds])
        losses.append([loss.value(q_N, stream.y_N) @ stream.awake_NG for q_N in kinds])
        bounds.append(rule.bound(state).min(axis=1))
    rounds_SPGB, predicted_SPGB, label_SPGB = (
        np.array([[kind[part] for kind in order] for order in cells]) for part in range(3)
    )
    return CalibrationStudy(rounds_SPGB, predicted_SPGB, label_SPGB, np.array(losses), np.array(bounds))


def calibration_values(study: CalibrationStudy, groups: tuple[str, ...]) -> dict[str, Any]:
    """Plain values: for each group the mean |mean of y - p| over its levels, weighted by rounds, and the levels themselves."""
    gap_SPGB = np.abs(study.label_SPGB - study.predicted_SPGB)
    rounds_SPG = study.rounds_SPGB.sum(axis=3)
    error_SPG = gap_SPGB.sum(axis=3) / np.maximum(rounds_SPG, 1e-300)
    totals = [part.sum(axis=0) for part in (study.rounds_SPGB, study.predicted_SPGB, study.label_SPGB)]
    rows = []
    for g, name in enumerate(groups):
        row: dict[str, Any] = {"group": name, "bound": _spread(study.bound_SG[:, g])}
        for k, kind in enumerate(KINDS):
            row[f"{kind}_error"], row[f"{kind}_loss"] = _spread(error_SPG[:, k, g]), _spread(study.loss_SPG[:, k, g])
            rounds_B, predicted_B, label_B = (total[k, g] for total in totals)
            seen = rounds_B > 0
            row[f"{kind}_levels"] = {
                "rounds": (rounds_B[seen] / len(study.bound_SG)).tolist(),
                "predicted": (predicted_B[seen] / rounds_B[seen]).tolist(),
                "observed": (label_B[seen] / rounds_B[seen]).tolist(),
            }
        rows.append(row)
    return {"bins": study.rounds_SPGB.shape[3], "groups": rows}


def _spread(values_S: Array) -> dict[str, float]:
    return {"mean": float(values_S.mean()), "sd": float(values_S.std())}


def print_calibration(console: Console, values: dict[str, Any], rounds: dict[str, float]) -> None:
    """The table for people."""
    table = Table(title=f"\ncalibration: mean |label - prediction| over {values['bins']} levels, and mean loss", **_STYLE)
    table.add_column("group", no_wrap=True)
    heads = ("rounds", "single\nmodel", "ours", "ours,\ncalibrated", "loss,\nsingle", "loss,\nours", "loss,\ncalibrated")
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    for row in values["groups"]:
        count = rounds[row["group"]]
        errors = [f"{row[f'{kind}_error']['mean']:.4f}" for kind in KINDS]
        losses = [f"{row[f'{kind}_loss']['mean'] / max(count, 1e-300):.5f}" for kind in KINDS]
        table.add_row(row["group"], f"{count:,.0f}", *errors, *losses)
    console.print(table)
