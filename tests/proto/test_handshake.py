from __future__ import annotations

import json
from typing import Any

import pytest

from saddlebag.errors import ConfigError
from saddlebag.proto.handshake import recipe_difference, require_same_recipe

RECIPE: dict[str, Any] = {"method": {"name": "masha1", "up": {"name": "rand_k", "k": 5}}, "seed": 3, "rounds": [1, 2]}


def changed(**changes: Any) -> str:
    return json.dumps({**RECIPE, **changes})


def test_equal_recipes_agree() -> None:
    assert recipe_difference(RECIPE, json.loads(json.dumps(RECIPE))) is None
    require_same_recipe(json.dumps(RECIPE), json.dumps(RECIPE, indent=1, sort_keys=True))
    require_same_recipe("no JSON but equal", "no JSON but equal")


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        (
            changed(method={"name": "masha1", "up": {"name": "rand_k", "k": 6}}),
            "the recipes differ: method.up.k is 6 there and 5 here",
        ),
        (changed(method={"name": "masha1", "up": None}), 'method.up is null there and {"name": "rand_k", "k": 5} here'),
        (changed(seed=4, rounds=[]), r"rounds is \[\] there and \[1, 2\] here"),
        (changed(seed="3"), 'seed is "3" there and 3 here'),
        (changed(extra=True), "extra is true there and null here"),
        ("{}", "the recipes differ: method is null there"),
        ("[]", "the recipes differ:"),
        ("", "the recipes differ: it is no JSON"),
        ("{", "it is no JSON"),
        ("[" * 100_000, "it is no JSON"),
    ],
    ids=range(10),
)
def test_the_first_field_that_differs_is_named(theirs: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        require_same_recipe(theirs, json.dumps(RECIPE))


def test_both_sides_are_named_in_their_roles() -> None:
    assert recipe_difference({"a": {"b": 1}}, {"a": {"b": 2}}) == "a.b is 1 there and 2 here"
    assert recipe_difference({"a": {"b": 2}}, {"a": {"b": 1}}) == "a.b is 2 there and 1 here"
