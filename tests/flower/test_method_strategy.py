from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("flwr", reason="Flower is an extra")
from flwr.app import RecordDict

from saddlebag.algorithms import digest, simulate
from saddlebag.errors import PeerLost
from saddlebag.flower import InProcessGrid, MethodStrategy, method_app, run_session
from saddlebag.launch.build import build_method, build_problem, resolve
from saddlebag.launch.recipe import Recipe, recipe_from_dict
from saddlebag.proto.codec import LoopbackWire

MASHA1 = {
    "name": "masha1",
    "step_size": 0.2,
    "probability": 0.25,
    "up": {"name": "rand_k", "fraction": 0.25},
    "down": {"name": "natural"},
}
MASHA2 = {
    "name": "masha2",
    "step_size": 0.1,
    "probability": 0.25,
    "up": {"name": "top_k", "fraction": 0.25},
    "down": {"name": "top_k", "fraction": 0.25},
}
PARTIAL = MASHA1 | {"participants": 2}
METHODS: dict[str, dict[str, Any]] = {
    "pp_masha1": PARTIAL,
    "masha1": MASHA1,
    "masha2": MASHA2,
    "extragradient": {"name": "extragradient", "step_size": 0.3},
}


def recipe_for(method: dict[str, Any], **stop: Any) -> Recipe:
    problem = {"name": "bilinear", "n": 6, "regularisation": 0.2}
    return recipe_from_dict(
        {"workers": 4, "seed": 3, "problem": problem, "method": method, "stop": stop or {"max_rounds": 60, "every": 10}}
    )


def reference(recipe: Recipe) -> Any:
    problem = build_problem(recipe)
    method = build_method(resolve(recipe, problem), problem)
    return simulate(problem, method, seed=recipe.seed, stop=recipe.stop, wire=LoopbackWire())


@pytest.mark.parametrize("name", METHODS)
def test_the_trajectory_and_the_bytes_are_those_of_the_in_process_driver(name: str) -> None:
    recipe = recipe_for(METHODS[name])
    strategy = MethodStrategy(recipe)
    result = strategy.start(grid=InProcessGrid(method_app(), 4))
    expected = reference(recipe)
    assert digest(strategy.core.replica) == digest(expected.replica)
    assert np.array_equal(result.arrays["z"].numpy(), expected.replica.z_D)
    assert strategy.core.ledger.up.payload == expected.up_bytes
    assert strategy.core.down_bytes == expected.down_bytes
    assert list(result.train_metrics_clientapp) == [record.round for record in expected.history]


@pytest.mark.parametrize("name", METHODS)
def test_lost_replies_leave_the_trajectory_as_it_is(name: str) -> None:
    recipe = recipe_for(METHODS[name])
    strategy = MethodStrategy(recipe)
    grid = InProcessGrid(method_app(), 4, lost=lambda number, partition: number > 8 and (number * 7 + partition) % 5 == 0)
    strategy.start(grid=grid)
    assert digest(strategy.core.replica) == digest(reference(recipe).replica)


@pytest.mark.parametrize("name", METHODS)
def test_a_client_that_lost_its_state_is_rebuilt_from_the_log_on_the_same_trajectory(name: str) -> None:
    recipe = recipe_for(METHODS[name])
    strategy, grid = MethodStrategy(recipe), InProcessGrid(method_app(), 4)
    strategy.start(grid=grid, num_rounds=30)
    grid.contexts[3].state = RecordDict()
    strategy.start(grid=grid)
    assert strategy.core.epoch == 0
    assert digest(strategy.core.replica) == digest(reference(recipe).replica)


def test_beyond_the_log_a_lost_state_begins_a_new_epoch_and_the_run_converges() -> None:
    strategy = MethodStrategy(recipe_for(MASHA1, merit=1e-8, max_rounds=20000), log_bytes=1000)
    grid = InProcessGrid(method_app(), 4)
    strategy.start(grid=grid, num_rounds=30)
    grid.contexts[3].state = RecordDict()
    strategy.start(grid=grid)
    assert strategy.core.epoch == 1
    assert strategy.core.finished == "merit"


def test_a_diverging_run_ends_as_such() -> None:
    strategy = MethodStrategy(recipe_for(MASHA1 | {"step_size": 1e4}, max_rounds=4000))
    strategy.start(grid=InProcessGrid(method_app(), 4))
    assert strategy.core.finished == "diverged"


@pytest.mark.parametrize("name", METHODS)
def test_a_session_is_on_the_same_trajectory(name: str) -> None:
    recipe = recipe_for(METHODS[name])
    result = run_session(InProcessGrid(method_app(), 4, together=True), recipe, timeout=60)
    expected = reference(recipe)
    assert np.array_equal(result.arrays["z"].numpy(), expected.replica.z_D)
    last = result.train_metrics_clientapp[expected.history[-1].round]
    assert (last["up-bytes"], last["down-bytes"]) == (expected.up_bytes, expected.down_bytes)


def test_a_session_with_too_few_clients_says_so() -> None:
    with pytest.raises(PeerLost, match="4 workers are needed, 2 clients came"):
        run_session(InProcessGrid(method_app(), 2, together=True), recipe_for(MASHA1), timeout=0.5)
