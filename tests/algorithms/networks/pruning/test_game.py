"""Pruning as a game: what neurons are paid, that who leaves stays away, and that a run leaves the network thin."""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import saddlebag as sb
from saddlebag.algorithms.networks.pruning.judge import Owners
from saddlebag.algorithms.networks.pruning.perceptron import Perceptron
from saddlebag.algorithms.problems import check_problem
from saddlebag.compression import Draws
from saddlebag.errors import ConfigError
from saddlebag.launch.drivers.simulated import run_simulated
from saddlebag.launch.drivers.supervisor import run_grpc
from saddlebag.launch.recipe.recipe import load_recipe

if TYPE_CHECKING:
    from pathlib import Path

WIDTHS = (64, 6, 4, 10)


@functools.cache
def game(**params: Any) -> Any:
    given = {"hidden": [6, 4], "batch_size": 20, "precision": "float64", **params}
    return sb.make_problem("pruning_game", data="digits", workers=2, **given)


def test_weights_hang_on_the_neurons_without_which_they_change_nothing() -> None:
    owners, network = Owners.of(WIDTHS), Perceptron(WIDTHS, seed=0)
    x, generator = torch.rand(5, 8, 8, generator=torch.Generator().manual_seed(0)), torch.Generator().manual_seed(1)
    for neuron in range(10):
        here_N = np.arange(10) != neuron
        factor_N = torch.from_numpy(here_N.astype(np.float32))
        before = network(x, factor_N)
        gone_W = torch.from_numpy(~owners.present(here_N)[: owners.num_weights])
        flat_W = torch.nn.utils.parameters_to_vector(network.parameters()).detach()
        other = Perceptron(WIDTHS, seed=0)
        moved_W = flat_W + gone_W * torch.rand(len(flat_W), generator=generator)
        torch.nn.utils.vector_to_parameters(moved_W, other.parameters())
        assert torch.equal(other(x, factor_N), before)
        assert not torch.equal(other(x), network(x))
    biases = 10 / owners.num_weights  # of the last layer, which hang on nobody
    assert owners.share_N.sum() == pytest.approx(1.0 - biases)
    assert owners.share_N[0] == pytest.approx((65 + 0.5 * 4 - 0.0) / owners.num_weights)


def test_slopes_are_those_of_the_payoffs() -> None:
    """With everybody there, by finite differences of the loss in a factor, and the costs in closed form."""
    problem = game(price=2.0, redundancy=3.0, speed=4.0)
    z_D, draws = problem.start(), Draws(0, 3, 1)
    value_D, size = problem.operator(1)(z_D, draws), problem.owners.num_weights
    row_B = problem.evaluation.rows(1, draws)
    x, y = (torch.from_numpy(array[row_B]) for array in problem.data[1])
    network: Any = problem.module(z_D)["network"]

    @torch.no_grad()
    def loss(factor_N: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(network(x.double(), factor_N), y)

    alike_NN = np.zeros((10, 10))
    for begin, rows in zip((0, 6), network.rows(), strict=True):
        unit = torch.nn.functional.normalize(rows, dim=1).detach().numpy()
        alike_NN[begin : begin + len(unit), begin : begin + len(unit)] = (unit @ unit.T) ** 2 - np.eye(len(unit))
    for neuron in range(10):
        shift_N = torch.zeros(10, dtype=torch.float64)
        shift_N[neuron] = 1e-6
        slope = float(loss(1.0 + shift_N) - loss(1.0 - shift_N)) / 2e-6
        cost = 2.0 * problem.owners.share_N[neuron] + 3.0 / 10 * alike_NN[neuron].sum()
        assert value_D[size + neuron] == pytest.approx(4.0 * (slope + cost), rel=1e-5, abs=1e-7)
    plain_D = game(price=0.0, speed=4.0).operator(1)(z_D, draws)
    assert np.array_equal(value_D[:size], plain_D[:size]), "the weights pay for nobody"


def test_who_has_left_is_asked_no_more() -> None:
    problem = game(redundancy=0.5)
    size = problem.owners.num_weights
    z_D = problem.start()
    z_D[[size + 1, size + 7]] = 0.0
    z_D[size + 2] = 0.1
    active_A = problem.active(z_D)
    outside_D = np.setdiff1d(np.arange(problem.dimension), active_A)
    assert {size + 1, size + 7} <= set(outside_D)
    assert size + 2 in active_A
    assert len(outside_D) == 2 + 65 + 4 + 7 + 10 - 1  # two chances, rows with their biases, columns, one weight in both
    for round_ in range(3):
        assert not problem.operator(0)(z_D, Draws(0, round_, 0))[outside_D].any()
    check_problem(problem)
    assert problem.prox(z_D - 2.0, 1.0)[size:].tolist() == [0.0] * 10


def test_neurons_leave_stay_away_and_their_coordinates_travel_no_more() -> None:
    problem: Any = sb.make_problem("pruning_game", data="digits", workers=2, hidden=[32, 16], price=1.0, batch_size=32)
    grid = {"name": "grid", "step": 0.25, "block": 128}
    method = sb.make_method("active_set", problem, of={"name": "compressed_adamw"}, step_size=5e-3, up=grid, down=grid)
    run = sb.simulate(problem, method, stop=sb.Stop(max_iterations=250, every=10))
    left = [record.merits["neurons"] for record in run.history]
    assert all(later <= sooner for sooner, later in itertools.pairwise(left))
    assert run.merits["sparsity"] > 0.4
    assert run.merits["error"] < 0.2  # a guess is wrong in 0.9
    first, last = run.history[0].up_bytes, run.history[-1].up_bytes - run.history[-2].up_bytes  # of ten rounds each
    share = len(problem.active(run.z)) / problem.dimension
    assert last < (share + 0.15) * first  # headers and scales take the rest


@pytest.mark.e2e
def test_grpc_takes_the_way_of_simulate(tmp_path: Path) -> None:
    options = ["baseline=[]", "stop={max_rounds=30}", "problem={name='pruning_game',hidden=[8,6],price=200.0}"]
    options += ["method.step_size=0.2", "method.of={name='compressed_adamw'}"]
    found = []
    for driver, carry in (("simulate", run_simulated), ("grpc", run_grpc)):
        result = carry(load_recipe("pruning_game", [*options, f"driver={driver}"]).jobs()[0], tmp_path / driver)
        found.append(tuple(result[key] for key in ("rounds", "up_bytes", "down_bytes", "digest", "merits")))
    assert found[0] == found[1]
    assert found[0][-1]["neurons"] < 14


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"speed": 0.0}, r"speed must be a positive number, got 0\.0"),
        ({"price": -1.0}, "price must be finite and at least 0, got -1.0"),
        ({"redundancy": -0.5}, "redundancy must be finite and at least 0, got -0.5"),
        ({"hidden": []}, r"hidden must be a list of whole numbers of at least 1, neurons of each layer, got \[\]"),
        ({"hidden": [4, True]}, r"hidden\[1\] must be a whole number, got True"),
        ({"data": None}, "pruning_game needs pictures"),
    ],
)
def test_bad_parameters_are_named(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sb.make_problem("pruning_game", **{"data": "digits", "workers": 2, **params})
