"""A GAN trained by processes over gRPC: the trajectory, bytes, events and samples of the reference driver."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import pytest

from saddlebag.launch.recipe.recipe import recipe_from_dict
from saddlebag.launch.results.table import Board
from saddlebag.launch.running import run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.e2e

TABLE: dict[str, Any] = {
    "workers": 2,
    "problem": {"name": "digits_gan", "loss": "wgan_gp", "batch_size": 8, "precision": "float64"},
    "data": {"source": "digits"},
    "method": {"name": "compressed_extra_adam", "step_size": 0.001, "up": {"name": "grid"}, "down": {"name": "grid"}},
    "stop": {"max_rounds": 6, "every": 3},
    "output": {"tensorboard": True},
}


def test_two_drivers_one_trajectory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    results = {}
    for driver in ("simulate", "grpc"):
        recipe = dataclasses.replace(recipe_from_dict(TABLE), driver=driver)
        board = Board([recipe.label], stop=recipe.stop, workers=2, title="", quiet=True)
        results[driver] = run(recipe, tmp_path / driver, board)["jobs"][0]
    keys = ("digest", "merits", "rounds", "up_bytes", "down_bytes")
    assert [results["grpc"][key] for key in keys] == [results["simulate"][key] for key in keys]
    for file in ("pictures/samples.png", "generator.safetensors"):
        assert len({(tmp_path / driver / "compressed_extra_adam" / file).read_bytes() for driver in results}) == 1, file
    events = list((tmp_path / "grpc" / "compressed_extra_adam" / "tensorboard").iterdir())
    assert len(events) == 1
    lines = (tmp_path / "grpc" / "compressed_extra_adam" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["round"] for line in lines] == [3, 6]
