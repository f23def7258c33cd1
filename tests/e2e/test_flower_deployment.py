"""The group-robust example on a SuperLink with TLS and two SuperNodes that authenticate, as processes of this machine."""

from __future__ import annotations

import importlib.metadata
import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("flwr", reason="Flower is an extra")

from saddlebag.flower.trials.deployment import Deployment

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "flower_group_robust"
TIMEOUT_S, ROUNDS = 85, 1000
KILLED_AFTER = 200  # rounds
VERSION = tuple(map(int, importlib.metadata.version("flwr").split(".")[:2]))
CONFIG = {"clients": 2, "max-rounds": ROUNDS, "every": 20, "merit": 1e-300}  # the merit is never reached: all rounds run

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(VERSION < (1, 40), reason="the deployment gives the options of Flower's HTTP servers, 1.40 and later"),
]


def run(folder: Path) -> tuple[dict[str, Any], int]:
    """The example in a session; SuperNode 1 is killed in the middle, and another machine takes its partition.

    Another one, for Flower keeps the key of the first busy until it has missed its heartbeats, more than a minute later. It
    has nothing of the state. Returns the results, and the last round that was recorded before the fault.
    """
    deployment, output, progress = Deployment(folder, 2, spare=1), folder / "result.json", folder / "progress.jsonl"
    progress.touch()
    killed_at = 0

    def kill() -> None:
        nonlocal killed_at
        lines = progress.read_text().splitlines()
        if not killed_at and lines and (round_ := json.loads(lines[-1])["round"]) >= KILLED_AFTER:
            deployment.kill_node(1)
            killed_at = round_
            deployment.start_node(1, key=2)

    files = {f"session-{name}": str(path) for name, path in deployment.files.items()}
    with deployment.up():
        deployment.run_app(EXAMPLE, {**CONFIG, **files, "output": str(output), "progress": str(progress)})
        return deployment.await_result(output, TIMEOUT_S, kill), killed_at


def simulated(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The same recipe by `simulate`."""
    from saddlebag.algorithms import simulate
    from saddlebag.launch.build import build_method, build_problem, resolve
    from saddlebag.proto.codec import LoopbackWire

    monkeypatch.syspath_prepend(str(EXAMPLE))
    from group_robust.server_app import recipe_of

    config = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]
    recipe = recipe_of({**config, **CONFIG})
    problem = build_problem(recipe)
    method = build_method(resolve(recipe, problem), problem)
    return simulate(problem, method, seed=recipe.seed, stop=recipe.stop, wire=LoopbackWire())


def test_a_session_with_a_killed_supernode_ends_on_the_bits_of_simulate(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found, killed_at = run(tmp_path)
    expected = simulated(monkeypatch)
    assert KILLED_AFTER <= killed_at < ROUNDS
    assert found["rounds"] == ROUNDS
    assert np.array_equal(found["z"], expected.replica.z_D)
    assert (found["up_bytes"], found["down_bytes"]) == (expected.up_bytes, expected.down_bytes)
