"""Every benchmark runs: its smoke form, which is small enough for CI."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def _module(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


smoke = _module("smoke")


@pytest.mark.e2e
@pytest.mark.parametrize("name", sorted(smoke.SMOKE.keys() - smoke.LONG.keys()))
def test_a_benchmark_runs(name: str, tmp_path: Path) -> None:
    for module in smoke.SMOKE[name].needs:
        pytest.importorskip(module, reason=f"{name} needs {module}")
    done = smoke.smoke(name, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]


def test_every_benchmark_has_a_smoke_form() -> None:
    files = {path.name for kind in ("bench", "study", "plot") for path in BENCHMARKS.glob(f"{kind}_*.py")}
    assert files <= smoke.SMOKE.keys() | smoke.NOT_HERE.keys(), "add its tiny arguments to benchmarks/smoke.py"
    assert not smoke.SMOKE.keys() & smoke.NOT_HERE.keys()
    assert all((BENCHMARKS / name).exists() for name in (*smoke.SMOKE, *smoke.NOT_HERE))
