"""The page of comparisons is what its stored results say, and stored results come from `saddlebag compare`."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parents[2]


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, writing elsewhere."""
    spec = importlib.util.spec_from_file_location("comparison_page", ROOT / "benchmarks" / "comparison.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "DOCS", tmp_path)
    monkeypatch.setattr(module, "STORED", tmp_path / "comparison")
    return module


def entry(label: str, total: float | None, compressor: str) -> dict[str, object]:
    keys = ("iterations", "rounds", "up", "down", "total", "evaluations", "time")
    table = {"name": label, "label": label, "up": {"name": compressor}, "down": {"name": compressor}}
    curve = {key: [float(number) for number in range(1, 200)] for key in keys} | {"merit": [10.0**-n for n in range(199)]}
    return {
        "label": label,
        "method": table,
        "compressed": compressor != "identity",
        "step": 0.5,
        "share": None,
        "resolved": {"step_size": 0.5},
        "lipschitz_step": 0.5,
        "reached": 1 if total else 0,
        "runs": 1,
        "reasons": ["merit" if total else "diverged"],
        "median": dict.fromkeys(keys, total) if total else None,
        "range": {key: [total, total] for key in keys} if total else None,
        "start": 1.0,
        "curves": [curve],
        "grid": [],
    }


def test_the_page_names_the_winner_and_its_factor(page: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "title": "Small",
        "problem": "bilinear",
        "dimension": 8,
        "workers": 2,
        "merit": "relative_error",
        "target": 1e-6,
        "seeds": 1,
        "compare": {"tune": "grid", "objective": "total", "bandwidth": 1e8, "latency": 0.02},
        "reference": "ogda",
        "entries": [entry("ogda", 2000.0, "identity"), entry("new", 100.0, "grid"), entry("naive", None, "rand_k")],
    }
    folder = tmp_path / "compare_small"
    folder.mkdir()
    (folder / "comparison.json").write_text(json.dumps(values))
    monkeypatch.setattr("sys.argv", ["comparison.py", str(folder)])
    page.main()
    text = (tmp_path / "comparison.md").read_text()
    assert "**new** (grid both ways) needs 100 B for each worker, both ways: 20.0 times less than ogda (2.00 kB)." in text
    assert text.index("| new |") < text.index("| ogda |") < text.index("| naive |")
    assert (tmp_path / "comparison" / "small.png").is_file()
    stored = json.loads((tmp_path / "comparison" / "small.json").read_text())
    assert len(stored["entries"][0]["curves"][0]["merit"]) == 60
    monkeypatch.setattr("sys.argv", ["comparison.py"])
    page.main()
    assert (tmp_path / "comparison.md").read_text() == text


def test_the_best_rival_is_named_at_its_best(page: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cells(*totals: float | None) -> list[dict[str, object] | None]:
        at = {"variant": "v", "step": 0.5, "up": 0.0, "iterations": 9}
        return [None if total is None else {**at, "down": total} for total in totals]

    values = {
        "innovations, automatic": cells(400.0, 800.0, 1200.0),
        "innovations, best fixed grids": cells(500.0, 700.0, None),
        "DIANA": cells(300.0, 1000.0, None),
        "EF21": cells(300.0, None, None),
    }
    folder = tmp_path / "rivals"
    folder.mkdir()
    (folder / "small_game.json").write_text(json.dumps(values))
    monkeypatch.setattr("sys.argv", ["comparison.py", "--rivals", str(folder)])
    page.main()
    text = (tmp_path / "comparison.md").read_text()
    assert "| small game | 800 B | 700 B | DIANA, of 2 | 1.00 kB | 0.80 |" in text
    assert "| EF21 | 300 B | - | - | - |" in text
    assert "| DIANA | 300 B | 1.00 kB | - | v, 0.5, 9 |" in text


def test_nothing_stored_is_said(page: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["comparison.py"])
    with pytest.raises(SystemExit, match="there is nothing in"):
        page.main()


@pytest.mark.skipif(not (ROOT / "docs" / "comparison.md").exists(), reason="no comparison is stored")
def test_the_page_in_the_repository_is_up_to_date(page: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "comparison").mkdir()
    for path in (ROOT / "docs" / "comparison").glob("*.json"):
        (tmp_path / "comparison" / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr("sys.argv", ["comparison.py"])
    page.main()
    assert (tmp_path / "comparison.md").read_text() == (ROOT / "docs" / "comparison.md").read_text()
