"""The programs of this folder, for a few seconds."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(("program", "executions"), [("fuzz_decode.py", 6_000), ("fuzz_readers.py", 30_000)])
def test_no_string_breaks_the_law(program: str, executions: int) -> None:
    path = Path(__file__).with_name(program)
    ran = subprocess.run([sys.executable, path, "--executions", str(executions)], capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.match(r"[\d,]{5,} strings", ran.stdout)
