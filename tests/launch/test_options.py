"""Options that commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from saddlebag.launch.commands.options import overrides
from saddlebag.launch.recipe.sections import BUNDLED

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_path_starts_at_the_working_directory_and_a_bundled_sets_name_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert overrides(("seed=1",), None, bundled=BUNDLED) == ["seed=1"]
    assert overrides((), "people.csv", bundled=BUNDLED) == [f"data.source={tmp_path / 'people.csv'}"]
    assert overrides(("seed=1",), "digits", bundled=BUNDLED) == ["seed=1", "data.source=digits"]
    assert overrides((), "digits") == [f"data.source={tmp_path / 'digits'}"]
