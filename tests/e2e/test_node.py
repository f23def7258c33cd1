"""Nodes of two ranks under torchrun end on the bits of the reference driver, whatever is killed on the way."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from saddlebag.algorithms import digest, simulate
from saddlebag.launch.build import build_method, build_problem, resolve
from saddlebag.launch.recipe.recipe import Recipe, recipe_from_dict
from saddlebag.proto.codec import LoopbackWire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

ROUNDS, RANKS = 120, 2
RECIPE: dict[str, Any] = {
    "workers": 2,
    "ranks": RANKS,
    "seed": 5,
    "problem": {"name": "digits_transformer", "attack": "fgsm", "batch_size": 8, "precision": "float64"},
    "data": {"source": "digits"},
    "method": {
        "name": "compressed_adamw",
        "step_size": 0.003,
        "late": True,
        "up": {"name": "nearest_int4"},
        "down": {"name": "top_k", "fraction": 0.1},
    },
    "stop": {"max_rounds": ROUNDS, "every": 20},
    "checkpoint": {"every": 10},
}


class Machines:
    """Processes with a log each, all of which end with the test."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._started = folder, list[subprocess.Popen[bytes]]()

    def start(self, *arguments: Any) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        with (self._folder / f"{len(self._started)}.log").open("wb") as log:
            command = [sys.executable, "-m", *map(str, arguments)]
            process = subprocess.Popen(command, env=environment, start_new_session=True, stdout=log, stderr=log)
        self._started.append(process)
        return process

    def logs(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-2000:] for path in sorted(self._folder.glob("*.log")))

    def end(self) -> None:
        for process in self._started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    made = Machines(tmp_path)
    yield made
    made.end()


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def until(what: Callable[[], Any], machines: Machines, seconds: float = 90.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError, IndexError):
            if found := what():
                return found
        time.sleep(0.02)
    raise TimeoutError(machines.logs())


def test_ranks_a_node_and_the_server_are_killed_in_mid_run(tmp_path: Path, machines: Machines) -> None:
    job: Recipe = recipe_from_dict(RECIPE)
    file, out = tmp_path / "recipe.toml", tmp_path / "server"
    file.write_text(job.to_toml())

    def serve(address: str, *more: str) -> subprocess.Popen[bytes]:
        return machines.start("saddlebag", "server", file, "--address", address, "--out", out, *more)

    def node(number: int) -> subprocess.Popen[bytes]:
        torchrun = ("torch.distributed.run", "--standalone", "--nproc-per-node", RANKS, "--max-restarts", 5)
        command = ("-m", "saddlebag", "node", file, "--server", address, "--worker", number)
        return machines.start(*torchrun, *command, "--out", tmp_path / f"node-{number}")

    def rounds() -> int:
        return int(json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])["round"])

    server = serve("127.0.0.1:0")
    address = until(lambda: json.loads((out / "address.json").read_text())["address"], machines)
    nodes = [node(0), node(1)]
    until(lambda: rounds() >= 20, machines)
    follower = children(nodes[0].pid)[1]
    os.kill(follower, signal.SIGKILL)  # torchrun starts both ranks of the node again
    until(lambda: rounds() >= 40, machines)
    assert follower not in children(nodes[0].pid)
    ranks = [children(each.pid) for each in nodes]
    server.kill()  # alone: the nodes wait for the next one
    server.wait()
    server = serve(address, "--resume")
    until(lambda: rounds() >= 60, machines)
    assert [children(each.pid) for each in nodes] == ranks
    leader, orphans = children(nodes[0].pid)[0], children(nodes[1].pid)
    server.kill()
    os.kill(leader, signal.SIGKILL)
    nodes[1].kill()  # its ranks see that the agent is gone, and end
    until(lambda: all(gone(pid) for pid in orphans), machines)
    assert rounds() < ROUNDS, "killed too late to show anything"
    server, nodes[1] = serve(address, "--resume"), node(1)
    for process in (server, *nodes):
        assert process.wait(120) == 0, machines.logs()

    problem: Any = build_problem(job)
    method = build_method(resolve(job, problem), problem)
    expected = simulate(problem, method, seed=job.seed, stop=job.stop, wire=LoopbackWire())
    result = json.loads((out / "result.json").read_text())
    assert result["digest"] == f"{digest(expected.replica):016x}"
    assert (result["rounds"], result["up_bytes"], result["down_bytes"]) == (ROUNDS, expected.up_bytes, expected.down_bytes)
    assert result["ledger"]["epochs"] == 1
    report = json.loads((tmp_path / "node-0" / "node-0.json").read_text())
    assert report["ranks"] == RANKS
    assert report["evaluations"] > 0
    assert report["inside_s"] > 0
