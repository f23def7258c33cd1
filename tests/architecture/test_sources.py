"""The shape of the source files."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAX_LINES = 300
SOURCES = sorted(path for path in (ROOT / "saddlebag").rglob("*.py") if not path.name.endswith("_pb2.py"))
each_source = pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))


@each_source
def test_file_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), f"{path} needs a docstring as its first line"


@each_source
def test_file_is_one_idea(path: Path) -> None:
    num_lines = len(path.read_text(encoding="utf-8").splitlines())
    assert num_lines <= MAX_LINES, f"{path} has {num_lines} lines; split it at {MAX_LINES}"


def test_launch_folder_holds_job_files_only() -> None:
    assert not list((ROOT / "launch").rglob("*.py")), "Python that launches runs lives in saddlebag/launch"
