"""Federated distillation: what a client says, when it sleeps, and that unlike models agree at few bytes."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import saddlebag as sb
from saddlebag.algorithms.problems import check_problem
from saddlebag.compression import Draws
from saddlebag.errors import ConfigError
from saddlebag.launch.drivers.simulated import run_simulated
from saddlebag.launch.drivers.supervisor import run_grpc
from saddlebag.launch.recipe.recipe import load_recipe

if TYPE_CHECKING:
    from pathlib import Path

GRID: dict[str, Any] = {"name": "grid", "step": 0.5, "block": 100}


def problem(**params: Any) -> Any:
    return sb.make_problem("distillation", data="digits", **{"workers": 2, "public": 40, "local_steps": 2, **params})


def method(game: Any) -> Any:
    keys: dict[str, Any] = {"momentum": 0.0, "memory": "innovations", "step_size": 1.0}
    return sb.make_method("compressed_sgd", game, up=GRID, down=GRID, **keys)


def test_it_is_a_problem() -> None:
    check_problem(problem())


def test_a_client_says_what_its_model_says_after_its_steps_and_keeps_the_weights() -> None:
    game = problem(temperature=2.0)
    client, z_D = game.clients[1], game.start()
    value_D, block_E = client.step(z_D, np.zeros(client.block_size), Draws(0, 3, 1))
    with torch.no_grad():
        said = (client.model(block_E)(torch.from_numpy(client.public_PHW)) / 2.0).softmax(1).double().numpy()
    assert np.allclose(z_D - value_D, said.reshape(-1), atol=1e-6)
    assert np.abs(block_E).max() > 1e-3
    again_D, again_E = client.step(z_D, np.zeros(client.block_size), Draws(0, 3, 1))
    assert np.array_equal(value_D, again_D)
    assert np.array_equal(block_E, again_E)


def test_who_holds_no_picture_of_a_class_sleeps_where_it_sees_it() -> None:
    game = problem(split="label_skew", local_steps=2)
    client = game.clients[0]
    assert set(client.private[1]) < set(range(10))
    only = dataclasses.replace(client, private=(client.private[0], np.full_like(client.private[1], 3)))  # all threes
    value_D, block_E = only.step(game.start(), np.zeros(only.block_size), Draws(0, 0, 0))
    said = only.model(block_E)(torch.from_numpy(only.public_PHW)).argmax(1).numpy()
    asleep_P = said != 3
    assert not value_D.reshape(-1, 10)[asleep_P].any()
    assert (value_D.reshape(-1, 10)[~asleep_P] != 0).any()


def test_unlike_models_agree_on_classes_that_no_client_holds_alone() -> None:
    game = problem(workers=4, split="label_skew", public=150, local_steps=15)
    assert len({client.block_size for client in game.clients}) == 3
    run = sb.simulate(game, method(game), stop=sb.Stop(max_rounds=8, every=8))
    assert run.merits["error"] < 0.3  # three quarters of the classes are new to each client
    assert run.up_bytes + run.down_bytes < 4 * 4 * game.clients[0].block_size, "less than the smallest client's weights once"


@pytest.mark.e2e
def test_grpc_takes_the_way_of_simulate(tmp_path: Path) -> None:
    found = []
    for driver, carry in (("simulate", run_simulated), ("grpc", run_grpc)):
        options = ["baseline=[]", "workers=2", "stop={max_rounds=3}", "problem.public=30", f"driver={driver}"]
        result = carry(load_recipe("distillation", options).jobs()[0], tmp_path / driver)
        found.append(tuple(result[key] for key in ("rounds", "up_bytes", "down_bytes", "digest", "merits")))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"models": []}, r"models must be a list of lists, hidden layers by worker, got \[\]"),
        ({"models": [[0]]}, "hidden must be a list of whole numbers of at least 1"),
        ({"public": 1000}, "public must be at most 360, the pictures that are held out, got 1000"),
        ({"local_steps": 0}, "local_steps must be a whole number of at least 1, got 0"),
        ({"temperature": 0.0}, r"temperature must be positive and weight at least 0, got 0\.0 and 1\.0"),
        ({"data": None}, "distillation needs pictures"),
    ],
)
def test_bad_parameters_are_named(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sb.make_problem("distillation", **{"data": "digits", "workers": 2, **params})
