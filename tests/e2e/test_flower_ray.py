"""One recipe and seed by four drivers: `simulate`, Flower in this process, Flower's Ray engine, and a session inside Ray.

Flower and Ray warn about their own deprecations, so their engine runs in a process of its own: this file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.launch.cores import available_cores

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("flwr", reason="Flower is an extra")
pytest.importorskip("ray", reason="Flower's simulation engine is an extra")

WORKERS = 3
RECIPE = {
    "workers": WORKERS,
    "seed": 11,
    "problem": {"name": "bilinear", "n": 5, "regularisation": 0.2},
    "method": {
        "name": "masha1",
        "step_size": 0.2,
        "probability": 0.25,
        "up": {"name": "rand_k", "fraction": 0.25},
        "down": {"name": "natural"},
    },
    "stop": {"max_rounds": 12, "every": 4},
}
TIMEOUT_S = 110


def in_ray() -> None:
    """Both of Flower's ways in one start of Ray; prints a line of JSON."""
    from flwr.serverapp import ServerApp
    from flwr.simulation import run_simulation

    from saddlebag.flower import MethodStrategy, method_app, run_session
    from saddlebag.launch.recipe.recipe import recipe_from_dict

    recipe, app, out = recipe_from_dict(RECIPE), ServerApp(), {}

    @app.main()
    def main(grid: Any, context: Any) -> None:
        grid.pull_interval = 0.02
        strategy = MethodStrategy(recipe)
        messages = strategy.start(grid=grid, timeout=60)
        session = run_session(grid, recipe, timeout=60)
        for name, result in (("messages", messages), ("session", session)):
            last = result.train_metrics_clientapp[max(result.train_metrics_clientapp)]
            out[name] = {"z": result.arrays["z"].numpy().tobytes().hex(), "up": last["up-bytes"], "down": last["down-bytes"]}

    cores = available_cores()
    run_simulation(
        app,
        method_app(),
        num_supernodes=WORKERS,
        backend_config={
            "client_resources": {"num_cpus": cores / WORKERS, "num_gpus": 0.0},
            "init_args": {"num_cpus": cores, "include_dashboard": False, "log_to_driver": False},
        },
    )
    sys.stdout.write("\n" + json.dumps(out) + "\n")


@pytest.mark.e2e
def test_one_recipe_ends_on_the_same_bits_by_every_driver(tmp_path: Path) -> None:
    from saddlebag.algorithms import simulate
    from saddlebag.flower import InProcessGrid, MethodStrategy, method_app
    from saddlebag.launch.build import build_method, build_problem, resolve
    from saddlebag.launch.recipe.recipe import recipe_from_dict
    from saddlebag.proto.codec import LoopbackWire

    recipe = recipe_from_dict(RECIPE)
    problem = build_problem(recipe)
    method = build_method(resolve(recipe, problem), problem)
    expected = simulate(problem, method, seed=recipe.seed, stop=recipe.stop, wire=LoopbackWire())
    in_process = MethodStrategy(recipe).start(grid=InProcessGrid(method_app(), WORKERS))
    assert np.array_equal(in_process.arrays["z"].numpy(), expected.replica.z_D)

    switches = ("FLWR_TELEMETRY_ENABLED", "RAY_USAGE_STATS_ENABLED")
    environment = {**os.environ, **dict.fromkeys(switches, "0"), "FLWR_DISABLE_UPDATE_CHECK": "1", "FLWR_HOME": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", __file__],
        env=environment,
        timeout=TIMEOUT_S,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    ends = json.loads(ran.stdout.splitlines()[-1])
    assert sorted(ends) == ["messages", "session"], ran.stderr[-3000:]
    for end in ends.values():
        assert end == {"z": expected.replica.z_D.tobytes().hex(), "up": expected.up_bytes, "down": expected.down_bytes}


if __name__ == "__main__":
    in_ray()
