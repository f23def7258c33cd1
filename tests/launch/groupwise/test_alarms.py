"""Alarms in studies, reports, pages and services: the same rounds, silent where nothing happens."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.client.groupwise.requests import table_request, values_request
from saddlebag.errors import ConfigError, StateError
from saddlebag.launch import cli
from saddlebag.launch.groupwise.recipe import load_groupwise
from saddlebag.launch.groupwise.reports.page import page_of
from saddlebag.launch.groupwise.reports.report import summarise_recipe
from saddlebag.launch.groupwise.serving import make_parts
from saddlebag.launch.groupwise.study import stream_study
from saddlebag.server.groupwise.service import GroupwiseService

if TYPE_CHECKING:
    from pathlib import Path

RECIPE = """
[data]
source = "rows.csv"
[features]
numeric = ["x"]
intercept = true
[label]
column = "y"
scale = "none"
[groups]
early = "x < 0.5"
[intervals]
[alarms]
"""
ROUNDS = 600


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """In the second half the group's rows lie elsewhere."""
    rng = np.random.default_rng(0)
    x_N, late_N = rng.random(ROUNDS), np.arange(ROUNDS) >= 300
    x_N = np.where(late_N & (x_N < 0.5), 0.3 * x_N, x_N)
    y_N = np.clip(0.2 + 0.5 * x_N + 0.05 * rng.normal(size=ROUNDS), 0.0, 1.0)
    (tmp_path / "rows.csv").write_text("\n".join(["x,y", *(f"{x:.5f},{y:.5f}" for x, y in zip(x_N, y_N, strict=True))]) + "\n")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return tmp_path / "recipe.toml"


def values_of(recipe: Path, *sets: str, processes: int = 1) -> dict[str, Any]:
    loaded, _ = load_groupwise(recipe, list(sets))
    stream, study = stream_study(loaded, processes=processes)
    return summarise_recipe(loaded, "t", stream, study)


def test_a_study_in_the_order_of_the_file_tells_what_drifted_and_when(recipe: Path) -> None:
    values = values_of(recipe)
    assert values["watch"]["kinds"] == ["worse", "coverage", "calibration", "features"]
    given = {(row["kind"], row["group"]): row["first"] for row in values["watch"]["given"]}
    assert set(given) == {("features", "early")}  # of all rows too few lie elsewhere
    assert all(300 < first[0] < 500 for first in given.values())
    assert "early: features drifted, first alarm in round" in page_of(values, {})


def test_shuffled_rows_give_no_alarm_and_processes_the_same_numbers(recipe: Path) -> None:
    one, two = (values_of(recipe, "shuffles=[1,2]", processes=processes)["watch"] for processes in (1, 2))
    assert one == two
    assert one["given"] == []


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (
            ['alarms.kinds=["coverage"]', "intervals.targets=[0.95]", "alarms.margin=0.06"],
            r"alarms: margin must lie in \(0, 0.05\)",
        ),
        (['alarms.kinds=["louder"]'], "alarms: kinds must be"),
        (["alarms.rate=0"], r"alarms: rate must lie in \(0, 1\), got 0"),
        (
            ['alarms.kinds=["worse"]', "mixing.clip=false", "mixer.name=solo"],
            r"alarms\.kinds: 'worse' needs losses with a range",
        ),
        (
            ['alarms.kinds=["calibration"]', "label.interval=[0,2]"],
            r"alarms\.kinds: 'calibration' needs label\.interval in \[0, 1\]",
        ),
    ],
)
def test_what_cannot_be_watched_is_refused_by_key(recipe: Path, sets: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        values_of(recipe, *sets)


def test_coverage_needs_intervals(recipe: Path) -> None:
    recipe.write_text(RECIPE.replace("[intervals]\n", "").replace("[alarms]", '[alarms]\nkinds = ["coverage"]'))
    with pytest.raises(ConfigError, match=r"alarms\.kinds: 'coverage' needs \[intervals\]"):
        values_of(recipe)


def served(recipe: Path, state: Path | None = None, sets: Any = ()) -> GroupwiseService:
    core, encoder = make_parts(recipe, list(sets), max_rows=64, max_pending=1000)
    return GroupwiseService(core, state, encoder=encoder, checkpoint_every=150)


def test_a_service_gives_the_studys_alarms_also_when_it_was_killed(recipe: Path, tmp_path: Path) -> None:
    expected = {(row["kind"], row["group"]): row["first"][0] for row in values_of(recipe)["watch"]["given"]}
    service = served(recipe, tmp_path / "state")
    about = service.describe()
    for number, line in enumerate((recipe.parent / "rows.csv").read_text().split()[1:]):
        x, y = map(float, line.split(","))
        first = service.predict(table_request(about, [{"x": x}], False).SerializeToString()).first_ticket
        service.feedback(values_request(about, [first], [y]).SerializeToString())
        if number in (100, 400):
            if service.records is not None and service.records._writer is not None:
                service.records._writer.join()
            service = served(recipe, tmp_path / "state")
    report = service.report()
    assert {(alarm.kind, alarm.group): alarm.round for alarm in report.watched} == expected
    arrays, facts = service.core.capture()
    with pytest.raises(StateError, match=r"watch\.rounds must be finite numbers"):
        served(recipe).core.restore({**arrays, "watch.rounds": np.full(1, np.nan)}, json.loads(json.dumps(facts)))


def test_shares_of_the_groups_watch_nothing(recipe: Path) -> None:
    with pytest.raises(ConfigError, match="alarms: a share of the groups does not know"):
        make_parts(recipe, ["mixer.name=ada_normal_hedge"], max_rows=64, max_pending=10, shard=0, shards=2)


def test_replays_watch_and_reports_show_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(2)
    lines = [json.dumps({"x": [1.0, x], "groups": [], "y": x}) for x in rng.random(60)]
    (tmp_path / "rounds.jsonl").write_text("\n".join(lines))
    for arguments in (
        ["replay", str(tmp_path / "rounds.jsonl"), "--set", "alarms.rate=0.1", "--out", str(tmp_path / "out")],
        ["report", str(tmp_path / "out")],
    ):
        with pytest.raises(SystemExit) as ended:
            cli.main(["groupwise", *arguments])
        assert ended.value.code == 0
        assert "watched at all times: worse, calibration, features" in capsys.readouterr().out
