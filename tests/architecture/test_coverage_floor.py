"""The floor of coverage rises and never falls."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / ".ci"


@pytest.fixture
def judged() -> Any:
    spec = importlib.util.spec_from_file_location("coverage_floor", FOLDER / "coverage.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.judged


@pytest.mark.parametrize(
    ("total", "new"), [(91.27, 91.2), (90.0, 90.0), (90.09, 90.0), (89.9, 90.0), (0.0, 90.0), (100.0, 100.0)]
)
def test_the_floor_only_rises(judged: Any, total: float, new: float) -> None:
    text, floor = judged(total, 90.0)
    assert floor == new
    assert ("below the floor" in text) == (total < 90.0)


def test_the_floor_is_a_percentage() -> None:
    assert 0 < float((FOLDER / "coverage-floor").read_text()) <= 100
