"""The driver without a server under torchrun: a rank is killed, all start again, the trajectory stays."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from saddlebag.algorithms import digest, simulate
from saddlebag.launch.build import build_method, build_problem
from saddlebag.launch.drivers.ranks import run_collective
from saddlebag.launch.recipe.recipe import recipe_from_dict
from saddlebag.proto.codec import LoopbackWire

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

ROUNDS = 600
RECIPE: dict[str, Any] = {
    "workers": 2,
    "seed": 5,
    "driver": "collective",
    "problem": {"name": "bilinear", "n": 8, "regularisation": 0.2},
    "method": {
        "name": "masha1",
        "step_size": 0.1,
        "probability": 0.1,
        "up": {"name": "rand_k", "fraction": 0.25},
        "down": {"name": "natural"},
    },
    "stop": {"max_rounds": ROUNDS, "every": 3},
    "checkpoint": {"every": 25},
}


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_killed_rank_leaves_the_trajectory_as_it_is(tmp_path: Path) -> None:
    job = recipe_from_dict(RECIPE)
    torchrun: list[int] = []
    killed: list[int] = []

    def observe(record: Any) -> None:
        if record.round >= 100 and not killed:
            killed.append(children(torchrun[0])[-1])
            os.kill(killed[0], signal.SIGKILL)

    result = run_collective(job, tmp_path, observe=observe, started=torchrun.append)
    problem = build_problem(job)
    expected = simulate(problem, build_method(job, problem), seed=job.seed, stop=job.stop, wire=LoopbackWire())
    assert killed
    begins = re.findall(r"begin at round ([\d,]+)", (tmp_path / "ranks.log").read_text())
    assert [int(begin) > 0 for begin in begins] == [False, True]
    assert result["digest"] == f"{digest(expected.replica):016x}"
    assert (result["rounds"], result["up_bytes"], result["down_bytes"]) == (ROUNDS, expected.up_bytes, expected.down_bytes)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["round"] for line in lines] == [record.round for record in expected.history]
