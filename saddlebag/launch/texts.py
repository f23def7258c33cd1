"""Texts of an iterate: what a problem says of some of its samples (guesses at hidden words, classes), as tables in Markdown.

A problem offers them by a method beside those of `Problem`:

    def texts(self, z_D: Vector) -> Mapping[str, Sequence[tuple[str, ...]]]:     name -> rows, the heading first
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from saddlebag.proto.checkpoint import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from saddlebag.algorithms.base import Problem
    from saddlebag.compression.payload import Vector

__all__ = ["offers_texts", "write_texts"]


def offers_texts(problem: Problem) -> bool:
    """Whether the problem has something to say."""
    return callable(getattr(problem, "texts", None))


def write_texts(problem: Problem, z_D: Vector, folder: Path) -> dict[str, str]:
    """Write each table at z as folder/name.md; returns them by name."""
    tables: Mapping[str, Sequence[tuple[str, ...]]] = getattr(problem, "texts")(z_D)  # noqa: B009 (no part of the protocol)
    folder.mkdir(parents=True, exist_ok=True)
    written = {name: _markdown(rows) for name, rows in tables.items()}
    for name, text in written.items():
        write_atomically(folder / f"{name}.md", text.encode())
    return written


def _markdown(rows: Sequence[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(_cell(text) for text in row)} |" for row in rows]
    lines.insert(1, "|---" * len(rows[0]) + "|")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """What a corpus holds must not end a cell or be taken for markup of the page."""
    for letter in "\\|`*_<>&":
        text = text.replace(letter, f"\\{letter}")
    return " ".join(text.split())
