"""The table at a run's end."""

from __future__ import annotations

from typing import Any

import pytest

from saddlebag.launch.results.table import print_summary


def values(target: float | None, reached: bool) -> dict[str, Any]:
    at = {"merit": 5e-3, "iteration": 8, "round": 9, "up_bytes": 2000, "down_bytes": 4000, "elapsed_s": 1.0}
    job = {
        "label": "adam",
        "reason": "merit" if reached else "max_rounds",
        "rounds": 20,
        "iterations": 10,
        "merits": {"robust_error": 0.13, "clean_error": 0.019},
        "up_bytes": 6000,
        "down_bytes": 8000,
        "at_target": at if reached else None,
        "elapsed_s": 2.0,
    }
    return {"title": "A run", "target": target, "merit": "robust_error", "workers": 2, "jobs": [job], "savings": []}


@pytest.mark.parametrize(
    ("target", "reached", "heads", "cells"),
    [
        (None, False, ["merit", "clean_error", "iterations"], ["round limit", "1.3e-01", "1.9e-02", "10", "20", "3.00 kB"]),
        (1e-2, True, ["merit", "iterations"], ["reached", "5.0e-03", "8", "9", "1.00 kB"]),
        (1e-2, False, ["merit", "iterations"], ["round limit", "1.3e-01", "10", "20", "3.00 kB"]),
    ],
)
def test_a_run_without_a_target_shows_all_its_merits(
    target: float | None, reached: bool, heads: list[str], cells: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    print_summary(values(target, reached))
    lines = capsys.readouterr().out.splitlines()
    head, row = [next(line for line in lines if word in line) for word in ("outcome", "adam")]
    assert head.split()[2 : 2 + len(heads)] == heads
    assert " ".join(row.split()).startswith(" ".join(["adam", *cells]))
