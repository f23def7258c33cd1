"""Short forms of `kills.py` and `storms.py`: a few instants, seconds of churn, a hundred connections."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(300)


def program(name: str) -> Any:
    sys.path.insert(0, str(Path(__file__).parent))  # they import each other
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.e2e
def test_processes_that_are_killed_and_stopped_change_no_bit() -> None:
    hits = program("kills").tried(6, 3, "grpc")
    assert hits.total() == 6


def test_workers_that_come_and_go_cost_no_memory_and_no_byte() -> None:
    said = program("storms").churn(4.0, workers=4)
    assert "no digest differed, bytes add up" in said


def test_strangers_at_the_port_change_no_bit() -> None:
    said = program("storms").flood(100, 200, 400)
    assert "'idle': 100, 'refused': 0, 'reset connections': 200, 'reset calls': 1000" in said
