"""A server and a worker as commands, as they are started on machines of their own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from saddlebag.launch.recipe.recipe import recipe_from_dict

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.e2e

_COMMAND = [sys.executable, "-m", "saddlebag"]


def test_a_worker_without_checkpoints_makes_its_folder_and_reports(tmp_path: Path) -> None:
    recipe = recipe_from_dict(
        {
            "workers": 1,
            "problem": {"name": "bilinear", "n": 5, "regularisation": 0.5},
            "method": {"name": "extragradient", "step_size": "1/L"},
            "stop": {"max_rounds": 6, "every": 2},
            "checkpoint": {"every": 0},
        }
    )
    file, out, mine = tmp_path / "recipe.toml", tmp_path / "server", tmp_path / "not" / "yet"
    file.write_text(recipe.to_toml())
    with subprocess.Popen([*_COMMAND, "server", str(file), "--address", "127.0.0.1:0", "--out", str(out)]) as server:
        deadline = time.monotonic() + 60
        while not (out / "address.json").exists():
            assert server.poll() is None
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.05)
        address = json.loads((out / "address.json").read_text())["address"]
        options = ["--rank", "0", "--server", address, "--out", str(mine)]
        worker = subprocess.run([*_COMMAND, "worker", str(file), *options], capture_output=True, text=True, timeout=60)
        assert server.wait(timeout=60) == 0
    assert worker.returncode == 0, worker.stderr
    assert "worker 0: 5 rounds, " in worker.stderr
    assert json.loads((mine / "worker-0.json").read_text())["rounds"] == 5
