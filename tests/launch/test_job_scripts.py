"""launch/torchrun.sh and launch/slurm.sbatch, run with stand-ins for torchrun, the server and Slurm that note their calls."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from saddlebag.proto.endpoint import ServerSecurity

LAUNCH = Path(__file__).parents[2] / "launch"
STANDINS = {
    "saddlebag": 'echo "saddlebag $*" >> "$CALLS"; {server}',
    "torchrun": 'echo "torchrun $*" >> "$CALLS"; {ranks}',
    "scontrol": "printf 'first\\nsecond\\n'",
    "srun": 'for id in 1 0; do SLURM_NODEID=$id "$@" || exit; done',
    "sleep": "true",
}


def run(folder: Path, script: str, *, server: str = "exit 0", ranks: str = "exit 0", **variables: str) -> tuple[int, list[str]]:
    """The exit status, and the calls in order."""
    tools, calls = folder / "bin", folder / "calls"
    tools.mkdir(exist_ok=True)
    calls.write_text("")
    for name, body in STANDINS.items():
        (tools / name).write_text("#!/usr/bin/env bash\n" + body.replace("{server}", server).replace("{ranks}", ranks) + "\n")
        (tools / name).chmod(0o755)
    environment = {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "CALLS": str(calls), **variables}
    done = subprocess.run([LAUNCH / script], env=environment, cwd=LAUNCH.parent, capture_output=True, timeout=60, check=False)
    return done.returncode, calls.read_text().splitlines()


NODE = {"SERVER": "10.0.0.1:7777", "RECIPE": "r.toml", "RANKS": "8", "OUT": "out"}
RANKS = (
    "torchrun --standalone --local-addr 127.0.0.1 --nproc-per-node 8 --max-restarts 10 -m saddlebag node r.toml "
    "--server 10.0.0.1:7777 --worker {0} --out out/node-{0}"
)
SERVER = "saddlebag server r.toml --address 10.0.0.1:7777 --out out/server --resume"


def test_the_first_node_serves_and_every_node_works(tmp_path: Path) -> None:
    flags = {"SERVER_FLAGS": "--tls-cert c --tls-key k", "NODE_FLAGS": "--tls-ca c"}
    assert run(tmp_path, "torchrun.sh", NODE="1", **NODE, **flags) == (0, [RANKS.format(1) + " --tls-ca c"])
    status, calls = run(tmp_path, "torchrun.sh", NODE="0", **NODE, **flags)
    assert (status, sorted(calls)) == (0, [f"{SERVER} --tls-cert c --tls-key k", RANKS.format(0) + " --tls-ca c"])


def test_the_first_nodes_serve_a_shard_each(tmp_path: Path) -> None:
    node = {**NODE, "SERVER": "10.0.0.1:7777,10.0.0.2:7778"}
    for number, address in enumerate(node["SERVER"].split(",")):
        status, calls = run(tmp_path, "torchrun.sh", NODE=str(number), SERVER_FLAGS="--insecure", **node)
        shard = f"--set server.shards=2 --shard {number} --insecure"
        assert (status, sorted(calls)[0]) == (
            0,
            f"saddlebag server r.toml --address {address} --out out/shard-{number} --resume {shard}",
        )
        assert sorted(calls)[1].endswith(
            f"--server {node['SERVER']} --worker {number} --out out/node-{number} --set server.shards=2"
        )
    status, calls = run(tmp_path, "torchrun.sh", NODE="2", **node)
    assert (status, [call.split()[0] for call in calls]) == (0, ["torchrun"])


def test_slurm_puts_shards_beside_the_first_nodes(tmp_path: Path) -> None:
    slurm = {"SLURM_JOB_NODELIST": "n[1-2]", "SLURM_JOB_ID": "5", "SHARDS": "2", "SERVER_FLAGS": "--insecure", "PORT": "7000"}
    status, calls = run(tmp_path, "slurm.sbatch", RECIPE="r.toml", **slurm)
    assert status == 0
    servers = sorted(call for call in calls if call.startswith("saddlebag"))
    assert [call.split()[4] for call in servers] == ["first:7000", "second:7000"]
    assert all("--server first:7000,second:7000" in call for call in calls if call.startswith("torchrun"))


def test_a_killed_server_is_started_again(tmp_path: Path) -> None:
    server = '[ "$(grep -c ^saddlebag "$CALLS")" -ge 3 ] || kill -9 $$'
    status, calls = run(tmp_path, "torchrun.sh", NODE="0", server=server, **NODE)
    assert (status, sorted(calls)) == (0, [SERVER] * 3 + [RANKS.format(0)])


@pytest.mark.parametrize("code", [1, 2])
def test_a_refused_server_is_not(tmp_path: Path, code: int) -> None:
    status, calls = run(tmp_path, "torchrun.sh", NODE="0", server=f"exit {code}", **NODE)
    assert (status, sorted(calls)) == (code, [SERVER, RANKS.format(0)])


def test_a_node_that_gave_up_takes_its_server_with_it(tmp_path: Path) -> None:
    server = 'trap "echo ended >> \\"$CALLS\\"; exit 143" TERM; while true; do /usr/bin/env -i sleep 0.05; done'
    ranks = 'while ! grep -q ^saddlebag "$CALLS"; do /usr/bin/env -i sleep 0.05; done; exit 7'
    status, calls = run(tmp_path, "torchrun.sh", NODE="0", server=server, ranks=ranks, **NODE)
    assert status == 7
    assert sorted(calls[:2]) == [SERVER, RANKS.format(0)]
    deadline = time.monotonic() + 10
    while "ended" not in (tmp_path / "calls").read_text():
        assert time.monotonic() < deadline, "the server outlives the script"


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    assert run(tmp_path, "torchrun.sh", SERVER="a:1", RECIPE="r.toml") == (1, [])
    assert run(tmp_path, "slurm.sbatch", SLURM_JOB_NODELIST="n[1-2]", SLURM_JOB_ID="5") == (1, [])


def test_slurm_starts_a_script_on_every_node(tmp_path: Path) -> None:
    slurm = {"SLURM_JOB_NODELIST": "n[1-2]", "SLURM_JOB_ID": "5", "SERVER_FLAGS": "--tls-cert c --tls-key k"}
    status, calls = run(tmp_path, "slurm.sbatch", RECIPE="r.toml", RANKS="2", **slurm)
    assert status == 0
    assert [call for call in calls if call.startswith("saddlebag")] == [
        "saddlebag server r.toml --address first:7777 --out runs/5/server --resume --tls-cert c --tls-key k"
    ]
    workers = [call.split("--worker ")[1] for call in calls if call.startswith("torchrun")]
    assert workers == ["1 --out runs/5/node-1", "0 --out runs/5/node-0"]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command to make certificates")
def test_a_job_of_slurm_is_closed_to_others(tmp_path: Path) -> None:
    out = tmp_path / "out"
    slurm = {"SLURM_JOB_NODELIST": "n[1-2]", "SLURM_JOB_ID": "5", "OUT": str(out)}
    made = []
    for _ in range(2):  # requeued
        status, calls = run(tmp_path, "slurm.sbatch", RECIPE="r.toml", **slurm)
        assert status == 0
        private = out / "private"
        files = {path.name: path for path in private.iterdir()}
        assert set(files) == {"token", "first.key", "first.pem"}
        assert {path.stat().st_mode & 0o777 for path in (private, *files.values())} == {0o700, 0o600}
        made.append({name: path.read_text() for name, path in files.items()})
        (server,) = (call for call in calls if call.startswith("saddlebag"))
        assert server.endswith(f"--tls-cert {files['first.pem']} --tls-key {files['first.key']} --token-file {files['token']}")
        workers = [call for call in calls if call.startswith("torchrun")]
        assert len(workers) == 2
        for call in workers:
            assert call.endswith(f"--tls-ca {files['first.pem']} --token-file {files['token']}")
            assert made[0]["token"].strip() not in call
        ServerSecurity(certificate=files["first.pem"], key=files["first.key"]).credentials()
    assert made[0] == made[1]
    assert len(made[0]["token"].strip()) == 64
