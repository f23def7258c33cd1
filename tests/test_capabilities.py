"""Capabilities: Protocols that callers ask for, and the attributes that none of them knows."""

from __future__ import annotations

import ast
import dataclasses
import functools
from pathlib import Path
from typing import Protocol

import pytest

from saddlebag.capabilities import members, require_known
from saddlebag.compression import check_compressor
from saddlebag.compression.compressors.sparsifiers.top_k import TopK

PACKAGE = Path(__file__).parents[1] / "saddlebag"
FOREIGN = {
    "_orig_mod": "the model inside torch's compiled one, whose class is private",
    "optimizer": "the optimizer inside Accelerate's, which need not be installed",
    "predict_proba_one": "models of river, some of which pass it on by __getattr__, which isinstance does not ask",
    "coef_": "models of scikit-learn from their first round on, for some a property that fails before",
    "n_features_in_": "as coef_",
    "__qualname__": "any callable of Python's, of which there are many kinds",
    "__dict__": "what an object of somebody else holds",
    "sched_getaffinity": "not on every platform",
}
"""What is looked up by text: at objects of others only, and why no type says it."""


class Wide(Protocol):
    width: int

    def grow(self) -> None: ...


class Wider(Wide, Protocol):
    @property
    def height(self) -> int: ...


@dataclasses.dataclass(frozen=True)
class Plugin:
    parameter: int = 1
    width: int = 2

    def grow(self) -> None: ...

    def _private(self) -> None: ...


class Misspelt(Plugin):
    heigth = 3


def test_members_are_those_of_the_protocol_and_of_what_it_extends() -> None:
    assert members(Wider) == {"width", "grow", "height"}


def test_fields_and_known_names_pass() -> None:
    require_known(Plugin(), [Wide])


def test_a_misspelt_attribute_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(AssertionError, match=r"Misspelt\.heigth: no capability has this name; did you mean 'height'\?"):
        require_known(Misspelt(), [Wider])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shouting(TopK):
    common_draw = True  # misspelt: `common_draws`


def test_a_compressor_with_a_misspelt_capability_is_no_plug_in() -> None:
    with pytest.raises(AssertionError, match="did you mean 'common_draws'"):
        check_compressor(Shouting(k=1))


def looked_up(path: Path) -> list[str]:
    """The attributes that a file looks up by a text, as `getattr(x, "name")` and the like."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "hasattr", "setattr"):
            named = node.args[1]
            if isinstance(named, ast.Constant) and named.value not in FOREIGN:
                found.append(f"{path.relative_to(PACKAGE)}:{node.lineno} {named.value}")
    return found


@functools.cache
def all_looked_up() -> tuple[str, ...]:
    return tuple(line for path in sorted(PACKAGE.rglob("*.py")) if "_pb2" not in path.name for line in looked_up(path))


def test_options_are_types_and_no_texts() -> None:
    assert all_looked_up() == ()


def test_no_name_is_excused_that_needs_no_excuse() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    assert [name for name in FOREIGN if f'"{name}"' not in text and f"'{name}'" not in text] == []
