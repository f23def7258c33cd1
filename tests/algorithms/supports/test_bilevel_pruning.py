"""Pruning as a bi-level problem: what the mask learns, which coordinates travel, and what is there at the end."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import saddlebag as sb
from saddlebag.algorithms import METHODS, check_method, digest
from saddlebag.compression import SERVER, Draws, Grid, Identity, Sparse
from saddlebag.errors import ConfigError
from saddlebag.launch.drivers.simulated import run_simulated
from saddlebag.launch.drivers.supervisor import run_grpc
from saddlebag.launch.recipe.recipe import load_recipe
from saddlebag.proto.codec import LoopbackWire

if TYPE_CHECKING:
    from pathlib import Path

DRAWS = Draws(0, 0, SERVER)


def fit() -> Any:
    """A quadratic in 12 coordinates, as a minimisation."""
    return sb.make_problem("quadratic", n=6, workers=2, rotation=0.0, strong_monotonicity=0.2)


def method(**keys: Any) -> Any:
    given: dict[str, Any] = {"sparsity": 0.5, "dense": 3, "every": 2, "step_size": 0.05, "up": Identity(), "down": Identity()}
    return METHODS["bilevel_pruning"](fit(), **given | keys)


def turn(way: Any, replica: Any, server: Any) -> tuple[Any, Any, Any]:
    """A round: the replica, the server and the downlink after it."""
    problem, draws = fit(), Draws(0, replica.iteration, SERVER)
    ups = [
        way.worker_step(replica, way.init_worker(replica), problem.operator(worker), draws.of(worker))[1] for worker in range(2)
    ]
    means = sb.algorithms.form_means(way.uplink_sizes(replica, draws), iter(ups), 2)
    server, down = way.server_step(replica, server, means, draws)
    return way.replay(replica, down, draws), server, down


def test_it_is_a_method() -> None:
    for up in (Identity(), Grid()):
        check_method(method(up=up), fit(), wire=LoopbackWire())


def test_before_the_first_mask_it_is_the_inner_method() -> None:
    plain = METHODS["compressed_adamw"](fit(), up=Grid(), down=Grid(), step_size=0.05)
    stop = sb.Stop(max_rounds=3)
    ends = [sb.simulate(fit(), way, stop=stop) for way in (plain, method(up=Grid(), down=Grid()))]
    assert digest(ends[0].replica) == digest(ends[1].replica.state)
    assert ends[0].up_bytes == ends[1].up_bytes


def test_scores_take_the_first_order_step_and_the_largest_stay() -> None:
    way = method(rate=0.3, gamma=0.5)
    replica = way.init_replica(np.linspace(-1.0, 1.2, 12))
    theta_D = replica.state.z_D
    replica = dataclasses.replace(replica, iteration=3)
    gradient_D = np.mean([fit().operator(worker)(replica.z_D, DRAWS) for worker in range(2)], axis=0)
    after, server, down = turn(way, replica, way.init_server(replica))
    slope_D = (theta_D - gradient_D / 0.5) * gradient_D
    rank_D = np.argsort(np.argsort(np.abs(theta_D), kind="stable"), kind="stable")
    score_D = np.clip(0.5 + 0.5 * rank_D / 12 - 0.3 * slope_D / np.sqrt(np.mean(slope_D**2)), 0.0, 1.0)
    assert np.allclose(server.score_D, score_D, atol=1e-6)
    assert set(np.flatnonzero(after.mask_D)) == set(np.argsort(-score_D, kind="stable")[:6])
    assert isinstance(down.parts[0], Sparse)
    assert len(down.parts[0].index_K) == 6
    assert np.array_equal(after.state.z_D, theta_D), "weights under no mask keep their values"


def test_between_masks_only_the_mask_s_coordinates_travel_and_move() -> None:
    way = method()
    replica, server = way.init_replica(fit().start() + 1.0), None
    server = way.init_server(replica)
    for _ in range(4):
        replica, server, _ = turn(way, replica, server)
    inside_D = replica.mask_D > 0
    assert inside_D.sum() == 6
    assert way.uplink_sizes(replica, DRAWS) == (6,)
    after, _, _ = turn(way, replica, server)
    assert np.array_equal(after.state.z_D != replica.state.z_D, inside_D)
    assert np.array_equal(after.mask_D, replica.mask_D)
    again = way.restart(after)
    assert np.array_equal(again.z_D, after.z_D)
    assert again.iteration == after.iteration


@pytest.mark.slow
def test_a_pruned_network_is_there_at_the_end_for_fewer_bytes() -> None:
    problem = sb.make_problem("digits_cnn", data="digits", workers=2, attack="none")
    grid = {"name": "grid", "step": 0.25, "block": 128}
    keys: dict[str, Any] = {"up": grid, "down": grid, "step_size": 5e-3}
    thin = sb.make_method("bilevel_pruning", problem, sparsity=0.8, dense=60, every=9, **keys)
    run = sb.simulate(problem, thin, stop=sb.Stop(max_iterations=160, every=160))
    whole = sb.simulate(
        problem, sb.make_method("compressed_adamw", problem, **keys), stop=sb.Stop(max_iterations=160, every=160)
    )
    assert (run.z == 0).mean() == pytest.approx(0.8, abs=0.01)
    assert run.merits["clean_error"] < 0.15  # a guess is wrong in 0.9
    assert run.up_bytes < 0.75 * whole.up_bytes


@pytest.mark.e2e
def test_grpc_takes_the_way_of_simulate(tmp_path: Path) -> None:
    found = []
    for driver, carry in (("simulate", run_simulated), ("grpc", run_grpc)):
        options = ["baseline=[]", "stop={max_rounds=12,every=12}", "method.dense=3", "method.of={name='compressed_adamw'}"]
        result = carry(load_recipe("bilevel_pruning", [*options, f"driver={driver}"]).jobs()[0], tmp_path / driver)
        found.append(tuple(result[key] for key in ("rounds", "up_bytes", "down_bytes", "digest")))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"sparsity": 1.0}, r"bilevel_pruning\.sparsity must lie between 0 and 1, got 1\.0"),
        ({"dense": -1}, r"bilevel_pruning\.dense must be a whole number of at least 0, got -1"),
        ({"every": 0}, r"bilevel_pruning\.every must be a whole number of at least 1, got 0"),
        ({"rate": 0.0}, r"bilevel_pruning\.rate must be a positive number, got 0\.0"),
        ({"gamma": float("inf")}, r"bilevel_pruning\.gamma must be a positive number, got inf"),
        ({"of": {"name": "bilevel_pruning"}}, r"bilevel_pruning\.of\.name must be a method with compressors"),
        ({"of": {"name": "compressed_lamb"}}, "looks at whole tensors"),
    ],
)
def test_bad_parameters_are_named(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        method(**keys)


def test_problems_with_constraints_are_refused() -> None:
    game = sb.make_problem("matrix_game", rows=3, columns=3, workers=2)
    with pytest.raises(ConfigError, match="bilevel_pruning needs a problem without constraints"):
        METHODS["bilevel_pruning"](game, up=Grid(), down=Grid(), step_size=0.1)
