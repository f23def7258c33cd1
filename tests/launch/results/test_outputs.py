"""What a run keeps while it goes: TensorBoard events read back, pictures as files, both through a resumption and over gRPC."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from matplotlib.image import imread

from saddlebag.algorithms import Record, Verdict
from saddlebag.algorithms.problems import BilinearGame
from saddlebag.errors import ConfigError, StateError
from saddlebag.launch.recipe.recipe import recipe_from_dict
from saddlebag.launch.results.history import History, read_history
from saddlebag.launch.results.outputs import Outputs
from saddlebag.launch.results.results import read_lines
from saddlebag.launch.results.table import Board
from saddlebag.launch.running import run

if TYPE_CHECKING:
    from pathlib import Path

    from saddlebag.launch.recipe.recipe import Recipe

TABLE: dict[str, Any] = {
    "workers": 3,
    "driver": "simulate",
    "problem": {"name": "bilinear", "n": 5, "regularisation": 0.5},
    "method": {"name": "extragradient", "step_size": "1/L"},
    "stop": {"max_rounds": 12, "every": 2},
    "output": {"tensorboard": True},
}


@dataclasses.dataclass(frozen=True)
class Replica:
    z_D: np.ndarray
    iteration: int = 0


class Shown(BilinearGame):
    """A game that shows its iterate, squeezed into [0, 1], as one picture of 2 x 5 and as two of 1 x 5."""

    def pictures(self, z_D: np.ndarray) -> dict[str, np.ndarray]:
        grey_D = np.abs(np.tanh(z_D))
        return {"iterate": grey_D.reshape(1, 2, 5), "players": grey_D.reshape(2, 1, 5)}


def recipe(**output: Any) -> Recipe:
    return recipe_from_dict({**TABLE, "output": {"tensorboard": True, **output}})


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = _read(folder)
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def _read(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0}).Reload()


def _quiet(recipe: Recipe) -> Board:
    return Board([job.label for job in recipe.jobs()], stop=recipe.stop, workers=recipe.workers, title="", quiet=True)


@pytest.mark.parametrize("driver", ["simulate", pytest.param("grpc", marks=pytest.mark.e2e)])
def test_events_are_the_history(tmp_path: Path, driver: str) -> None:
    asked = dataclasses.replace(recipe(), driver=driver)
    run(asked, tmp_path / "out", _quiet(asked))
    folder = tmp_path / "out" / "extragradient"
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    read = scalars(folder / "tensorboard")
    expected = {
        "merit/relative_error": [v["merits"]["relative_error"] for v in lines],
        "bytes_per_worker/up": [v["up_bytes"] / 3 for v in lines],
        "bytes_per_worker/down": [v["down_bytes"] / 3 for v in lines],
    }
    for tag, values in expected.items():
        assert [step for step, _ in read[tag]] == [v["round"] for v in lines]
        np.testing.assert_allclose([value for _, value in read[tag]], values, rtol=1e-6)  # event files hold float32
    assert [step for step, _ in read["speed/rounds_per_s"]] == [v["round"] for v in lines[1:]]
    for _, saving in read["saving_against_full_vectors/up"]:
        assert saving == pytest.approx(1, rel=0.1), "extragradient sends full vectors"
    if driver == "grpc":
        _assert_times(lines, json.loads((folder / "result.json").read_text()))


def _assert_times(lines: list[dict[str, Any]], result: dict[str, Any]) -> None:
    """Evaluations are part of the elapsed time, and the parts of the workers' rounds of what the run took."""
    evaluated = [line["evaluate_s"] for line in lines]
    assert evaluated == sorted(evaluated)
    assert all(0 < line["evaluate_s"] < line["elapsed_s"] for line in lines)
    assert result["evaluate_s"] >= evaluated[-1] - 1e-6  # history rounds to microseconds
    assert result["server_s"] > 0
    assert 0 < result["start_s"] < result["elapsed_s"]
    assert [each["worker"] for each in result["phases"]] == [0, 1, 2]
    for each in result["phases"]:
        parts = [each[name] for name in ("compute_s", "compress_s", "exchange_s", "apply_s")]
        assert min(parts) > 0
        assert each["rounds"] == result["rounds"] - 1, "the first one waits for others to join"
        assert sum(parts) < result["elapsed_s"]
    ledger = result["ledger"]
    assert sum(each["up_bytes"] for each in result["phases"]) == ledger["up"]["transport"]


