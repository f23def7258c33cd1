from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from saddlebag.algorithms.groupwise import AdaNormalHedge, Groupwise, Ridge, SquaredLoss
from saddlebag.server.groupwise.meaning import changes, describe


def meaning() -> dict[str, Any]:
    algorithm = Groupwise(learner=Ridge(dimension=4), mixer=AdaNormalHedge(), loss=SquaredLoss(), interval=(0.0, 1.0))
    return {
        "features": [
            {"name": "age", "column": "age", "low": 17.0, "high": 90.0},
            {"name": "work=Private", "column": "work", "category": "Private"},
            {"name": "work=State", "column": "work", "category": "State"},
            {"name": "1"},
        ],
        "groups": [{"name": name, "rule": f"age <= {n}", "prior": 0.25} for n, name in enumerate(("a", "b", "c", "d"))],
        "label": {"column": "pay", "positive": "yes"},
        "algorithm": describe(algorithm),
    }


def put(facts: Any, path: str, value: Any) -> None:
    *way, last = [int(key) if key.isdecimal() else key for key in path.split(".")]
    for key in way:
        facts = facts[key]
    facts[last] = value


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ({}, []),
        (
            {"features.1.category": "private", "features.1.name": "work=private"},
            ["column 'work': category 'Private' is now 'private'"],
        ),
        ({"features.0.high": 95.0}, ["column 'age': the scale's high 90.0 is now 95.0"]),
        (
            {"features.0": {"name": "age", "column": "age"}},
            ["column 'age': the scale's low 17.0 is now None", "column 'age': the scale's high 90.0 is now None"],
        ),
        (
            {
                "groups.2": {"name": "d", "rule": "age <= 3", "prior": 0.25},
                "groups.3": {"name": "c", "rule": "age <= 2", "prior": 0.25},
            },
            ["groups 3 and 4 are swapped: 'c' and 'd'"],
        ),
        ({"groups.1.rule": "age <= 7"}, ["group 'b': its rule 'age <= 1' is now 'age <= 7'"]),
        ({"groups.1.name": "e"}, ["group 'b' is gone", "group 'e' is new"]),
        ({"groups.0.prior": 0.5}, ["group 'a': its prior 0.25 is now 0.5"]),
        ({"label.positive": "no"}, ["label.positive: 'yes' is now 'no'"]),
        ({"algorithm.learner.penalty": 3.0}, ["algorithm.learner.penalty: 1.0 is now 3.0"]),
        ({"algorithm.interval": [0.0, 2.0]}, ["algorithm.interval: [0.0, 1.0] is now [0.0, 2.0]"]),
    ],
)
def test_a_change_is_named(edits: dict[str, Any], expected: list[str]) -> None:
    now = copy.deepcopy(meaning())
    for path, value in edits.items():
        put(now, path, value)
    assert changes(meaning(), now) == expected


def test_new_gone_and_moved_columns_are_named() -> None:
    now = meaning()
    now["features"].insert(2, {"name": "work=Self", "column": "work", "category": "Self"})
    assert changes(meaning(), now) == ["column 'work': category 'Self' is new"]
    assert changes(now, meaning()) == ["column 'work': category 'Self' is gone"]
    now = meaning()
    now["features"][0] = {"name": "wage", "column": "wage"}
    assert changes(meaning(), now) == ["column 'age' is gone", "column 'wage' is new"]
    now = meaning()
    now["features"] = [now["features"][n] for n in (3, 1, 2, 0)]
    assert changes(meaning(), now) == ["features 1 and 4 are swapped: 'age' and '1'"]
    now["features"] = [meaning()["features"][n] for n in (3, 0, 1, 2)]
    assert changes(meaning(), now) == ["the order of features changed: 'age' was number 1, now it is '1'"]
    now = meaning()
    now["features"][0] = {"name": "age=7", "column": "age", "category": "7"}
    assert changes(meaning(), now) == ["column 'age': a number before, categories now"]


def test_descriptions_are_plain_and_alike_for_equal_things() -> None:
    assert describe(np.array([1.5, 2.0])) == [1.5, 2.0]
    assert describe({"f": len, "n": np.float64(2.0)}) == {"f": "builtins.len", "n": 2.0}
    assert describe(Ridge(dimension=3)) == describe(Ridge(dimension=3))
    assert "0x" not in str(describe([object(), lambda: None]))
