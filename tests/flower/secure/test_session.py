"""A recipe with `server.secure` in a session inside Flower: the bits of `simulate`, every uplink masked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from saddlebag.algorithms import simulate
from saddlebag.errors import ConfigError
from saddlebag.flower import InProcessGrid, MethodStrategy, method_app, run_session
from saddlebag.launch.build import build_method, build_problem
from saddlebag.launch.recipe.recipe import Recipe, recipe_from_dict
from saddlebag.proto.codec import LoopbackWire
from saddlebag.proto.secure.member import Member

UP = {"name": "nearest_int8"}


def recipe_for(**server: Any) -> Recipe:
    method = {"name": "compressed_sgd", "step_size": 0.05, "common_range": 0.5, "up": UP, "down": UP}
    problem = {"name": "quadratic", "n": 12}
    return recipe_from_dict({"workers": 3, "problem": problem, "method": method, "stop": {"max_rounds": 5}, "server": server})


def test_a_session_masks_and_has_the_bits_of_simulate(monkeypatch: pytest.MonkeyPatch) -> None:
    masked: list[int] = []
    says = Member.masked

    def counted(self: Member, *told: Any) -> bytes:
        masked.append(self.worker)
        return says(self, *told)

    monkeypatch.setattr(Member, "masked", counted)
    recipe = recipe_for(secure=True)
    result = run_session(InProcessGrid(method_app(), 3, together=True), recipe, timeout=60.0)
    assert sorted(masked) == sorted([0, 1, 2] * 5)
    problem = build_problem(recipe)
    expected = simulate(problem, build_method(recipe, problem), seed=recipe.seed, stop=recipe.stop, wire=LoopbackWire())
    assert np.array_equal(result.arrays["z"].numpy(), expected.replica.z_D)


def test_noise_and_single_messages_are_refused_by_name() -> None:
    grid = InProcessGrid(method_app(), 3, together=True)
    with pytest.raises(ConfigError, match=r"server\.noise = 4\.0 cannot be kept by a session inside Flower"):
        run_session(grid, recipe_for(secure=True, noise=4.0))
    with pytest.raises(ConfigError, match=r"server\.secure = True cannot be kept by a run by Flower's messages"):
        MethodStrategy(recipe_for(secure=True))
