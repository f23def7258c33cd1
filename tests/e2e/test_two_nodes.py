"""launch/torchrun.sh on two machines that are namespaces, each with its own torchrun: the trajectory is that of simulate."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from saddlebag.algorithms import digest, simulate
from saddlebag.launch.build import build_method, build_problem, resolve
from saddlebag.launch.recipe import Recipe, recipe_from_dict
from saddlebag.proto.codec import LoopbackWire

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from namespaces import namespaces, unavailable

if TYPE_CHECKING:
    from namespaces import Namespace

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

ROOT = Path(__file__).parents[2]
NODES, RANKS, ROUNDS = 2, 2, 30
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


def certificate(folder: Path, address: str) -> tuple[Path, Path]:
    """For one address, signed by itself."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl command to make certificates")
    own, key = folder / "certificate.pem", folder / "key.pem"
    command = f"{openssl} req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=saddlebag"
    names = ["-addext", f"subjectAltName=IP:{address}", "-keyout", str(key), "-out", str(own)]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    return own, key


def start(node: Namespace, number: int, server: str, folder: Path) -> subprocess.Popen[Any]:
    own, key = folder / "certificate.pem", folder / "key.pem"
    environment = {
        **os.environ,
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
        "NODE": str(number),
        "SERVER": server,
        "RECIPE": str(folder / "recipe.toml"),
        "RANKS": str(RANKS),
        "OUT": str(folder / "out"),
        "SERVER_FLAGS": f"--tls-cert {own} --tls-key {key}",
        "NODE_FLAGS": f"--tls-ca {own}",
        "SADDLEBAG_TOKEN": "secret",
    }
    with (folder / f"{number}.log").open("wb") as log:
        return node.popen([str(ROOT / "launch" / "torchrun.sh")], env=environment, stdout=log, stderr=log)


def test_two_machines_with_a_torchrun_each_have_the_trajectory_of_simulate(tmp_path: Path) -> None:
    for command in ("saddlebag", "torchrun"):
        if not Path(sys.executable).with_name(command).exists():
            pytest.skip(f"{command} is not installed beside the interpreter")
    if (reason := unavailable()) is not None:
        pytest.skip(reason)
    job: Recipe = recipe_from_dict(RECIPE)
    (tmp_path / "recipe.toml").write_text(job.to_toml())
    with namespaces(NODES) as machines:
        certificate(tmp_path, machines[0].address)
        server = f"{machines[0].address}:7777"
        scripts = [start(machine, number, server, tmp_path) for number, machine in enumerate(machines)]
        with contextlib.suppress(subprocess.TimeoutExpired):
            for script in scripts:
                script.wait(180)
        logs = "\n".join(path.read_text(errors="replace") for path in sorted(tmp_path.glob("*.log")))
        assert [script.returncode for script in scripts] == [0, 0], logs
        travelled = machines[1].transmitted_bytes()

    problem: Any = build_problem(job)
    method = build_method(resolve(job, problem), problem)
    expected = simulate(problem, method, seed=job.seed, stop=job.stop, wire=LoopbackWire())
    result = json.loads((tmp_path / "out" / "server" / "result.json").read_text())
    assert result["digest"] == f"{digest(expected.replica):016x}"
    assert (result["rounds"], result["up_bytes"], result["down_bytes"]) == (ROUNDS, expected.up_bytes, expected.down_bytes)
    uncompressed = 4 * problem.dimension * ROUNDS
    assert result["up_bytes"] / NODES < travelled < 0.5 * uncompressed
    assert json.loads((tmp_path / "out" / "node-1" / "node-1.json").read_text())["ranks"] == RANKS
