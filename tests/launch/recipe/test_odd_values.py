"""Every key of every part, with values that nobody means: read, or refused by name; never an error of Python's own."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from typing import TYPE_CHECKING, Any

import pytest

import saddlebag as sb
from saddlebag.errors import SaddlebagError
from saddlebag.launch.build import build_method, build_problem, resolve
from saddlebag.launch.groupwise.recipe import TABLES, groupwise_from_dict
from saddlebag.launch.groupwise.study import stream_study
from saddlebag.launch.recipe.plugins import find
from saddlebag.launch.recipe.recipe import recipe_from_dict
from saddlebag.parameters import parameters_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ODD: tuple[Any, ...] = (
    -1, 0, 2.5, 1e300, float("nan"), 10**30, "x", "", [], [-1], ["x"], [[1]], {}, {"a": 1}, {"name": "x"}, True,
)  # fmt: skip
GROUPWISE: dict[str, Any] = {
    "features": {"numeric": ["age"], "one_hot": ["sex"]},
    "label": {"column": "y"},
    "groups": {"old": "age > 40"},
    "learner": {"name": "ridge"},
    "mixer": {"name": "ada_normal_hedge"},
    "mixing": {},
}


def own_errors(trials: Iterator[tuple[str, Callable[[], object]]]) -> list[str]:
    """What ended with an error that is not ours."""
    found, tried = [], 0
    for what, trial in trials:
        tried += 1
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                trial()
        except (SaddlebagError, MemoryError):
            pass
        except Exception as error:
            found.append(f"{what}: {type(error).__name__}: {error}")
    assert tried > len(ODD)
    return found


def part(kind: str, name: str) -> dict[str, Any]:
    return parameters_of(find(kind, name, kind))


@pytest.mark.parametrize(
    ("kind", "names", "make"),
    [
        ("compressors", sb.list_compressors, sb.make_compressor),
        ("learners", sb.list_learners, lambda name, **keys: sb.make_learner(name, **{"dimension": 3} | keys)),
        ("mixers", sb.list_mixers, sb.make_mixer),
    ],
)
def test_parts(kind: str, names: Callable[[], list[str]], make: Callable[..., object]) -> None:
    trials = (
        (f"{name}.{key} = {value!r}", lambda name=name, key=key, value=value: make(name, **{key: value}))
        for name in names()
        for key in part(kind, name)
        for value in ODD
    )
    assert own_errors(trials) == []


def test_methods() -> None:
    table: dict[str, Any] = {"workers": 2, "problem": {"name": "bilinear", "n": 3}, "stop": {"max_rounds": 2}}
    problem = build_problem(recipe_from_dict(table | {"method": {"name": "ogda"}}))

    def make(name: str, key: str, value: object) -> None:
        recipe = recipe_from_dict(table | {"method": {"name": name, "step_size": 0.1, key: value}})
        build_method(resolve(recipe, problem), problem)

    trials = (
        (f"{name}.{key} = {value!r}", lambda name=name, key=key, value=value: make(name, key, value))
        for name in sb.list_methods()
        for key in part("methods", name)
        if key != "problem"
        for value in ODD
    )
    assert own_errors(trials) == []


def test_groupwise_tables(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("age,sex,y\n" + "".join(f"{20 + row % 50},{'mf'[row % 2]},{row % 3 % 2}\n" for row in range(30)))
    table = GROUPWISE | {"data": {"source": str(path)}}
    optional: dict[str, Any] = {"conjunctions": {"columns": ["sex"]}}
    parts = [("learner", "name"), ("mixer", "name"), ("groups", "old"), ("mixing", "prior")]
    keys = [(name, field.name) for name, kind in TABLES.items() for field in dataclasses.fields(kind)] + parts

    def study(name: str, key: str, value: object) -> None:
        changed = copy.deepcopy(table)
        changed[name] = optional.get(name, {}) | changed.get(name, {}) | {key: value}
        stream_study(groupwise_from_dict(changed), processes=1)

    trials = (
        (f"{name}.{key} = {value!r}", lambda name=name, key=key, value=value: study(name, key, value))
        for name, key in keys
        for value in ODD
    )
    assert own_errors(trials) == []


@pytest.mark.parametrize(
    ("prior", "words"),
    [
        (-1, "mixing.prior must be a table, got -1"),
        ({"old": "x"}, "mixing.prior.old must be a number, got 'x'"),
        ({"old": -1.0}, "mixing.prior.old must be 0 or more, got -1.0"),
        ({"old": 0.0, "always_on": 0.0}, "mixing.prior must leave some mass to a group"),
    ],
)
def test_a_prior_is_masses_by_name(tmp_path: Path, prior: Any, words: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text("age,sex,y\n20,m,1\n50,f,0\n")
    table = GROUPWISE | {"data": {"source": str(path)}, "mixing": {"prior": prior}}
    with pytest.raises(sb.ConfigError, match=words):
        stream_study(groupwise_from_dict(table), processes=1)


def test_items_of_lists_and_tables_have_types_of_their_own() -> None:
    table = {"workers": 2, "problem": {"name": "bilinear"}, "stop": {"max_rounds": 1}}
    for arms, words in ((3, r"method.arms must be a list, got 3"), ([3], r"method.arms\[0\] must be a table, got 3")):
        with pytest.raises(sb.ConfigError, match=words):
            recipe_from_dict(table | {"method": {"name": "bandit", "arms": arms}})
