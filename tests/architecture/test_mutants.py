"""The command that makes mutants makes those it says, and finds the tests of a file."""

from __future__ import annotations

import doctest
import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def mutate() -> Any:
    spec = importlib.util.spec_from_file_location("mutate", ROOT / "benchmarks" / "mutate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutate"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_its_example_runs(mutate: Any) -> None:
    assert doctest.testmod(mutate).attempted >= 1
    assert doctest.testmod(mutate).failed == 0


def test_a_union_of_types_is_no_arithmetic(mutate: Any) -> None:
    assert mutate.mutants("f.py", "def f(a: int | None) -> None: ...") == []


def test_every_mutant_differs_and_compiles(mutate: Any) -> None:
    path = "saddlebag/proto/coding/rice.py"
    text = (ROOT / path).read_text()
    found = mutate.mutants(path, text)
    assert len(found) > 20
    for mutant in found[:40]:
        compile(mutant.text, mutant.path, "exec")
        assert mutant.text != found[0].text or mutant is found[0]


def test_the_core_has_tests_of_its_own(mutate: Any) -> None:
    names = mutate.sources([])
    assert len(names) > 40
    assert "saddlebag/compression/compressors/sparsifiers/top_k.py" in names


def test_types_are_not_changed(mutate: Any) -> None:
    text = "class Keys(TypedDict, total=False):\n    a: Annotated[int, 3]\ndef f(x: str | Path, y: list[str]) -> A | B: ...\n"
    assert mutate.mutants("f.py", text) == []
