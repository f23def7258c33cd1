"""Checks of settings: the message names the field, the value and what is allowed."""

from __future__ import annotations

import errno

import pytest

from saddlebag.errors import ConfigError, SaddlebagError, StateError, check_choice, explained


@pytest.mark.parametrize("value", ["wide", "", None, 3, ["narrow"]])  # a recipe may hold anything, lists too
def test_what_is_no_choice_is_named(value: object) -> None:
    with pytest.raises(ConfigError, match="size must be one of narrow, broad, got ") as raised:
        check_choice("size", value, {"narrow": 1, "broad": 2})
    assert str(raised.value).endswith(repr(value))


def test_a_choice_passes() -> None:
    check_choice("size", "broad", ("narrow", "broad"))


def test_every_error_is_told_in_a_line() -> None:
    own = ConfigError("a setting")
    assert explained(own) is own
    full = OSError(errno.ENOSPC, "No space left on device")
    assert (type(explained(full)), str(explained(full))) == (StateError, "No space left on device")
    assert str(explained(OSError("a library's own words"))) == "a library's own words"
    assert str(explained(TimeoutError())) == "TimeoutError"
    assert str(explained(MemoryError("Unable to allocate 8 EiB"))).startswith("there is not enough memory")
    defect = explained(ZeroDivisionError("x" * 5000))
    assert type(defect) is SaddlebagError
    assert len(str(defect)) < 1200, "a gRPC status has no room for more"
    assert isinstance(defect.__cause__, ZeroDivisionError)
