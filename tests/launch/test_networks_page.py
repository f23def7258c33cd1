"""The examples of docs/networks.md run as they are printed."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saddlebag.compression import Grid, Identity
from saddlebag.compression.registry import make_compressor
from saddlebag.launch.build import build_method, build_problem
from saddlebag.launch.recipe.recipe import recipe_from_dict

if TYPE_CHECKING:
    import pytest

PAGE = Path(__file__).parents[2] / "docs" / "networks.md"


def test_the_example_trains(capsys: pytest.CaptureFixture[str]) -> None:
    example = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[0]
    exec(compile(example, "docs/networks.md", "exec"), {})
    assert "Sequential" in capsys.readouterr().out


def test_the_rules_fit_the_transformer() -> None:
    up = tomllib.loads(re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[0])["method"]["up"]
    table = {
        "workers": 2,
        "problem": {"name": "digits_transformer"},
        "data": {"source": "digits"},
        "method": {"name": "compressed_adamw", "step_size": 0.01, "up": up},
        "stop": {"max_rounds": 1},
    }
    recipe = recipe_from_dict(table)
    method: Any = build_method(recipe, build_problem(recipe))
    used = {tensor.name: compressor for tensor, compressor in method.up.pieces}
    assert used["model.embed.bias"] == Identity()
    assert used["model.blocks.0.query_key_value.weight"] == Grid(step=0.5, block=256)
    assert used["model.head.weight"] == make_compressor("nearest_int8")
