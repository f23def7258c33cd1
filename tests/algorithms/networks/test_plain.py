"""Plain training: what backward leaves on a game's own modules is the game's operator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from saddlebag.algorithms.networks.game import ModuleGame
from saddlebag.algorithms.networks.images.digits import digits_transformer
from saddlebag.algorithms.networks.images.pictures import Images
from saddlebag.algorithms.networks.plain import PlainTraining
from saddlebag.compression import Draws
from saddlebag.errors import ConfigError


def build() -> dict[str, nn.Module]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return {"model": nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1))}


def loss(players: Any, batch: Any, chance: Any) -> torch.Tensor:
    (x,) = batch
    return ((players["model"](x) - chance.normal(1).to(x)) ** 2).mean()


def test_the_gradient_is_the_operator() -> None:
    game = ModuleGame(
        build=build, loss=loss, data=tuple((x,) for x in np.random.default_rng(0).random((2, 20, 3))), batch_size=5
    )
    plain = PlainTraining(game)
    z_D = game.start()
    assert np.array_equal(np.concatenate([p.detach().numpy().ravel() for p in plain.parameters()]), z_D.astype(np.float32))
    state = torch.random.get_rng_state()
    for worker, round_ in ((0, 0), (1, 7)):
        plain.zero_grad()
        plain(worker, Draws(3, round_, worker)).backward()
        gradient_D = np.concatenate([p.grad.numpy().ravel() for p in plain.parameters() if p.grad is not None])
        assert np.array_equal(gradient_D.astype(np.float64), game.operator(worker)(z_D, Draws(3, round_, worker)))
    assert torch.equal(torch.random.get_rng_state(), state)
    with torch.no_grad():
        next(plain.parameters()).add_(1.0)
    assert np.array_equal(game.start(), z_D)


def test_blocks_of_samples_are_refused() -> None:
    images = Images("noise", np.random.default_rng(0).random((40, 8, 8)), np.arange(40) % 10)
    game = digits_transformer(images, num_workers=2, batch_size=4, attack="free")
    with pytest.raises(ConfigError, match="local blocks are for the problem's own methods"):
        PlainTraining(game)
