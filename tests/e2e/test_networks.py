"""A network trained by processes over gRPC: the trajectory of the reference driver, bit for bit, and what a run leaves."""

from __future__ import annotations

import dataclasses
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.launch.recipe.recipe import recipe_from_dict
from saddlebag.launch.results.table import Board
from saddlebag.launch.running import run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.e2e

TABLE: dict[str, Any] = {
    "workers": 2,
    "problem": {
        "name": "digits_transformer",
        "attack": "pgd",
        "attack_steps": 2,
        "batch_size": 8,
        "dropout": 0.1,
        "precision": "float64",
    },
    "method": {
        "name": "compressed_adamw",
        "step_size": 0.003,
        "up": {"name": "per_tensor", "rules": [{"match": "*.bias", "use": {"name": "identity"}}, {"use": {"name": "grid"}}]},
        "down": {"name": "top_k", "fraction": 0.1},
    },
    "stop": {"max_rounds": 6, "every": 3},
}


@pytest.mark.parametrize("attack", ["pgd", "free"])
def test_two_drivers_one_trajectory(attack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    rng = np.random.default_rng(0)
    for name, values in (("images-idx3", rng.integers(0, 256, (60, 8, 8))), ("labels-idx1", rng.integers(0, 10, 60))):
        header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
        (tmp_path / f"few-{name}-ubyte").write_bytes(header + values.astype(np.uint8).tobytes())
    data = {"source": str(tmp_path / "few-images-idx3-ubyte")}
    table, results = {**TABLE, "data": data, "problem": {**TABLE["problem"], "attack": attack}}, {}
    for driver in ("simulate", "grpc"):
        recipe = dataclasses.replace(recipe_from_dict(table), driver=driver)
        board = Board([recipe.label], stop=recipe.stop, workers=2, title="", quiet=True)
        results[driver] = run(recipe, tmp_path / driver, board)["jobs"][0]
    keys = ("digest", "merits", "rounds", "up_bytes", "down_bytes")
    assert [results["grpc"][key] for key in keys] == [results["simulate"][key] for key in keys]
    files = [(tmp_path / driver / "compressed_adamw" / "model.safetensors").read_bytes() for driver in results]
    assert files[0] == files[1]
