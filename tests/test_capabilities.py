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
FOREIGN = (
    "strerror",
    "__globals__",
    "__module__",
    "shape",
    "tocsr",
    "__name__",
    "__qualname__",
    "sched_getaffinity",
    "dtype",
    "__arrow_c_stream__",
    "__arrow_c_array__",
)
"""What no plug-in of ours has: errors of the system, Python's own, arrays of other libraries, platforms."""
MODELS = ("predict_proba_one", "coef_", "n_features_in_")
"""What models of river and scikit-learn have, some of them from their first round on."""


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
            if isinstance(named, ast.Constant) and named.value not in (*FOREIGN, *MODELS):
                found.append(f"{path.relative_to(PACKAGE)}:{node.lineno} {named.value}")
    return found


@functools.cache
def all_looked_up() -> tuple[str, ...]:
    return tuple(line for path in sorted(PACKAGE.rglob("*.py")) if "_pb2" not in path.name for line in looked_up(path))


LEFT = (
    "client/ddp/",
    "launch/",
    "capabilities.py",
)
"""Where options are still looked up by text; this list only shrinks."""


def test_options_are_types_and_no_texts() -> None:
    assert [line for line in all_looked_up() if not line.startswith(LEFT)] == []


def test_no_place_is_excused_that_needs_no_excuse() -> None:
    assert [place for place in LEFT if not any(line.startswith(place) for line in all_looked_up())] == []
