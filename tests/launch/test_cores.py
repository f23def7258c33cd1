"""The number of processors, also where the system does not say which ones a process may use."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from saddlebag.launch.cores import available_cores
from saddlebag.launch.groupwise.running import run_recipe

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

RECIPE = """
shuffles = [1]
data = {source = "synthetic", rounds = 40}
features = {numeric = ["x0", "x1"], scale = "none"}
label = {column = "label", scale = "min_max"}
groups = {circle = 'shape == "circle"'}
learner = {name = "ridge"}
mixer = {name = "ada_normal_hedge"}
"""


def test_those_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3, 5}, raising=False)
    assert available_cores() == 3


def test_those_of_the_machine_where_nothing_else_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert available_cores() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_cores() == 1


def test_a_study_runs_where_affinity_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    path = tmp_path / "study.toml"
    path.write_text(RECIPE)
    folder, values = run_recipe(path, [], out=tmp_path / "out")
    assert (folder / "result.json").is_file()
    assert values
