"""The shape of the source files: a file is one idea, a function can be seen at once. Exceptions are listed, with reasons."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAX_LINES, MAX_FUNCTION_LINES = 300, 40
SOURCES = sorted(path for path in (ROOT / "saddlebag").rglob("*.py") if not path.name.endswith("_pb2.py"))
each_source = pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))

LONG_FILES = {
    "saddlebag/algorithms/groupwise/learners/ridge.py": "one learner, and its state beside it",
    "saddlebag/client/ddp/hook.py": "one hook, its state, and the one line that attaches it",
    "saddlebag/launch/groupwise/recipe.py": "one recipe: its sections are small records that mean nothing apart",
    "saddlebag/server/groupwise/core.py": "one core, its settings, and a line of its account",
}
LONG_FUNCTIONS: dict[str, str] = {}
"""File and function -> the reason; none is left that is worth one."""


def functions(text: str) -> dict[str, int]:
    """Name -> lines without the docstring."""
    found = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            documented = ast.get_docstring(node) is not None
            own = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
            lines = (node.end_lineno or 0) - node.lineno + 1 - own
            found[node.name] = max(lines, found.get(node.name, 0))
    return found


@each_source
def test_file_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), f"{path} needs a docstring as its first line"


@each_source
def test_file_is_one_idea(path: Path) -> None:
    """At most 300 lines, or one class: a class is not cut in two for its length."""
    text = path.read_text(encoding="utf-8")
    num_lines = len(text.splitlines())
    classes = [node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)]
    if num_lines > MAX_LINES and len(classes) != 1:
        assert str(path.relative_to(ROOT)) in LONG_FILES, f"{path} has {num_lines} lines and {len(classes)} classes"


@each_source
def test_a_function_can_be_seen_at_once(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    long = {each: lines for each, lines in functions(path.read_text(encoding="utf-8")).items() if lines > MAX_FUNCTION_LINES}
    unexcused = {each: lines for each, lines in long.items() if f"{name}:{each}" not in LONG_FUNCTIONS}
    assert not unexcused, f"{name}: more than {MAX_FUNCTION_LINES} lines without the docstring"


def test_the_exceptions_are_few_and_exist() -> None:
    assert len(LONG_FILES) + len(LONG_FUNCTIONS) <= 5, "shorten something instead"
    for name in LONG_FILES:
        assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) > MAX_LINES, (
            f"{name} is short: take it from the list"
        )
    for each in LONG_FUNCTIONS:
        name, _, function = each.partition(":")
        lines = functions((ROOT / name).read_text(encoding="utf-8")).get(function, 0)
        assert lines > MAX_FUNCTION_LINES, f"{each} is gone or short: take it from the list"


def test_lines_are_counted_without_the_docstring() -> None:
    text = 'def f():\n    """One\n\n    two\n    """\n    a = 1\n    return a\n'
    assert functions(text) == {"f": 3}


def test_launch_folder_holds_job_files_only() -> None:
    assert not list((ROOT / "launch").rglob("*.py")), "Python that launches runs lives in saddlebag/launch"


def unfrozen(text: str) -> list[str]:
    """The dataclasses that can be changed in place."""
    found = []
    for node in ast.walk(ast.parse(text)):
        for decorator in node.decorator_list if isinstance(node, ast.ClassDef) else ():
            keys = {key.arg: ast.unparse(key.value) for key in decorator.keywords} if isinstance(decorator, ast.Call) else {}
            called = decorator.func if isinstance(decorator, ast.Call) else decorator
            if ast.unparse(called).endswith("dataclass") and keys.get("frozen") != "True":
                found.append(node.name)
    return found


def test_states_and_parameters_of_the_mathematics_are_frozen() -> None:
    """What outlives a round is passed and returned, so that it can be saved, compared and replayed."""
    pure = [path for path in SOURCES if {"algorithms", "compression"} & set(path.relative_to(ROOT).parts[1:2])]
    assert len(pure) > 100
    assert {str(path.relative_to(ROOT)): found for path in pure if (found := unfrozen(path.read_text(encoding="utf-8")))} == {}


def test_a_dataclass_that_is_not_frozen_is_found() -> None:
    assert unfrozen("@dataclass\nclass A: ...\n@dataclasses.dataclass(frozen=False)\nclass B: ...\n") == ["A", "B"]
    assert unfrozen("@dataclasses.dataclass(frozen=True, eq=False)\nclass A: ...\n") == []
