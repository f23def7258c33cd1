"""A benchmark's record names machine and commit, and a regression is seen."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def regress(file: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / "regress.py"), str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_slower_round_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    command = [sys.executable, str(BENCHMARKS / "bench_sketch.py"), "--dimension", "5000", "--record", str(file)]
    subprocess.run(command, check=True, capture_output=True)
    record = json.loads(file.read_text())
    assert record["script"] == "bench_sketch.py"
    assert record["arguments"] == ["--dimension", "5000"]
    assert record["machine"]["cores"] >= 1
    assert record["machine"]["numpy"]
    record["measurements"] = [{"contender": "a", "repetition": n, "rounds_per_s": 100.0 + n, "p50_ms": 2.0} for n in range(3)]
    slower = {**record, "measurements": [{"contender": "a", "repetition": 0, "rounds_per_s": 80.0, "p50_ms": 2.1}]}
    elsewhere = {**slower, "machine": {"cpu": "another"}}
    file.write_text("".join(json.dumps(each) + "\n" for each in (record, elsewhere)))
    assert regress(file).returncode == 0  # nothing to compare with
    file.write_text("".join(json.dumps(each) + "\n" for each in (record, elsewhere, slower)))
    done = regress(file)
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if "rounds_per_s" in line]
    assert line.split()[-4:] == ["80", "x", "0.79", "worse"]
    file.write_text("".join(json.dumps(each) + "\n" for each in (slower, record)))
    assert regress(file).returncode == 0
