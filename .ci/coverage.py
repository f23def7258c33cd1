"""How much of the package the tests run, against a floor that only rises.

    python .ci/coverage.py [PYTEST ARGUMENTS]      # all tests but the end-to-end ones, unless arguments say otherwise

Lines and branches, also of processes that tests start. Below the number in .ci/coverage-floor it ends with 1; above it by a
tenth of a percent or more it writes the new floor, to be committed with the change that earned it.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FLOOR = ROOT / ".ci" / "coverage-floor"


def judged(total: float, floor: float) -> tuple[str, float]:
    """What to say, and the floor from now on: the old one or, rounded down to tenths, the new total.

    >>> judged(91.27, 90.0)
    ('coverage 91.27 %: the floor rises from 90.0 to 91.2', 91.2)
    >>> judged(89.9, 90.0)
    ('coverage 89.90 % is below the floor of 90.0', 90.0)
    """
    if total < floor:
        return f"coverage {total:.2f} % is below the floor of {floor}", floor
    risen = math.floor(total * 10) / 10
    if risen > floor:
        return f"coverage {total:.2f} %: the floor rises from {floor} to {risen}", risen
    return f"coverage {total:.2f} %, floor {floor}", floor


def measure(arguments: list[str]) -> float:
    """Run the tests; returns the percentage.

    Raises:
        SystemExit: a test fails.
    """
    tool = [sys.executable, "-m", "coverage"]
    environment = {**os.environ}
    if sys.version_info >= (3, 12):
        environment.setdefault("COVERAGE_CORE", "sysmon")
    subprocess.run([*tool, "erase"], cwd=ROOT, check=True)
    tests = subprocess.run([*tool, "run", "-m", "pytest", *arguments], cwd=ROOT, env=environment, check=False)
    if tests.returncode:
        sys.exit(tests.returncode)
    subprocess.run([*tool, "combine", "-q"], cwd=ROOT, check=True)
    subprocess.run([*tool, "report", "--skip-covered", "--sort=cover"], cwd=ROOT, check=True)
    found = subprocess.run([*tool, "report", "--format=total", "--precision=2"], cwd=ROOT, check=True, capture_output=True)
    return float(found.stdout)


def main() -> None:
    """Measure, compare, and raise the floor."""
    floor = float(FLOOR.read_text())
    text, new = judged(measure(sys.argv[1:] or ["-q", "-m", "not e2e"]), floor)
    print(text)
    if new > floor:
        FLOOR.write_text(f"{new}\n")
    sys.exit("below the floor" in text)


if __name__ == "__main__":
    main()
