"""Nodes of two ranks under torchrun: the trajectory of the reference driver, also when a rank and a whole node are killed."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saddlebag.algorithms import digest, simulate
from saddlebag.launch.build import build_method, build_problem, resolve
from saddlebag.launch.recipe import Recipe, recipe_from_dict
from saddlebag.proto.codec import LoopbackWire

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

ROUNDS, RANKS = 240, 2
RECIPE: dict[str, Any] = {
    "workers": 2,
    "seed": 5,
    "problem": {"name": "digits_transformer", "attack": "fgsm", "batch_size": 16, "precision": "float64"},
    "data": {"source": "digits"},
    "method": {
        "name": "compressed_adamw",
        "step_size": 0.003,
        "up": {"name": "nearest_int4"},
        "down": {"name": "top_k", "fraction": 0.1},
    },
    "stop": {"max_rounds": ROUNDS, "every": 40},
    "checkpoint": {"every": 20},
}


@dataclasses.dataclass(frozen=True)
class OnRanks:
    """A problem whose workers add up their ranks' parts, as nodes do."""

    problem: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.problem, name)

    def operator(self, worker: int) -> Any:
        parts = [self.problem.part(worker, rank, RANKS) for rank in range(RANKS)]
        return lambda z_D, draws: np.add(*(part(z_D, draws) for part in parts)) / RANKS


def start(*arguments: Any) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    return subprocess.Popen(
        [sys.executable, "-m", *map(str, arguments)], env=environment, start_new_session=True, stderr=subprocess.DEVNULL
    )


def node(number: int, recipe: Path, address: str, out: Path) -> subprocess.Popen[bytes]:
    torchrun = ("torch.distributed.run", "--standalone", "--nproc-per-node", RANKS, "--max-restarts", 3)
    return start(*torchrun, "-m", "saddlebag.launch.node", recipe, "--server", address, "--worker", number, "--out", out)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for(what: Any, seconds: float = 90.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError, IndexError):
            if found := what():
                return found
        time.sleep(0.05)
    raise TimeoutError


def test_ranks_and_nodes_killed_in_mid_run_leave_the_trajectory_as_it_is(tmp_path: Path) -> None:
    job: Recipe = recipe_from_dict(RECIPE)
    file, out = tmp_path / "recipe.toml", tmp_path / "server"
    file.write_text(job.to_toml())
    processes = [start("saddlebag.launch.cli", "server", file, "--address", "127.0.0.1:0", "--out", out)]
    try:
        address = wait_for(lambda: json.loads((out / "address.json").read_text())["address"])
        nodes = [node(number, file, address, tmp_path / f"node-{number}") for number in range(2)]
        processes += nodes

        def rounds() -> int:
            return int(json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])["round"])

        wait_for(lambda: rounds() >= 40)
        os.kill(children(nodes[0].pid)[1], signal.SIGKILL)  # a rank: its agent starts both again
        os.killpg(nodes[1].pid, signal.SIGKILL)  # a whole node, agent and ranks
        for child in wait_for(lambda: children(nodes[1].pid) or [0]):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child or nodes[1].pid, signal.SIGKILL)
        nodes[1].wait()
        assert rounds() < ROUNDS
        processes.append(node(1, file, address, tmp_path / "node-1"))
        assert processes[0].wait(120) == 0
        assert [process.wait(60) for process in (nodes[0], processes[-1])] == [0, 0]
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    result = json.loads((out / "result.json").read_text())
    problem: Any = build_problem(job)
    method = build_method(resolve(job, problem), problem)
    expected = simulate(OnRanks(problem), method, seed=job.seed, stop=job.stop, wire=LoopbackWire())
    assert result["digest"] == f"{digest(expected.replica):016x}"
    assert result["rounds"] == ROUNDS
