"""What is public in the mathematics: what somebody outside the project may lean on, and nothing else.

A name stands in the `__all__` of its file where a package's front shows it, where a registry makes it, where CONTRIBUTING lists
it as a contract or a capability, or where a page or an example imports it. Other files of the project may import what is not.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import runpy
from functools import cache
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest

import saddlebag
import saddlebag.algorithms
import saddlebag.compression
from saddlebag.algorithms.averages.means import MEANS
from saddlebag.algorithms.problems import PROBLEMS
from saddlebag.launch.recipe.plugins import REGISTRIES

ROOT = Path(__file__).parents[2]

_IMPORT = re.compile(r"from (saddlebag[.\w]*) import ([\w, ]+)")


@cache
def modules() -> dict[str, ModuleType]:
    """The files of compression/ and algorithms/, by name."""
    found = {}
    for package in (saddlebag.compression, saddlebag.algorithms):
        for each in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not each.name.endswith(".fused"):  # its import needs triton
                found[each.name] = importlib.import_module(each.name)
    return found


def pages() -> list[Path]:
    """What shows code to users."""
    folders = (ROOT / "docs", ROOT / "examples")
    found = [each for folder in folders for each in folder.rglob("*.*") if each.suffix in {".md", ".py", ".ipynb"}]
    return [ROOT / "README.md", *found]


def names_of(text: str) -> list[tuple[str, str]]:
    """(module, name) of what a page or an example imports from here."""
    return [(module, name) for module, names in _IMPORT.findall(text) for name in re.findall(r"\w+", names)]


@cache
def wanted() -> frozenset[str]:
    """Every class and function that somebody outside may lean on."""
    packages = (module for module in modules().values() if hasattr(module, "__path__"))
    fronts = [saddlebag, saddlebag.algorithms, saddlebag.compression, *packages]
    found: set[Any] = {
        getattr(front, name) for front in fronts for name in getattr(front, "__all__", ()) if is_thing(front, name)
    }
    for registry in (*REGISTRIES.values(), MEANS):
        found |= {getattr(factory, "__self__", factory) for factory in registry.values()}
    table = runpy.run_path(str(ROOT / "benchmarks" / "contracts.py"))
    known = table["protocols"]()
    found |= {known[name] for names in table["KINDS"].values() for name in names}
    for page in pages():
        for module, name in names_of(page.read_text(encoding="utf-8")):
            if module in modules() and is_thing(modules()[module], name):
                found.add(getattr(modules()[module], name))
    return frozenset(map(place, found))


def place(thing: Any) -> str:
    """Its name: pytest imports a file that it reads for doctests a second time, so that there may be two of a class."""
    return f"{thing.__module__}.{thing.__qualname__}"


def is_thing(module: ModuleType, name: str) -> bool:
    """A class or a function, not a constant, nor an alias of a type."""
    return isinstance(getattr(module, name, None), type | FunctionType)


def things() -> list[Any]:
    """The public classes and functions of the mathematics, where they are defined."""
    found = []
    for module in modules().values():
        named = [getattr(module, name) for name in getattr(module, "__all__", ()) if is_thing(module, name)]
        found += [thing for thing in named if thing.__module__ == module.__name__]
    return found


def test_only_what_somebody_outside_needs_is_public() -> None:
    too_much = [name for name in map(place, things()) if name not in wanted()]
    assert not too_much, f"take from __all__ what no package, registry, contract or page shows: {too_much}"


def test_imports_of_pages_are_read() -> None:
    assert names_of("x\nfrom saddlebag.algorithms import Stop, Record\n") == [
        ("saddlebag.algorithms", "Stop"),
        ("saddlebag.algorithms", "Record"),
    ]
    assert place(saddlebag.algorithms.Stop) in wanted()


@pytest.mark.parametrize("name", ["Ogda", "TopK", "Problem", "BilinearGame"])
def test_what_packages_registries_and_contracts_show_is_wanted(name: str) -> None:
    assert name in {each.rpartition(".")[2] for each in wanted() & set(map(place, things()))}


def test_what_is_public_has_an_example() -> None:
    """Protocols, too: who has it, or the least that has. The examples themselves run with the doctests."""
    owners = {place(owner) for factory in PROBLEMS.values() if (owner := getattr(factory, "__self__", None))}
    without = []
    for thing in things():
        said = thing.__doc__ or ""
        if place(thing) in owners:  # a problem's `build` is its factory
            said += vars(thing)["build"].__func__.__doc__ or ""
        if ">>>" not in said:
            without.append(place(thing))
    assert without == [], "their docstrings need an Example that runs"
