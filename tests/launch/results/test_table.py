"""The table at a run's end."""

from __future__ import annotations

import re
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
        (None, False, ["merit", "clean_error", "iterations"], ["round limit", "13.0 %", "1.9 %", "10", "20", "3.00 kB"]),
        (1e-2, True, ["merit", "iterations"], ["reached", "0.5 %", "8", "9", "1.00 kB"]),
        (1e-2, False, ["merit", "iterations"], ["round limit", "13.0 %", "10", "20", "3.00 kB"]),
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


def job(label: str, *, start_s: float, elapsed_s: float) -> dict[str, Any]:
    at = {"merit": 7.6e-7, "iteration": 180, "round": 12_180, "up_bytes": 52_127, "down_bytes": 75_200, "elapsed_s": elapsed_s}
    facts = {"label": label, "reason": "merit", "rounds": 12_180, "iterations": 180, "merits": {"relative_error": 7.6e-7}}
    return {**facts, "up_bytes": 1, "down_bytes": 1, "at_target": at, "elapsed_s": elapsed_s, "start_s": start_s}


def summary(savings: list[dict[str, Any]]) -> dict[str, Any]:
    jobs = [job("innovations", start_s=1.5, elapsed_s=2.25), job("extragradient", start_s=0.0, elapsed_s=78.0)]
    return {"title": "A run", "target": 1e-6, "merit": "relative_error", "workers": 4, "jobs": jobs, "savings": savings}


SAVED = {"baseline": "extragradient", "merit": 1e-6, "up": 22.2, "down": 0.5, "total": 18.2}


@pytest.mark.parametrize("width", [110, 80, 60, 45])
def test_a_narrow_terminal_loses_columns_and_no_digits(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    monkeypatch.setenv("NO_COLOR", "1")
    print_summary(summary([SAVED]))
    printed = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert "…" not in printed
    rows = [line for line in printed.splitlines() if line.startswith((" innovations ", " extragradient "))]
    assert all(len(line) <= width for line in printed.splitlines())
    assert [row.split()[0] for row in rows] == ["innovations", "extragradient", "innovations", "extragradient"]
    whole = ["innovations", "reached", "7.6e-07", "180", "12,180", "13.0 kB", "18.8 kB", "0.8 s", "1.5 s"]
    known = {word for cell in whole for word in cell.split()}
    assert set(rows[0].split()) <= known
    assert "7.6e-07" in rows[0]
    assert ("12,180" in rows[0]) == (width >= 60)
    assert ("1.5 s" in rows[0]) == (width >= 110), "the first that goes"


def test_the_time_of_rounds_stands_beside_that_of_the_start(capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(summary([]))
    head, _, first, second = capsys.readouterr().out.splitlines()[2:6]
    assert head.split()[-2:] == ["time", "start"]
    assert first.split()[-4:] == ["0.8", "s", "1.5", "s"]
    assert second.split()[-2:] == ["1:18", "min"]


def test_ratios_are_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(summary([SAVED, {"baseline": "ogda", "merit": None}]))
    lines = capsys.readouterr().out.splitlines()
    at = next(number for number, line in enumerate(lines) if "innovations against" in line)
    assert lines[at].split() == ["innovations", "against", "to", "relative_error", "up", "down", "total"]
    assert " ".join(lines[at + 2].split()) == "extragradient 1.0e-06 22.2x fewer 2.0x more 18.2x fewer"
    assert " ".join(lines[at + 3].split()) == "ogda no relative_error that both reach"
