"""Sharded servers as real processes: the bits of one server, whatever is killed, and refusals before a process starts."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from saddlebag.algorithms import digest, simulate
from saddlebag.launch.build import build_method, build_problem
from saddlebag.launch.drivers.supervisor import run_grpc
from saddlebag.launch.recipe.recipe import Recipe, recipe_from_dict
from saddlebag.proto.codec import LoopbackWire

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

ROUNDS, SHARDS = 150, 2
OGDA = {"name": "ogda", "step_size": 0.1}
TENSORS = [{"name": "x", "shape": [8]}, {"name": "y", "shape": [8]}]
MASHA2 = {
    "name": "masha2",
    "step_size": 0.05,
    "probability": 0.1,
    **{
        side: {"name": "per_tensor", "tensors": TENSORS, "rules": [{"use": {"name": "top_k", "fraction": 0.25}}]}
        for side in ("up", "down")
    },
}


def recipe(method: dict[str, Any], **more: Any) -> Recipe:
    return recipe_from_dict(
        {
            "workers": 2,
            "seed": 5,
            "problem": {"name": "bilinear", "n": 8, "regularisation": 0.2},
            "method": method,
            "stop": {"max_rounds": ROUNDS, "every": 3},
            "checkpoint": {"every": 10},
            "server": {"shards": SHARDS},
            **more,
        }
    )


def assert_same(result: dict[str, Any], job: Recipe, out: Path) -> None:
    """The iterates, merits and rounds of one server; each message has a header in each slice, so bytes are more."""
    problem = build_problem(job)
    expected = simulate(problem, build_method(job, problem), seed=job.seed, stop=job.stop, wire=LoopbackWire())
    assert result["digest"] == f"{digest(expected.replica):016x}"
    assert (result["rounds"], result["reason"]) == (expected.rounds, expected.reason)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [(line["round"], line["merits"]) for line in lines] == [(r.round, dict(r.merits)) for r in expected.history]
    assert all(line["up_bytes"] >= r.up_bytes for line, r in zip(lines, expected.history, strict=True))
    servers = [json.loads((out / f"shard-{number}" / "result.json").read_text()) for number in range(SHARDS)]
    assert result["up_bytes"] == sum(server["up_bytes"] for server in servers)
    for server in servers:
        for traffic in (server["ledger"]["up"], server["ledger"]["down"]):
            assert traffic["transport"] == sum(traffic[kind] for kind in ("payload", "framing", "control", "repeated"))
        assert server["ledger"]["epochs"] == 1


def test_shards_and_workers_are_killed_at_random_rounds(tmp_path: Path) -> None:
    rng, job = random.Random(4), recipe(MASHA2)
    moments = sorted(rng.sample(range(5, ROUNDS - 40), 3))
    victims = [["server-1", "worker-0"], ["server-0", "server-1"], ["server-0", "worker-1"]]
    pids: dict[str, int] = {}

    def observe(record: Any) -> None:
        if moments and record.round >= moments[0]:
            moments.pop(0)
            for name in victims.pop(0):
                os.kill(pids[name], signal.SIGKILL)

    result = run_grpc(job, tmp_path, observe=observe, started=pids.update)
    assert not moments, f"the run ended before {len(moments)} of the kills"
    assert_same(result, job, tmp_path)


def test_everything_is_killed_and_resumed_by_another_command(tmp_path: Path) -> None:
    job = recipe(OGDA, driver="grpc")
    file, out = tmp_path / "recipe.toml", tmp_path / "out"
    file.write_text(job.to_toml())
    command = [sys.executable, "-m", "saddlebag", "run", str(file), "--out", str(out), "--quiet"]
    run = subprocess.Popen(command)
    metrics = out / "ogda" / "metrics.jsonl"
    _until(lambda: metrics.exists() and len(metrics.read_text().splitlines()) > 12, "the run did not start")
    run.kill()
    run.wait()
    assert not (out / "ogda" / "result.json").exists(), "killed too late to show anything"
    subprocess.run([*command, "--resume"], check=True)
    assert_same(json.loads((out / "ogda" / "result.json").read_text()), job, out / "ogda")


def test_what_cannot_be_divided_is_refused_before_a_process_starts(tmp_path: Path) -> None:
    file, out = tmp_path / "recipe.toml", tmp_path / "out"
    file.write_text(recipe({"name": "ogda", "step_size": "auto"}, driver="grpc").to_toml())
    command = [sys.executable, "-m", "saddlebag", "run", str(file), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "server.shards cannot be kept by Ogda with step_size = 'auto'" in done.stderr
    assert not out.exists()


def _until(condition: Any, failure: str, timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, failure
        time.sleep(0.05)
