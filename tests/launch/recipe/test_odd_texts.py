"""Texts and numbers that are legal TOML and nothing else: each is refused in a line, by its name."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from saddlebag.errors import ConfigError, SaddlebagError, explained
from saddlebag.launch.recipe import toml
from saddlebag.launch.recipe.recipe import load_recipe, recipe_from_dict

if TYPE_CHECKING:
    from pathlib import Path

BASE: dict[str, Any] = {
    "workers": 2,
    "problem": {"name": "bilinear", "n": 4},
    "method": {"name": "ogda", "step_size": 0.1},
}


def test_a_whole_number_of_thousands_of_digits(tmp_path: Path) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text(f"workers = {'9' * 5000}\n")
    with pytest.raises(ConfigError, match=r"r.toml: not TOML: .*4300 digits"):
        load_recipe(recipe)
    toml.override(table := dict(BASE), f"workers={'9' * 5000}")
    with pytest.raises(ConfigError, match=r"workers must be a whole number"):
        recipe_from_dict(table)


@pytest.mark.parametrize("title", ["a\0b", "\x1b[31mred", "\x9bm"])
def test_a_title_is_printed_so_it_can_be(title: str) -> None:
    with pytest.raises(ConfigError, match="title holds a character that cannot be printed"):
        recipe_from_dict({**BASE, "title": title})


def test_no_text_holds_a_zero_byte() -> None:
    with pytest.raises(ConfigError, match=r"data.source holds a character that cannot be printed"):
        recipe_from_dict({**BASE, "data": {"source": "a\0b.csv"}})


def test_data_come_from_no_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rows.csv")
    with pytest.raises(SaddlebagError, match="is a pipe or a device"):
        recipe_from_dict({**BASE, "data": {"source": "rows.csv"}}, folder=tmp_path)


def test_a_dimension_beyond_all_memory_is_no_defect() -> None:
    import numpy as np

    with pytest.raises(ValueError, match="dimension") as caught:
        np.zeros(2**63)
    assert "not enough memory" in str(explained(caught.value))
