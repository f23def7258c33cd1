"""Checks of settings: the message names the field, the value and what is allowed."""

from __future__ import annotations

import pytest

from saddlebag.errors import ConfigError, check_choice


@pytest.mark.parametrize("value", ["wide", "", None, 3, ["narrow"]])  # a recipe may hold anything, lists too
def test_what_is_no_choice_is_named(value: object) -> None:
    with pytest.raises(ConfigError, match="size must be one of narrow, broad, got ") as raised:
        check_choice("size", value, {"narrow": 1, "broad": 2})
    assert str(raised.value).endswith(repr(value))


def test_a_choice_passes() -> None:
    check_choice("size", "broad", ("narrow", "broad"))
