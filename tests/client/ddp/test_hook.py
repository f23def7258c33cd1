"""The hook in two gloo processes, which run all checks of `ddp_ranks.py` one after the other."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

_RANKS = Path(__file__).with_name("ddp_ranks.py")
_CHECKS = re.findall(r"^    (\w+),$", _RANKS.read_text().split("CHECKS = [")[1].split("]")[0], re.M)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    folder = tmp_path_factory.mktemp("ddp")
    files = [folder / f"{rank}.json" for rank in range(2)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen([sys.executable, str(_RANKS), str(rank), str(folder / "store"), str(file)], env=environment)
        for rank, file in enumerate(files)
    ]
    try:
        for process in ranks:
            process.wait(timeout=100)
    finally:
        for process in ranks:
            process.kill()
            process.wait()
    return [json.loads(file.read_text()) for file in files]


@pytest.mark.parametrize("check", _CHECKS)
def test_two_ranks(outcome: list[dict[str, str]], check: str) -> None:
    for rank, found in enumerate(outcome):
        assert found.get(check, "did not run") == "", f"rank {rank}: {found.get(check)}"
