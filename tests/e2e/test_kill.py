"""Real processes on loopback: killed without warning, they resume on the trajectory of the undisturbed run."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from saddlebag.algorithms import digest, simulate
from saddlebag.launch.build import build_method, build_problem
from saddlebag.launch.drivers.supervisor import run_grpc
from saddlebag.launch.recipe.recipe import Recipe, recipe_from_dict
from saddlebag.proto.codec import LoopbackWire

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

ROUNDS = 6000


def recipe(method: dict[str, Any], **more: Any) -> Recipe:
    return recipe_from_dict(
        {
            "workers": 3,
            "seed": 5,
            "problem": {"name": "bilinear", "n": 8, "regularisation": 0.2},
            "method": method,
            "stop": {"max_rounds": ROUNDS, "every": 3},
            "checkpoint": {"every": 25},
            **more,
        }
    )


MASHA1 = {
    "name": "masha1",
    "step_size": 0.1,
    "probability": 0.1,
    "up": {"name": "rand_k", "fraction": 0.25},
    "down": {"name": "natural"},
}
MASHA2 = {
    "name": "masha2",
    "step_size": 0.05,
    "probability": 0.1,
    "up": {"name": "top_k", "fraction": 0.25},
    "down": {"name": "top_k", "fraction": 0.25},
}

IDLE = {**MASHA1, "participants": 1}  # of 3: most workers are idle when something dies


def undisturbed(job: Recipe) -> Any:
    problem = build_problem(job)
    return simulate(problem, build_method(job, problem), seed=job.seed, stop=job.stop, wire=LoopbackWire())


def assert_same(result: dict[str, Any], expected: Any, out: Path) -> None:
    assert result["digest"] == f"{digest(expected.replica):016x}"
    assert (result["rounds"], result["up_bytes"], result["down_bytes"]) == (ROUNDS, expected.up_bytes, expected.down_bytes)
    for traffic in (result["ledger"]["up"], result["ledger"]["down"]):
        assert traffic["transport"] == sum(traffic[kind] for kind in ("payload", "framing", "control", "repeated"))
    assert result["ledger"]["up"]["payload"] == expected.up_bytes
    assert result["ledger"]["down"]["payload"] == expected.down_bytes
    assert result["ledger"]["epochs"] == 1
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    got = [(line["round"], line["merits"], line["up_bytes"], line["down_bytes"]) for line in lines]
    assert got == [(r.round, dict(r.merits), r.up_bytes, r.down_bytes) for r in expected.history]


@pytest.mark.parametrize(("method", "seed", "kills"), [(MASHA1, 1, 20), (MASHA2, 2, 8), (IDLE, 3, 8)])
def test_the_server_and_workers_are_killed_at_random_rounds(
    tmp_path: Path, method: dict[str, Any], seed: int, kills: int
) -> None:
    rng = random.Random(seed)
    job = recipe(method)
    moments = sorted(rng.sample(range(5, ROUNDS - 300), kills))
    pids: dict[str, int] = {}
    killed: list[str] = []

    def observe(record: Any) -> None:
        if moments and record.round >= moments[0]:
            moments.pop(0)
            victims = {"server", rng.choice(["worker-0", "worker-1", "worker-2"])}
            for name in rng.sample(sorted(victims), rng.choice([1, 2, 2])):
                killed.append(name)
                os.kill(pids[name], signal.SIGKILL)

    result = run_grpc(job, tmp_path, observe=observe, started=pids.update)
    assert len(killed) >= kills
    assert not moments, f"the run ended before {len(moments)} of the kills"
    assert "server" in killed
    assert {name for name in killed if name != "server"}
    assert_same(result, undisturbed(job), tmp_path)


def test_a_run_with_secure_sums_goes_on_where_it_was_when_server_and_worker_are_killed(tmp_path: Path) -> None:
    pytest.importorskip("cryptography", reason="secure aggregation needs the extra 'secure'")
    eight = {"name": "nearest_int8"}
    method = {"name": "compressed_sgd", "step_size": 0.05, "common_range": 1.0, "up": eight, "down": eight}
    stop = {"max_rounds": 80, "every": 5}
    job = recipe(method, stop=stop, server={"secure": True})
    pids: dict[str, int] = {}
    killed: list[str] = []

    def observe(record: Any) -> None:
        if record.round >= 40 and not killed:
            killed.extend(("worker-1", "server"))
            for name in killed:
                os.kill(pids[name], signal.SIGKILL)

    result = run_grpc(job, tmp_path, observe=observe, started=pids.update)
    assert killed
    assert result["digest"] == f"{digest(undisturbed(recipe(method, stop=stop)).replica):016x}"


def test_everything_is_killed_and_resumed_by_another_command(tmp_path: Path) -> None:
    job = recipe(MASHA1, driver="grpc")
    file, out = tmp_path / "recipe.toml", tmp_path / "out"
    file.write_text(job.to_toml())
    command = [sys.executable, "-m", "saddlebag", "run", str(file), "--out", str(out), "--quiet"]
    run = subprocess.Popen(command)
    metrics = out / "masha1" / "metrics.jsonl"
    _until(lambda: metrics.exists() and len(metrics.read_text().splitlines()) > 100, "the run did not start")
    server = json.loads((out / "masha1" / "address.json").read_text())["pid"]
    run.kill()
    run.wait()
    _until(lambda: not _alive(server), "the server outlived its supervisor")
    assert not (out / "masha1" / "result.json").exists(), "killed too late to show anything"
    subprocess.run([*command, "--resume"], check=True)
    assert_same(json.loads((out / "masha1" / "result.json").read_text()), undisturbed(job), out / "masha1")


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _until(condition: Any, failure: str, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, failure
        time.sleep(0.05)
