"""The example program under torchrun, with the hook and without."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = Path(__file__).resolve().parents[2] / "examples" / "ddp_digits" / "train.py"


@pytest.mark.e2e
def test_the_example_trains_with_a_twentieth_of_the_bytes() -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(_PROGRAM)]
    options = ["--steps", "150", "--compressor", "power_sgd", "--rank", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *options], env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    found = re.search(r"accuracy ([\d.]+),.* ([\d,]+) bytes", done.stdout)
    assert found is not None, done.stdout
    assert float(found[1]) > 0.93  # 0.97 uncompressed
    assert int(found[2].replace(",", "")) * 20 < 340_008
