"""The example apps with their own configuration, in this process."""

from __future__ import annotations

import importlib
import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("flwr", reason="Flower is an extra")

from saddlebag.flower import InProcessGrid

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, example: str, *, together: bool = False, **given: Any) -> dict[str, Any]:
    monkeypatch.syspath_prepend(str(EXAMPLES / example))
    facts = tomllib.loads((EXAMPLES / example / "pyproject.toml").read_text())["tool"]["flwr"]["app"]
    config = {**facts["config"], **{key.replace("_", "-"): value for key, value in given.items()}}
    config["output"] = str(folder / "result.json")
    assert set(config) == set(facts["config"])
    server, client = (
        getattr(importlib.import_module(name), variable)
        for name, variable in (facts["components"][part].split(":") for part in ("serverapp", "clientapp"))
    )
    InProcessGrid(client, config["clients"], config, together=together).start(server, config)
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result


def test_fedavg_with_compression_learns_with_fewer_bytes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    result = run(monkeypatch, tmp_path, "flower_fedavg", num_server_rounds=12, clients=4, learning_rate=0.2)
    assert result["accuracy"] > 0.6
    assert result["saddlebag-up-bytes"] * 20 < result["saddlebag-plain-up-bytes"]
    plain = run(monkeypatch, tmp_path, "flower_fedavg", num_server_rounds=2, clients=4, compress=False)
    assert "saddlebag-up-bytes" not in plain


def test_group_robust_is_the_same_in_a_session_and_by_messages_and_serves_the_worst_client(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"clients": 3, "merit": 0.05}
    session = run(monkeypatch, tmp_path, "flower_group_robust", together=True, **given)
    messages = run(monkeypatch, tmp_path, "flower_group_robust", mode="messages", **given)
    assert np.array_equal(session["z"], messages["z"])
    plain = run(monkeypatch, tmp_path, "flower_group_robust", mode="messages", objective="mean", **given)
    assert session["worst_loss"] < plain["worst_loss"]
    assert "group_robust.server_app" in sys.modules


def test_adversarial_training_runs_with_a_tenth_of_the_clients_and_fewer_bytes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"clients": 20, "clients_per_round": 5, "num_server_rounds": 4, "local_epochs": 1}
    result = run(monkeypatch, tmp_path, "flower_adversarial", **given)
    assert result["saddlebag-up-bytes"] * 8 < result["saddlebag-plain-up-bytes"]
    assert result["saddlebag-down-bytes"] < result["saddlebag-plain-down-bytes"]
    assert result["robust-accuracy"] <= result["accuracy"]


def test_the_app_trains_the_problems_network_against_the_problems_attack(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.syspath_prepend(str(EXAMPLES / "flower_adversarial"))
    task = importlib.import_module("adversarial_digits.task")
    model, attacked, plain = task.network(0), task.game(0, 0.1, 5), task.game(0, 0.1, 0)
    z_D = torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()]).double().numpy()
    assert np.array_equal(z_D, attacked.start())
    batch = tuple(torch.from_numpy(array[:64]) for array in attacked.data[0])
    worst, clean = (
        float(each.loss({"model": model}, batch, task.Chance(0, 64, slice(None))).detach()) for each in (attacked, plain)
    )
    assert worst > clean
    found = task.accuracies(model, attacked)
    assert 0 <= found["robust-accuracy"] <= found["accuracy"]
    shards = task.shards(20, 0)
    assert np.array_equal(np.sort(np.concatenate(shards)), np.arange(len(attacked.data[0][1])))


@pytest.mark.parametrize("folder", sorted(EXAMPLES.glob("flower_*")), ids=lambda folder: folder.name)
def test_flwr_run_has_nothing_to_install_for_an_app(folder: Path) -> None:
    """It installs an app's dependencies anew for every run, and fails where an index does not have them."""
    assert tomllib.loads((folder / "pyproject.toml").read_text())["project"]["dependencies"] == []
