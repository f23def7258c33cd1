"""A network inside Flower: adversarial training of the digits transformer by compressed AdamW."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("flwr", reason="Flower is an extra")
pytest.importorskip("torch", reason="networks need torch")

from saddlebag.algorithms import simulate
from saddlebag.flower import InProcessGrid, MethodStrategy, method_app
from saddlebag.launch.build import build_method, build_problem, resolve
from saddlebag.launch.recipe.recipe import recipe_from_dict
from saddlebag.proto.codec import LoopbackWire

RECIPE = {
    "workers": 2,
    "seed": 1,
    "data": {"source": "digits"},
    "problem": {"name": "digits_transformer", "batch_size": 16, "attack_steps": 2},
    "method": {
        "name": "compressed_adamw",
        "step_size": 3e-3,
        "up": {"name": "grid", "block": 512},
        "down": {"name": "grid", "step": 0.5, "block": 512},
    },
    "stop": {"max_rounds": 3, "every": 3},
}


def test_a_network_trains_in_flower_on_the_bits_of_simulate() -> None:
    recipe = recipe_from_dict(RECIPE)
    problem = build_problem(recipe)
    method = build_method(resolve(recipe, problem), problem)
    expected = simulate(problem, method, seed=recipe.seed, stop=recipe.stop, wire=LoopbackWire())
    result = MethodStrategy(recipe).start(grid=InProcessGrid(method_app(), 2))
    assert np.array_equal(result.arrays["z"].numpy(), expected.replica.z_D)
    assert not np.array_equal(expected.replica.z_D, problem.start())
    assert result.train_metrics_clientapp[3]["up-bytes"] == expected.up_bytes
