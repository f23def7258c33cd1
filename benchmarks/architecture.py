"""Draws the architecture from the code's own imports, into docs/architecture.md: python benchmarks/architecture.py [--check].

A room is a folder of the package, a floor is how many rooms lie below it, an arrow an import between rooms. Everything between
the two marks of the page is written by this script; `tests/architecture/test_documents.py` says when it is out of date.
"""

from __future__ import annotations

import argparse
import ast
import functools
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- rooms: written by benchmarks/architecture.py -->", "<!-- end of rooms -->"
TOP = "saddlebag"


def files() -> dict[str, Path]:
    """Dotted name -> file, without generated ones."""
    found = {}
    for path in sorted((ROOT / TOP).rglob("*.py")):
        if not path.name.endswith("_pb2.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def room_of(module: str, known: dict[str, Path]) -> str:
    """The folder of a module, without the package's own name; a file of the package itself is its own room."""
    folder = module if known[module].name == "__init__.py" else module.rpartition(".")[0]
    return folder.partition(".")[2] or module.partition(".")[2] or TOP


def arrows() -> tuple[set[str], set[tuple[str, str]]]:
    """The rooms, and the pairs of them of which the first imports from the second."""
    known = files()
    leaning: set[tuple[str, str]] = set()
    for module, path in known.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                full = [f"{node.module}.{alias.name}" for alias in node.names]
                for target in {name if name in known else node.module for name in full} & set(known):
                    leaning.add((room_of(module, known), room_of(target, known)))
    return {room_of(module, known) for module in known}, {pair for pair in leaning if pair[0] != pair[1]}


def floors(rooms: set[str], leaning: set[tuple[str, str]]) -> dict[str, int]:
    """Room -> the longest way down; rooms that lean on each other (a front names what its folders hold) share a floor."""
    below: dict[str, set[str]] = {room: {target for source, target in leaning if source == room} for room in rooms}
    reach: dict[str, set[str]] = {}
    for room in rooms:
        seen, stack = {room}, [room]
        while stack:
            new = below[stack.pop()] - seen
            seen |= new
            stack.extend(new)
        reach[room] = seen
    together = {room: frozenset(other for other in reach[room] if room in reach[other]) for room in rooms}

    @functools.cache
    def floor(house: frozenset[str]) -> int:
        return 1 + max((floor(together[target]) for room in house for target in below[room] - house), default=-1)

    return {room: floor(together[room]) for room in rooms}


def drawing() -> str:
    """The rooms from the top floor down, as a table in Markdown: who leans on whom, which seldom changes, and not how often."""
    rooms, leaning = arrows()
    level = floors(rooms, leaning)
    rows = ["| floor | room | leans on |", "|---|---|---|"]
    for room in sorted(rooms, key=lambda each: (-level[each], each)):
        leans = ", ".join(sorted(target.replace(".", "/") for source, target in leaning if source == room)) or "nothing"
        rows.append(f"| {level[room]} | `{room.replace('.', '/')}` | {leans} |")
    return "\n".join(rows)


def page(text: str) -> str:
    """The page with the drawing of the present code."""
    head, _, rest = text.partition(BEGIN)
    return f"{head}{BEGIN}\n{drawing()}\n{END}{rest.partition(END)[2]}"


def main() -> int:
    """Write the page, or say whether it is current."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; end with 1 where the page is out of date")
    text = PAGE.read_text(encoding="utf-8")
    if not parser.parse_args().check:
        PAGE.write_text(page(text), encoding="utf-8")
        return 0
    return int(text != page(text))


if __name__ == "__main__":
    sys.exit(main())
