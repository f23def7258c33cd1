from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.errors import ConfigError, DataError
from saddlebag.launch import cli
from saddlebag.launch.groupwise.replay import read_rounds, replay_file

if TYPE_CHECKING:
    from pathlib import Path

LINES: list[dict[str, Any]] = [
    {"x": [(i * 37 % 50) / 50, 1], "groups": ["low"] if i * 37 % 50 < 20 else {"soft": 0.5}, "y": (i % 9) / 9}
    for i in range(50)
]


def write(tmp_path: Path, lines: list[Any]) -> Path:
    path = tmp_path / "rounds.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n\n")
    return path


def test_reads_rounds(tmp_path: Path) -> None:
    stream = read_rounds(write(tmp_path, LINES))
    assert stream.groups == ("low", "soft", "always_on")
    assert stream.awake_NG[0].tolist() == [1, 0, 1]
    assert stream.awake_NG[1].tolist() == [0, 0.5, 1]
    assert np.array_equal(stream.y_N, [line["y"] for line in LINES])


def test_replays_within_bounds(tmp_path: Path) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text('[mixer]\nname = "solo"\n[data]\nsource = "elsewhere.csv"\n')
    for recipe_path in (None, recipe):
        values, groups, study = replay_file(write(tmp_path, LINES), recipe_path, ["learner.penalty=0.5"])
        assert groups == ("low", "soft", "always_on")
        assert values["alarms"] == []
        assert (study.ours_SG - study.own_SG <= study.meta_bound_SG).all()
    with pytest.raises(
        ConfigError,
        match="a replay takes learner, mixer, mixing, comparator, label, features, intervals, calibration, alarms only, got",
    ):
        replay_file(write(tmp_path, LINES), None, ["data.source=x"])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("no json", "line 1: Expecting value"),
        ([1], 'a round reads {"x"'),
        ({"x": [1], "y": 0}, 'a round reads {"x"'),
        ({"x": [], "groups": [], "y": 0}, "x must be a list of finite numbers"),
        ({"x": [1, "a"], "groups": [], "y": 0}, "x must be a list of finite numbers"),
        ('{"x": [NaN], "groups": [], "y": 0}', "x must be a list of finite numbers"),
        ({"x": [1], "groups": [3], "y": 0}, "groups must be a list of names"),
        ({"x": [1], "groups": {"a": 2}, "y": 0}, "groups must be a list of names"),
        ({"x": [1], "groups": ["always_on"], "y": 0}, "the group always_on is added to every round"),
        ({"x": [1], "groups": [], "y": True}, "y must be a finite number, got True"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, line: Any, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read_rounds(write(tmp_path, [line]))
    assert message in str(caught.value)


def test_widths_must_agree(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 2: x has 1 entries, the first round 2"):
        read_rounds(write(tmp_path, [LINES[0], {"x": [1], "groups": [], "y": 0}]))
    with pytest.raises(DataError, match="no rounds"):
        read_rounds(write(tmp_path, []))
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_rounds(tmp_path / "none.jsonl")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(["groupwise", "replay", str(write(tmp_path, LINES)), "--json", "--out", str(tmp_path / "out")])
    assert not exit_.value.code
    assert json.loads(capsys.readouterr().out)["orders"] == 1
    assert (tmp_path / "out" / "plot.png").exists()
