"""The index of decisions names every page once, under its title; the page on the architecture is drawn from the code."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

DECISIONS = Path(__file__).parents[2] / "docs" / "decisions"


def test_the_index_of_decisions_is_complete() -> None:
    pages = {path.name: path.read_text(encoding="utf-8").splitlines()[0] for path in DECISIONS.glob("0*.md")}
    rows = re.findall(r"^\| \[(\d+)\]\((\d{4}-[\w-]+\.md)\) \| (.+) \|$", (DECISIONS / "README.md").read_text(), re.MULTILINE)
    assert {name: f"# {number}. {title}" for number, name, title in rows} == pages
    assert all(int(name[:4]) == int(number) for number, name, _ in rows)


def test_every_number_has_a_line() -> None:
    numbers = [int(each) for each in re.findall(r"^\| \[?(\d+)\b", (DECISIONS / "README.md").read_text(), re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1)), "a missing number needs its reason"


ARCHITECTURE = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text(encoding="utf-8")
PACKAGE = Path(__file__).parents[2] / "saddlebag"
NAMED = re.findall(r"`([\w/]+\.py)` `([\w.]+)`", ARCHITECTURE)


def test_the_way_of_a_vector_is_the_code_s() -> None:
    assert len(NAMED) > 10
    for file, name in NAMED:
        tree: ast.AST = ast.parse((PACKAGE / file).read_text(encoding="utf-8"))
        for part in name.split("."):
            found = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == part]
            assert found, f"{file} has no {name}"
            tree = found[0]


def test_the_rooms_are_drawn_from_the_code() -> None:
    script = PACKAGE.parent / "benchmarks" / "architecture.py"
    done = subprocess.run([sys.executable, str(script), "--check"], check=False)
    assert done.returncode == 0, "docs/architecture.md is out of date: python benchmarks/architecture.py"
