"""`saddlebag groupwise` as a person types it."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import pytest

from saddlebag.launch import cli

if TYPE_CHECKING:
    from pathlib import Path

RECIPE = """
title = "Small"
shuffles = [1, 2]
[data]
source = "small.csv"
[features]
numeric = ["a"]
intercept = true
[label]
column = "y"
[groups]
low = "a < 0.4"
early = "round < 30"
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    rows = [f"{(i * 37 % 60) / 60:.4f},{(i * 37 % 60) / 90 + (i % 7) / 40:.4f}" for i in range(60)]
    (tmp_path / "small.csv").write_text("\n".join(["a,y", *rows]))
    path = tmp_path / "small.toml"
    path.write_text(RECIPE)
    return path


def saddlebag(*arguments: object) -> int:
    with pytest.raises(SystemExit) as exit_:
        cli.main([str(argument) for argument in arguments])
    return exit_.value.code or 0  # type: ignore[return-value]


def test_run_and_report(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "results"
    assert saddlebag("groupwise", "run", recipe, "--out", out, "--processes", 1) == 0
    text = capsys.readouterr().out
    assert "early" in text
    assert "worse off than under the single model:" in text
    assert {path.name for path in out.iterdir()} == {"plot.png", "groups.csv", "curves.csv", "result.json", "recipe.toml"}
    assert (out / "plot.png").read_bytes()[:4] == b"\x89PNG"
    with (out / "groups.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["group"] for row in rows] == ["low", "early", "always_on"]
    assert saddlebag("groupwise", "report", out, "--json", "--plot", tmp_path / "again.svg") == 0
    values = json.loads(capsys.readouterr().out)
    assert values["groups"][0]["regret"]["mean"] == pytest.approx(float(rows[0]["regret_mean"]))
    assert values == json.loads((out / "result.json").read_text())
    assert (tmp_path / "again.svg").exists()


def test_the_saved_recipe_gives_the_same_result(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saddlebag("groupwise", "run", recipe, "--out", tmp_path / "one", "--set", "mixer.name=solo", "--json", "--processes", 1)
    first = json.loads(capsys.readouterr().out)
    saddlebag("groupwise", "run", tmp_path / "one" / "recipe.toml", "--out", tmp_path / "two", "--json", "--processes", 1)
    assert json.loads(capsys.readouterr().out) == first


def test_an_earlier_study_is_not_overwritten(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "results"
    command = ("groupwise", "run", recipe, "--out", out, "--processes", 1)
    assert saddlebag(*command) == 0
    before = (out / "result.json").read_bytes()
    assert saddlebag(*command, "--set", "mixer.name=solo") == 2
    assert "holds a study; --force replaces it" in capsys.readouterr().err
    assert (out / "result.json").read_bytes() == before
    assert saddlebag(*command, "--set", "mixer.name=solo", "--force") == 0
    assert (out / "result.json").read_bytes() != before
    (out / "recipe.toml").unlink()
    assert saddlebag(*command, "--force") == 2
    assert "holds no study" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "none.csv"], "cannot be read: No such file"),
        (["--set", "groups.low=a <"], "groups.low = 'a <': ends where"),
        (["--set", "learner.name=nothing"], "learner.name 'nothing' is no known learner"),
    ],
)
def test_mistakes_cost_one_line(recipe: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert saddlebag("groupwise", "run", recipe, *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_report_of_something_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert saddlebag("groupwise", "report", tmp_path) == 2
    assert "give the folder of a groupwise run" in capsys.readouterr().err
    (tmp_path / "result.json").write_text("{}")
    assert saddlebag("groupwise", "report", tmp_path) == 2
    assert "not the result of a groupwise run" in capsys.readouterr().err


def test_learners_and_mixers_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert saddlebag("list", "learners", "--json") == 0
    names = {row["name"] for row in json.loads(capsys.readouterr().out)["learners"]}
    assert {"ridge", "vovk_azoury_warmuth"} <= names
    assert saddlebag("list", "mixers") == 0
    assert "ada_normal_hedge" in capsys.readouterr().out
