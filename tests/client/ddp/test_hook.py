"""The hook in two gloo processes, which run all checks of `ddp_ranks.py`, then of `ddp_situations.py`, one after the other."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

_FOLDER = Path(__file__).parent
_SCRIPTS = ("ddp_ranks.py", "ddp_situations.py")
_CHECKS = [
    (script, check)
    for script in _SCRIPTS
    for check in re.findall(r"^    (\w+),$", (_FOLDER / script).read_text().split("CHECKS = [")[1].split("]")[0], re.M)
]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[dict[str, str]]]:
    """What the two ranks of a script have found, which is run when it is asked for first."""

    @functools.cache
    def run(script: str) -> list[dict[str, str]]:
        folder = tmp_path_factory.mktemp("ddp")
        files = [folder / f"{rank}.json" for rank in range(2)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        ranks = [
            subprocess.Popen(
                [sys.executable, str(_FOLDER / script), str(rank), str(folder / "store"), str(file)], env=environment
            )
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

    return run


@pytest.mark.parametrize(("script", "check"), _CHECKS)
def test_two_ranks(outcomes: Callable[[str], list[dict[str, str]]], script: str, check: str) -> None:
    for rank, found in enumerate(outcomes(script)):
        assert found.get(check, "did not run") == "", f"rank {rank}: {found.get(check)}"
