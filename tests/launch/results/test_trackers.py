"""Curves for trackers of experiments: the real libraries offline where they are installed, a stand-in for what may go wrong."""

from __future__ import annotations

import json
import logging
import sys
import types
from typing import TYPE_CHECKING, Any

import pytest

from saddlebag.errors import ConfigError
from saddlebag.launch.recipe.recipe import Recipe, recipe_from_dict
from saddlebag.launch.results import trackers
from saddlebag.launch.results.table import Board
from saddlebag.launch.results.trackers import Trackers
from saddlebag.launch.running import run

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


TABLE: dict[str, Any] = {
    "workers": 2,
    "driver": "simulate",
    "problem": {"name": "bilinear", "n": 4, "regularisation": 0.5},
    "method": {"name": "extragradient", "step_size": "1/L"},
    "stop": {"max_rounds": 6, "every": 2},
}


def recipe(*names: str) -> Recipe:
    return recipe_from_dict({**TABLE, "output": {"trackers": list(names)}})


def done(asked: Recipe, folder: Path) -> list[dict[str, Any]]:
    """The history of the run."""
    board = Board([job.label for job in asked.jobs()], stop=asked.stop, workers=asked.workers, title="", quiet=True)
    run(asked, folder, board)
    return [json.loads(line) for line in (folder / "extragradient" / "metrics.jsonl").read_text().splitlines()]


class Notes:
    """A tracker that remembers."""

    made: list[Notes] = []  # noqa: RUF012

    def __init__(self, module: Any, label: str, folder: Path, config: Mapping[str, Any], run_id: str | None) -> None:
        del module, folder
        self.label, self.config, self.resumed, self.run_id = label, config, run_id, run_id or "new"
        self.lines: list[tuple[int, dict[str, float]]] = []
        self.ended: list[bool] = []
        self.made.append(self)

    def log(self, values: Mapping[str, float], round_: int) -> None:
        if "broken" in values:
            raise OSError("no route")
        self.lines.append((round_, dict(values)))

    def end(self, *, failed: bool) -> None:
        self.ended.append(failed)


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> list[Notes]:
    monkeypatch.setitem(trackers.TRACKERS, "wandb", Notes)
    monkeypatch.setitem(sys.modules, "wandb", types.ModuleType("wandb"))
    monkeypatch.setattr(Notes, "made", [])
    return Notes.made


def test_a_tracker_is_told_the_history_and_the_recipe(notes: list[Notes], tmp_path: Path) -> None:
    history = done(recipe("wandb"), tmp_path / "run")
    (told,) = notes
    assert (told.label, told.ended) == ("extragradient", [False])
    assert told.config["problem"]["name"] == "bilinear"
    assert [round_ for round_, _ in told.lines] == [line["round"] for line in history]
    for (_, values), line in zip(told.lines, history, strict=True):
        assert values["merit/natural_residual"] == line["merits"]["natural_residual"]
        assert values["bytes_per_worker/up"] == line["up_bytes"] / 2


def test_what_a_service_does_wrong_is_not_the_runs(
    notes: list[Notes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), Trackers(["wandb"], tmp_path, "mine", {}, resumed=False) as told:
        told.log({"loss": 1.0}, 1)
        told.log({"broken": 1.0}, 2)
        told.log({"loss": 0.5}, 3)
    assert notes[0].lines == [(1, {"loss": 1.0})]
    assert notes[0].ended == [], "it was given up"
    assert [record.message for record in caplog.records] == ["wandb is given up: OSError: no route"]


def test_a_resumed_run_goes_on_under_its_name_and_a_failed_one_is_said_so(notes: list[Notes], tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), Trackers(["wandb"], tmp_path, "mine", {}, resumed=False):
        raise RuntimeError
    (tmp_path / "trackers.json").write_text('{"wandb": "known"}')
    for resumed in (True, False):
        Trackers(["wandb"], tmp_path, "mine", {}, resumed=resumed).close()
    assert [(each.resumed, each.ended) for each in notes] == [(None, [True]), ("known", [False]), (None, [False])]


def test_what_cannot_be_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"output\.trackers must be one of mlflow, wandb, got 'neptune'"):
        recipe("neptune")
    with pytest.raises(ConfigError, match="must name each tracker once"):
        recipe("wandb", "wandb")
    with pytest.raises(ConfigError, match=r"output\.trackers must be a list, got 'wandb'"):
        recipe_from_dict({**TABLE, "output": {"trackers": "wandb"}})
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"output\.trackers has 'wandb', which is not installed: pip install wandb"):
        done(recipe("wandb"), tmp_path / "run")


@pytest.mark.filterwarnings("ignore")
def test_mlflow_keeps_the_curves_in_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    history = done(recipe("mlflow"), tmp_path / "run")
    with Trackers(["mlflow"], tmp_path / "run" / "extragradient", "extragradient", {}, resumed=True) as again:
        again.log({"merit/more": 1.0}, 7)
    client = mlflow.MlflowClient()
    (experiment,) = [each for each in client.search_experiments() if each.name == "saddlebag"]
    (kept,) = client.search_runs([experiment.experiment_id])
    assert kept.info.status == "FINISHED"
    assert kept.data.params["method.name"] == "extragradient"
    curve = client.get_metric_history(kept.info.run_id, "merit/natural_residual")
    assert kept.data.metrics["merit/more"] == 1.0, "a resumed run goes on with its own"
    assert [(point.step, point.value) for point in curve] == [
        (line["round"], line["merits"]["natural_residual"]) for line in history
    ]


@pytest.mark.filterwarnings("ignore")
def test_wandb_keeps_the_curves_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    for name, value in {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_DIR": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    history = done(recipe("wandb"), tmp_path / "run")
    (file,) = tmp_path.rglob("run-*.wandb")
    raw = file.read_bytes()
    assert b"merit/natural_residual" in raw
    for line in history:
        assert json.dumps(line["merits"]["natural_residual"]).encode() in raw