def test_a_resumed_run_appends_and_replaces_what_it_computes_again(tmp_path: Path) -> None:
    problem = BilinearGame(n=5, num_workers=3, regularisation=0.5)
    for upto, rounds, merit in ((0, (1, 2, 3, 4), 1.0), (2, (3, 4, 5), 2.0)):
        with Outputs(recipe(), problem, tmp_path, upto_round=upto) as outputs:
            for round_ in rounds:
                outputs.record(Record(round_, round_, {"error": merit}, 100 * round_, 100 * round_))
    assert scalars(tmp_path / "tensorboard")["merit/error"] == [(1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0), (5, 2.0)]
    assert [json.loads(line)["round"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [1, 2, 3, 4, 5]


def test_time_of_evaluations_goes_on_through_a_resumption(tmp_path: Path) -> None:
    for upto, evaluate_s in ((0, (1.0, 2.0)), (2, (0.5, 0.75))):
        with History(tmp_path / "metrics.jsonl", upto_round=upto) as history:
            for round_, seconds in enumerate(evaluate_s, upto + 1):
                history.write(Record(round_, round_, {"error": 1.0}, 0, 0), seconds)
    assert [line["evaluate_s"] for line in read_history(tmp_path / "metrics.jsonl")] == [1.0, 2.0, 2.5, 2.75]
    assert [line.record.round for line in read_lines(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4]


def test_pictures_come_at_the_end_and_when_asked(tmp_path: Path) -> None:
    problem = Shown(n=5, num_workers=3, regularisation=0.5)
    z_D = problem.start() + np.linspace(-2, 2, 10)
    with Outputs(recipe(pictures=2), problem, tmp_path) as outputs:
        for round_ in range(1, 6):
            merits = {"error": 1.0} if round_ % 2 or round_ == 4 else None  # evaluations at rounds 1, 3, 4, 5
            outputs.watch(round_, Replica(round_ * z_D / 5), Verdict(merits, "max_rounds" if round_ == 5 else None))
    files = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert files == sorted(f"{name}{end}.png" for name in ("iterate", "players") for end in ("", "-00000003", "-00000005"))
    grey_YX = imread(tmp_path / "pictures" / "iterate.png")[..., 0]
    scale = 56 // 5
    assert grey_YX.shape == (2 * scale + 4, 5 * scale + 4)
    centres_D = grey_YX[2 + scale // 2 :: scale, 2 + scale // 2 :: scale][:2, :5].ravel()
    np.testing.assert_allclose(centres_D, np.abs(np.tanh(z_D)), atol=1 / 255)
    images = _read(tmp_path / "tensorboard").Images("iterate")
    assert [image.step for image in images] == [3, 5]
    assert images[-1].encoded_image_string == (tmp_path / "pictures" / "iterate.png").read_bytes()


def test_a_run_that_diverged_to_nan_shows_nothing(tmp_path: Path) -> None:
    problem = Shown(n=5, num_workers=3, regularisation=0.5)
    with Outputs(recipe(), problem, tmp_path) as outputs:
        outputs.watch(1, Replica(np.full(10, np.nan)), Verdict({"error": np.nan}, "diverged"))
    assert not (tmp_path / "pictures").exists()


def test_without_the_extra_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard.summary.writer", None)
    asked = recipe()
    with pytest.raises(
        ConfigError, match=r"output\.tensorboard = true needs the extra: pip install 'saddlebag\[tensorboard\]'"
    ):
        run(asked, tmp_path / "out", _quiet(asked))
    assert not (tmp_path / "out").exists()


def test_output_keys_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"output\.pictures must be 0 or more, got -1"):
        recipe(pictures=-1)
    with pytest.raises(ConfigError, match=r"output\.tensorboard must be true or false, got 1"):
        recipe(tensorboard=1)


@pytest.mark.parametrize("how", ["removed", "moved"])
def test_a_history_whose_folder_vanishes_ends_the_run(how: str, tmp_path: Path) -> None:
    """Its lines would go where nobody finds them, and the run would end as if nothing were missing."""
    folder = tmp_path / "run"
    with History(folder / "metrics.jsonl") as history:
        history.write(Record(1, 1, {"error": 1.0}, 0, 0))
        folder.rename(tmp_path / "elsewhere")
        if how == "removed":
            shutil.rmtree(tmp_path / "elsewhere")
        with pytest.raises(StateError, match=r"cannot write .*metrics.jsonl: it was removed or moved away meanwhile"):
            history.write(Record(2, 2, {"error": 1.0}, 0, 0))
