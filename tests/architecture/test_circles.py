"""No file imports, at any depth and for whatever purpose, a file that imports it: not lazily, and not for types alone."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "saddlebag"


def modules() -> dict[str, Path]:
    """Dotted name -> file, a package by its own name."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        if not path.name.endswith("_pb2.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(source: str, known: set[str]) -> set[str]:
    """What a source imports of the known modules, wherever the statement stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & known
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (names & known) | ({node.module} & known if names - known else set())
    return found


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected components with more than one member (Tarjan 1972)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        number[node] = lowest[node] = len(number)
        stack.append(node)
        for other in graph[node]:
            if other not in number:
                visit(other)
                lowest[node] = min(lowest[node], lowest[other])
            elif other in stack:
                lowest[node] = min(lowest[node], number[other])
        if lowest[node] == number[node]:
            at = stack.index(node)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for node in graph:
        if node not in number:
            visit(node)
    return found


def test_a_circle_is_found() -> None:
    known = {"a", "a.b", "a.c"}
    graph = {"a": set[str](), "a.b": imports_of("def f():\n    from a import c", known), "a.c": imports_of("import a.b", known)}
    assert circles(graph) == [["a.b", "a.c"]]


def test_no_file_is_in_a_circle() -> None:
    found = modules()
    graph = {name: imports_of(path.read_text(encoding="utf-8"), set(found)) - {name} for name, path in found.items()}
    assert circles(graph) == []
