"""Intervals in studies, replays and reports: what is counted, whose predictions they surround, and what is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.errors import ConfigError
from saddlebag.launch import cli
from saddlebag.launch.groupwise.recipe import groupwise_from_dict
from saddlebag.launch.groupwise.reports.report import summarise_recipe
from saddlebag.launch.groupwise.study import stream_study

if TYPE_CHECKING:
    from pathlib import Path


def table_of(tmp_path: Path, **intervals: Any) -> dict[str, Any]:
    """A recipe for 400 rows, a tenth of which is five times as noisy."""
    rng = np.random.default_rng(0)
    loud_N, x_N = rng.random(400) < 0.2, rng.random(400)
    y_N = np.clip(0.3 + 0.4 * x_N + rng.normal(size=400) * np.where(loud_N, 0.15, 0.03), 0.0, 1.0)
    rows = [
        f"{x:.4f},{'yes' if loud else 'no'},{10 + 40 * y:.4f},{10 + 40 * (0.3 + 0.4 * x):.4f}"
        for x, loud, y in zip(x_N, loud_N, y_N, strict=True)
    ]
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(["x,loud,y,mine", *rows]))
    return {
        "shuffles": [1, 2, 3],
        "data": {"source": str(path)},
        "features": {"numeric": ["x"], "intercept": True},
        "label": {"column": "y"},
        "groups": {"loud": 'loud == "yes"', "quiet": 'loud == "no"'},
        "learner": {"name": "ridge"},
        "intervals": intervals,
    }


def values_of(table: dict[str, Any], processes: int = 1) -> dict[str, Any]:
    recipe = groupwise_from_dict(table)
    stream, study = stream_study(recipe, processes=processes)
    return summarise_recipe(recipe, "t", stream, study)


@pytest.mark.parametrize("score", ["absolute", "scaled", "quantile"])
def test_every_group_is_covered_where_one_threshold_fails(tmp_path: Path, score: str) -> None:
    values = values_of(table_of(tmp_path, score=score))
    rows = {row["group"]: row for row in values["intervals"]["groups"]}
    assert not values["alarms"]
    assert values["intervals"]["identity"] < 1e-9
    assert rows["loud"]["one_threshold_coverage"]["mean"] < 0.7
    for row in rows.values():
        assert abs(row["coverage"]["mean"] - 0.9) < 0.1  # eight of the 81 loud rounds; the first know nothing
        assert abs(row["coverage"]["mean"] - 0.9) <= row["bound"]["mean"]
    assert rows["quiet"]["width"]["mean"] < rows["loud"]["width"]["mean"]


def test_several_targets_and_processes_give_the_same_numbers(tmp_path: Path) -> None:
    table = table_of(tmp_path, targets=[0.5, 0.9])
    one, two = values_of(table)["intervals"], values_of(table, processes=2)["intervals"]
    assert one == two
    by_target = {t: [r["width"]["mean"] for r in one["groups"] if r["target"] == t] for t in (0.5, 0.9)}
    assert all(narrow < wide for narrow, wide in zip(by_target[0.5], by_target[0.9], strict=True))


def test_intervals_go_around_a_column_of_predictions_in_units_of_the_label(tmp_path: Path) -> None:
    mine = values_of(table_of(tmp_path, prediction="mine"))["intervals"]
    assert mine["around"] == "mine"
    rows = {row["group"]: row for row in mine["groups"]}
    assert 3.0 < rows["quiet"]["width"]["mean"] < 6.0  # 2 x 1.645 x 0.03 x 40 = 3.9 for normal noise
    with pytest.raises(ConfigError, match=r"intervals\.prediction: 'y' is the label"):
        values_of(table_of(tmp_path, prediction="y"))
    with pytest.raises(ConfigError, match=r"intervals\.prediction: .* has no column 'theirs'"):
        values_of(table_of(tmp_path, prediction="theirs"))


def test_a_replay_takes_intervals_and_a_report_shows_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(2)
    lines = [json.dumps({"x": [1.0, x], "groups": ["a"] if x < 0.5 else [], "y": x}) for x in rng.random(60)]
    (tmp_path / "rounds.jsonl").write_text("\n".join(lines))
    out, replay = str(tmp_path / "out"), ["groupwise", "replay", str(tmp_path / "rounds.jsonl")]

    def ends(*arguments: str) -> object:
        with pytest.raises(SystemExit) as ended:
            cli.main(list(arguments))
        return ended.value.code

    assert ends(*replay, "--set", "intervals.targets=[0.8]", "--out", out) == 0
    capsys.readouterr()
    assert ends("groupwise", "report", out) == 0
    assert "hold 0.8 of each group's labels" in capsys.readouterr().out
    assert ends(*replay, "--set", "intervals.prediction=x") == 2
    assert "a replay takes of [intervals] targets, score, form, step only" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("intervals", "message"),
    [
        ({"targets": [1.5]}, r"intervals: targets must be numbers in \(0, 1\)"),
        ({"targets": []}, "intervals: targets must be"),
        ({"step": -1.0}, "intervals: step must be a positive number"),
        ({"score": "best"}, r"intervals\.score"),
        ({"level": 0.9}, r"intervals\.level"),
    ],
)
def test_what_is_no_interval_is_refused(tmp_path: Path, intervals: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        groupwise_from_dict(table_of(tmp_path, **intervals))
