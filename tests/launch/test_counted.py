"""The probability of synchronisations from counted bytes."""

from __future__ import annotations

import pytest

from saddlebag.compression import Grid, Identity, RandK
from saddlebag.errors import ConfigError
from saddlebag.launch.build import apply_resolved, build_problem, counted_probability, resolve, resolved_json
from saddlebag.launch.recipe.recipe import recipe_from_dict


def test_it_is_the_ratio_of_bytes_in_both_directions() -> None:
    dense, sparse = 1 + 4 * 1000, 2 + 1 + 4 * 100  # layout, K, values
    assert counted_probability(RandK(k=100), RandK(k=100), 1000) == pytest.approx(sparse / dense, rel=0.01)
    assert counted_probability(RandK(k=100), Identity(), 1000) == 0.5, "a dense downlink costs more than it can save"
    assert counted_probability(Grid(), Grid(), 1000) < 0.06
    assert counted_probability(Grid(), Grid(), 1000) < counted_probability(Grid(), Grid(), 1000, sync_grid=0.25) < 0.5


def test_recipes_may_ask_for_it_and_the_number_travels() -> None:
    up = {"name": "rand_k", "fraction": 0.1}
    table = {
        "workers": 2,
        "problem": {"name": "bilinear", "n": 50},
        "method": {"name": "masha1", "probability": "auto", "up": up, "down": up},
        "stop": {"merit": 1e-3},
    }
    recipe = recipe_from_dict(table)
    resolved = resolve(recipe, build_problem(recipe))
    assert 0.1 <= float(resolved.method.probability) <= 0.12
    assert apply_resolved(recipe, resolved_json(resolved)).method == resolved.method
    with pytest.raises(ConfigError, match=r"probability must be a number in \(0, 1\], 'theory' or 'auto', got 'best'"):
        recipe_from_dict(table | {"method": table["method"] | {"probability": "best"}})  # type: ignore[operator]
