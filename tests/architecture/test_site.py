"""The documentation builds as a site without a warning, and its notebooks run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


@pytest.mark.timeout(600)
def test_the_site_builds_strictly_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs_jupyter")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for page in ("index", "api", "recipes", "notebooks/game", "theory/innovations", "decisions/0003-draws"):
        text = (tmp_path / f"{page}.html").read_text(encoding="utf-8")
        assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=.(?:https?:)?//[^>]+>", text), page
    assert "make_problem" in (tmp_path / "api.html").read_text(encoding="utf-8")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path) -> None:
    pytest.importorskip("nbclient")
    if path.stem == "flower":
        pytest.importorskip("flwr")
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes())
    script = [sys.executable, str(ROOT / ".ci" / "notebooks.py"), str(copy)]
    done = subprocess.run(script, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr[-3000:]


def test_there_are_four_notebooks_with_what_they_show() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["flower", "game", "groups", "thin_wires"]
    for path in NOTEBOOKS:
        assert path.read_text(encoding="utf-8").count('"output_type"') > 1
