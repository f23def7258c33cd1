"""A rank's part of a network: asked from the host or on its device, it gives the same bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from saddlebag.algorithms.networks.game import ModuleGame
from saddlebag.compression import Draws
from saddlebag.errors import NotFiniteError


def game(**fields: Any) -> ModuleGame:
    rng = np.random.default_rng(0)
    data = tuple((rng.standard_normal((12, 3)), rng.standard_normal((12, 2))) for _ in range(2))

    def build() -> dict[str, nn.Module]:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return {"low": nn.Linear(3, 2), "high": nn.Linear(3, 2)}

    def loss(players: Any, batch: Any, chance: Any) -> Any:
        x, y = batch
        return ((players["low"](x) + players["high"](x) - y) ** 2).mean() - players["high"](x).square().mean()

    return ModuleGame(build=build, loss=loss, data=data, maximises=frozenset({"high"}), batch_size=8, **fields)


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_both_ways_of_asking_give_the_same_bits(precision: Any, accumulate: int) -> None:
    problem = game(precision=precision, accumulate=accumulate)
    z_D, draws = problem.start() + 0.1, Draws(1, 2, 1)
    for rank in range(2):
        part: Any = problem.part(1, rank, 2)
        dtype = torch.float32 if precision == "float32" and accumulate == 1 else torch.float64
        assert part.exact_dtype == dtype
        for point in (torch.from_numpy(z_D), torch.from_numpy(z_D).to(dtype)):
            on_device = part.on_device(point, draws)
            assert on_device.dtype == dtype
            np.testing.assert_array_equal(on_device.double().numpy(), part(z_D, draws))
    whole: Any = problem.operator(1)
    mean_D = (problem.part(1, 0, 2)(z_D, draws) + problem.part(1, 1, 2)(z_D, draws)) / 2
    np.testing.assert_allclose(mean_D, whole(z_D, draws), rtol=1e-5 if precision == "float32" else 1e-12)


def test_a_value_is_no_view_of_the_buffer_of_gradients() -> None:
    problem = game(precision="float64")
    part: Any = problem.part(0, 0, 1)
    first = part(problem.start(), Draws(1, 0, 0))
    kept = first.copy()
    part(problem.start() + 1.0, Draws(1, 1, 0))
    np.testing.assert_array_equal(first, kept)


def test_a_gradient_that_is_not_finite_is_told_both_ways() -> None:
    part: Any = game(precision="float32").part(0, 0, 1)
    z_D = np.full(part.game.flat.dimension, 3e38)  # the sum of a row overflows
    for ask, point in ((part, z_D), (part.on_device, torch.from_numpy(z_D))):
        with pytest.raises(NotFiniteError, match="worker 0 is not finite"):
            ask(point, Draws(0, 0, 0))
