"""Two machines that are namespaces, each with its own launch/torchrun.sh and two ranks: the trajectory is that of simulate."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from saddlebag.algorithms import digest, simulate
from saddlebag.launch.build import build_method, build_problem, resolve
from saddlebag.launch.recipe.recipe import Recipe, recipe_from_dict
from saddlebag.proto.codec import LoopbackWire

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from namespaces import namespaces
from two_nodes import Cluster, missing

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

NODES, RANKS, ROUNDS = 2, 2, 20
RECIPE: dict[str, Any] = {
    "workers": NODES,
    "ranks": RANKS,
    "seed": 3,
    "problem": {
        "name": "digits_transformer",
        "attack": "pgd",
        "attack_steps": 2,
        "batch_size": 8,
        "accumulate": 2,
        "precision": "float64",
    },
    "data": {"source": "digits"},
    "method": {
        "name": "compressed_extra_adam",
        "step_size": 0.003,
        "up": {"name": "grid", "step": 0.25, "block": 128},
        "down": {"name": "top_k", "fraction": 0.05},
    },
    "stop": {"max_rounds": ROUNDS, "every": ROUNDS},
}


def test_two_machines_with_a_torchrun_each_have_the_trajectory_of_simulate(tmp_path: Path) -> None:
    if (reason := missing()) is not None:
        pytest.skip(reason)
    job: Recipe = recipe_from_dict(RECIPE)
    with namespaces(NODES) as machines:
        cluster = Cluster(machines=machines, ranks=RANKS, folder=tmp_path)
        cluster.prepare(job)
        result = cluster.run(180)
        travelled = machines[1].transmitted_bytes()

    problem: Any = build_problem(job)
    method = build_method(resolve(job, problem), problem)
    expected = simulate(problem, method, seed=job.seed, stop=job.stop, wire=LoopbackWire())
    assert result["digest"] == f"{digest(expected.replica):016x}"
    assert (result["rounds"], result["up_bytes"], result["down_bytes"]) == (ROUNDS, expected.up_bytes, expected.down_bytes)
    uncompressed = 4 * problem.dimension * ROUNDS
    assert result["up_bytes"] / NODES < travelled < 0.5 * uncompressed  # packets, TLS and gRPC included
    assert json.loads((tmp_path / "out" / "node-1" / "node-1.json").read_text())["ranks"] == RANKS
