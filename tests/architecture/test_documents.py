"""The index of decisions names every page once, under its title."""

from __future__ import annotations

import re
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
