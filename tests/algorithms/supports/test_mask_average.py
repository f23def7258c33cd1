"""Masks instead of weights: what travels, what the mean is, and that a network is trained by its mask alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import saddlebag as sb
from saddlebag.algorithms import check_method
from saddlebag.algorithms.problems import check_problem
from saddlebag.algorithms.simulate import form_means
from saddlebag.compression import Draws, Levels
from saddlebag.errors import ConfigError
from saddlebag.launch.drivers.simulated import run_simulated
from saddlebag.launch.drivers.supervisor import run_grpc
from saddlebag.launch.recipe.recipe import load_recipe
from saddlebag.proto.codec import LoopbackWire, encode

if TYPE_CHECKING:
    from pathlib import Path


def problem(**params: Any) -> Any:
    given = {"hidden": [8, 6], "batch_size": 16, **params}
    return sb.make_problem("masked_network", data="digits", workers=3, **given)


def test_it_is_a_method_and_a_problem() -> None:
    check_problem(problem())
    check_method(sb.make_method("mask_average", problem(), local_steps=2), problem(), wire=LoopbackWire(), num_rounds=6)


def test_replicas_hold_the_mean_of_the_masks_that_were_drawn() -> None:
    """Decode every uplink by hand: where it says 1, a bit is not as everybody would guess."""
    game = problem()
    method: Any = sb.make_method("mask_average", game, step_size=0.5, local_steps=2)
    z_D = np.random.default_rng(0).normal(0.0, 2.0, game.dimension)
    replica, draws = method.init_replica(z_D), Draws(0, 5)
    ups, masks = [], []
    for worker in range(3):
        mine = draws.of(worker)
        _, up = method.worker_step(replica, method.init_worker(replica), game.operator(worker), mine)
        ups.append(up)
        masks.append(np.where(up.parts[0].dense() == 1.0, z_D <= 0.0, z_D > 0.0))
    means = form_means((game.dimension,), iter(ups), 3)
    _, down = method.server_step(replica, method.init_server(replica), means, draws)
    after = method.replay(replica, down, draws)
    chance_D = 1.0 / (1.0 + np.exp(-z_D))
    expected_D = np.clip(0.5 * chance_D + 0.5 * np.mean(masks, axis=0), 2.0**-10, 1.0 - 2.0**-10)
    assert np.allclose(1.0 / (1.0 + np.exp(-after.z_D)), expected_D, atol=1e-6)
    assert 0.1 < np.mean(masks[0] != masks[1]) < 0.9


def test_drawn_bits_have_the_chances_that_the_steps_led_to() -> None:
    game = problem()
    method: Any = sb.make_method("mask_average", game, local_steps=1, local_rule="sgd", local_step_size=1e-9)
    z_D = np.linspace(-3.0, 3.0, game.dimension)
    replica = method.init_replica(z_D)
    count_D = np.zeros(game.dimension)
    for round_ in range(60):
        _, up = method.worker_step(replica, method.init_worker(replica), game.operator(0), Draws(0, round_, 0))
        count_D += np.where(up.parts[0].dense() == 1.0, z_D <= 0.0, z_D > 0.0)
    chance_D = 1.0 / (1.0 + np.exp(-z_D))
    off = (count_D - 60 * chance_D).sum() / np.sqrt(60 * (chance_D * (1 - chance_D)).sum())
    assert abs(off) < 5.0  # deviations


def test_what_is_settled_costs_little() -> None:
    game, method = problem(hidden=[64, 32]), sb.make_method("mask_average", problem(hidden=[64, 32]), local_steps=1)
    sizes = []
    for odds in (0.0, 4.0):
        replica = method.init_replica(np.where(np.arange(game.dimension) % 2, odds, -odds))
        _, up = method.worker_step(replica, method.init_worker(replica), game.operator(0), Draws(0, 0, 0))
        assert isinstance(up.parts[0], Levels)
        sizes.append(8.0 * sum(len(buffer) for buffer in encode(up)) / game.dimension)
    assert 0.95 < sizes[0] < 1.1
    assert sizes[1] < 0.35


def test_a_mask_trains_the_network_at_a_bit_a_weight_and_less() -> None:
    game = sb.make_problem("masked_network", data="digits", workers=2, hidden=[96, 48])
    run = sb.simulate(game, sb.make_method("mask_average", game), stop=sb.Stop(max_iterations=40, every=20))
    assert run.merits["error"] < 0.12  # a guess is wrong in 0.9
    early, late = (
        8.0 * each / 2 / game.dimension for each in (run.history[0].up_bytes, run.up_bytes - run.history[0].up_bytes)
    )
    assert late < 0.8 * early < 0.8 * 20


@pytest.mark.e2e
def test_grpc_takes_the_way_of_simulate(tmp_path: Path) -> None:
    found = []
    for driver, carry in (("simulate", run_simulated), ("grpc", run_grpc)):
        options = ["baseline=[]", "stop={max_rounds=4}", "problem.hidden=[8]", "method.local_steps=2", f"driver={driver}"]
        result = carry(load_recipe("masked_network", options).jobs()[0], tmp_path / driver)
        found.append(tuple(result[key] for key in ("rounds", "up_bytes", "down_bytes", "digest", "merits")))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"step_size": 1.5}, r"mask_average\.step_size must lie in \(0, 1\], got 1\.5"),
        ({"local_steps": 0}, r"local_steps must lie in \[1, 2\^16\), got 0"),
        ({"local_step_size": -1.0}, r"local_step_size must be positive, got -1\.0"),
        ({"local_rule": "luck"}, "local_rule must be one of"),
    ],
)
def test_bad_parameters_are_named(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sb.make_method("mask_average", problem(), **params)


def test_what_has_no_mask_and_what_cannot_be_counted_is_refused() -> None:
    game = sb.make_problem("bilinear", n=3, workers=2)
    with pytest.raises(ConfigError, match="mask_average needs a problem whose z are log-odds of a mask"):
        sb.make_method("mask_average", game)
    many = sb.make_problem("masked_network", data="digits", workers=128, hidden=[2], batch_size=2)
    with pytest.raises(ConfigError, match="counts the masks of at most 127 workers, got 128"):
        sb.make_method("mask_average", many)
