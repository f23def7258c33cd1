"""Studies of very many groups: the numbers of the table of rounds and groups, without it."""

from __future__ import annotations

import csv
import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.errors import ConfigError
from saddlebag.launch.groupwise import wide
from saddlebag.launch.groupwise.recipe import groupwise_from_dict
from saddlebag.launch.groupwise.reports import shown as shown_module
from saddlebag.launch.groupwise.reports.page import write_page
from saddlebag.launch.groupwise.reports.report import print_report, read_result
from saddlebag.launch.groupwise.running import run_recipe
from saddlebag.launch.groupwise.study import Study, stream_study
from saddlebag.launch.recipe import toml

if TYPE_CHECKING:
    from pathlib import Path


def table_of(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    rows = [f"{rng.choice(['u', 'v'])},{rng.choice(['p', 'q', 'r'])},{rng.random():.4f},{rng.random():.4f}" for _ in range(150)]
    (tmp_path / "rows.csv").write_text("\n".join(["kind,town,a,y", *rows]))
    soft = [f"{weight:.3f}" for weight in rng.random(150)]
    (tmp_path / "soft.csv").write_text("\n".join(["soft", *soft]))
    return {
        "data": {"source": str(tmp_path / "rows.csv"), "membership": str(tmp_path / "soft.csv")},
        "label": {"column": "y"},
        "features": {"numeric": ["a"], "groups": ["soft", "kind = u"], "intercept": True},
        "groups": {"low": "a < 0.4"},
        "conjunctions": {"columns": ["kind", "town", "a"], "depth": 3, "at_least": 5},
        "learner": {"name": "ridge"},
        "shuffles": [1, 2],
        **changes,
    }


@pytest.mark.parametrize("mixer", ["ada_normal_hedge", "solo", "specialists"])
@pytest.mark.parametrize("shadows", [False, True])
def test_a_wide_study_is_the_study(tmp_path: Path, mixer: str, shadows: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = groupwise_from_dict(table_of(tmp_path, mixer={"name": mixer}, mixing={"shadows": shadows, "prior": {"low": 3.0}}))
    stream, study = stream_study(recipe)
    monkeypatch.setattr(wide, "_TABLE", 0)
    monkeypatch.setattr(wide, "DRAWN", 5)
    _, found = stream_study(recipe)
    size_G, drawn_G = study.rounds_SG[0], found.drawn_G
    assert drawn_G is not None
    assert drawn_G.sum() == 5
    assert drawn_G[-1]
    assert size_G[drawn_G].min() >= size_G[~drawn_G].max()
    assert len(stream.groups) > 40
    for field in dataclasses.fields(Study):
        ours, theirs = getattr(found, field.name), getattr(study, field.name)
        if field.name.endswith("_SGP"):
            theirs = theirs[:, drawn_G]
        if field.name != "drawn_G" and theirs is not None:
            assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-9), field.name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"intervals": {}}, r"\[intervals\] needs a number for each of 150 rounds and \d+ groups, at most 10;"),
        ({"alarms": {}}, r"\[alarms\] needs a number"),
        ({"calibration": {}}, r"\[calibration\] needs a number"),
        ({"mixer": {"name": "adapt_ml_prod"}}, "the mixer AdaptMlProd needs a number"),
    ],
)
def test_what_needs_the_table_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wide, "_TABLE", 0)
    monkeypatch.setattr(wide, "_LARGEST", 10)
    with pytest.raises(ConfigError, match=message):
        stream_study(groupwise_from_dict(table_of(tmp_path, **changes)))


def test_of_many_groups_some_are_shown_and_all_are_in_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(wide, "_TABLE", 0)
    monkeypatch.setattr(wide, "DRAWN", 5)
    monkeypatch.setattr(shown_module, "MANY", 10)
    monkeypatch.setattr(shown_module, "_EACH", 3)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(toml.dump(table_of(tmp_path)))
    folder, values = run_recipe(recipe, [], out=tmp_path / "out", processes=1)
    stored = read_result(folder)
    with (folder / "groups.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(values["groups"]) == stored["of"] + 1 > 40
    assert 5 <= len(stored["groups"]) <= 10
    assert stored["groups"][-1]["group"] == "always_on"
    excess = {
        row["group"]: float(row["loss_mean"]) - float(row["single_loss_mean"]) for row in rows if row["verdict"] == "worse"
    }
    if excess:
        assert max(excess, key=lambda name: excess[name]) in [row["group"] for row in stored["groups"]]
    assert sum(stored["verdicts"].values()) == stored["of"]
    print_report(stored)
    assert f"shown: the worst and best off and the largest of {stored['of']} groups" in capsys.readouterr().out
    assert "always_on" in write_page(folder).read_text()
