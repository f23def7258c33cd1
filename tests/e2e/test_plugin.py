"""A compressor of another package: installed, and used in a run by server and workers, with Saddlebag as it is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
RECIPE = """
workers = 2
driver = "grpc"
[problem]
name = "bilinear"
n = 5
regularisation = 0.5
[method]
name = "masha1"
step_size = "0.3/L"
probability = 0.3
up = {name = "stride", stride = 2}
[[baseline]]
name = "masha1"
label = "known"
step_size = "0.3/L"
probability = 0.3
up = {name = "rand_k", k = 5}
[stop]
merit = 1e-3
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of installed packages: the wheel that pip builds of the example, without network."""
    source, target = tmp_path / "stride", tmp_path / "site"
    shutil.copytree(ROOT / "examples" / "stride", source)  # a build may leave files
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*pip, "--target", target, source], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


def run(site: Path, *arguments: object) -> str:
    env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{site}"}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], env=env, cwd=site.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_compressor_of_another_package(site: Path, tmp_path: Path) -> None:
    cli = ("-m", "saddlebag")
    rows = json.loads(run(site, *cli, "list", "compressors", "--json"))["compressors"]
    (row,) = (row for row in rows if row["name"] == "stride")
    assert (row["origin"], row["kind"], row["omega"], row["reference"]) == (
        "saddlebag-stride 0.1.0",
        "unbiased",
        99,
        "an example",
    )
    report = json.loads(run(site, *cli, "inspect", "compressor", "stride", "--d", 1000, "--json"))
    assert report["parameters"] == {"stride": 100}

    law = "from saddlebag.compression import check_compressor; from saddlebag_stride import Stride as S"
    run(site, "-c", f"{law}; check_compressor(S(stride=1), num_draws=400); check_compressor(S(stride=3), num_draws=400)")

    (tmp_path / "recipe.toml").write_text(RECIPE)
    result = json.loads(run(site, *cli, "run", tmp_path / "recipe.toml", "--out", tmp_path / "grpc", "--json"))
    assert [job["reason"] for job in result["jobs"]] == ["merit", "merit"]
    run(site, *cli, "run", tmp_path / "recipe.toml", "--out", tmp_path / "here", "--quiet", "--set", "driver=simulate")
    there, here = (json.loads((tmp_path / name / "masha1" / "result.json").read_text()) for name in ("grpc", "here"))
    assert there["method"]["up"] == {"name": "stride", "stride": 2}
    assert (there["digest"], there["up_bytes"]) == (here["digest"], here["up_bytes"])
