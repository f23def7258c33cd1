"""The group-robust example on a SuperLink with TLS and two SuperNodes that authenticate, as processes of this machine."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("flwr", reason="Flower is an extra")

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "flower_group_robust"
TIMEOUT_S = 100


VERSION = tuple(map(int, importlib.metadata.version("flwr").split(".")[:2]))


@pytest.mark.e2e
@pytest.mark.skipif(VERSION < (1, 40), reason="the script gives the options of Flower's HTTP servers, 1.40 and later")
def test_a_session_in_a_deployment_ends_on_the_bits_of_simulate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from saddlebag.algorithms import simulate
    from saddlebag.launch.build import build_method, build_problem, resolve
    from saddlebag.proto.codec import LoopbackWire

    command = [sys.executable, "-W", "ignore", str(EXAMPLE / "deploy.py"), "--rounds", "150", "--timeout", str(TIMEOUT_S - 15)]
    ran = subprocess.run(
        [*command, "--keep", str(tmp_path)], env=os.environ, timeout=TIMEOUT_S, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    found = json.loads(ran.stdout.splitlines()[-1])

    monkeypatch.syspath_prepend(str(EXAMPLE))
    from group_robust.server_app import recipe_of

    config = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]
    recipe = recipe_of({**config, "clients": 2, "max-rounds": 150})
    problem = build_problem(recipe)
    method = build_method(resolve(recipe, problem), problem)
    expected = simulate(problem, method, seed=recipe.seed, stop=recipe.stop, wire=LoopbackWire())
    assert found["rounds"] == 150
    assert np.array_equal(found["z"], expected.replica.z_D)
    assert (found["up_bytes"], found["down_bytes"]) == (expected.up_bytes, expected.down_bytes)
