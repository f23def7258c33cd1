"""A network that mixes tokens by pooling, trained against the worst perturbations of its pictures, compressed both ways.

    python examples/pooling_block/train.py

The block has no attention: a token learns of the others by three means and maxima (after PoNet, Tan et al. 2022), of the whole
picture, of its row of patches, and of its neighbours. It is ten lines, and all that `ModuleGame` asks of a model is that its
gradient be a function of parameters and batch. So any other block, such as routed attention, goes in its place.

Shapes: B = a batch, R x R = patches, T = R^2 tokens, C = width.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

import saddlebag as sb
from saddlebag.algorithms.networks.adversary import ascend

EPS, PATCH, WIDTH = 0.1, 2, 32


class PoolingBlock(nn.Module):
    """Tokens (B, T, C) to tokens: what the picture, the row and the neighbours hold, each through a map of its own."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.whole, self.row, self.near = nn.LayerNorm(width), *(nn.Linear(width, width) for _ in range(3))
        self.mix = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x_BTC: torch.Tensor) -> torch.Tensor:
        batch, tokens, width = x_BTC.shape
        side = round(tokens**0.5)
        y_BTC = self.norm(x_BTC)
        y_BRRC = y_BTC.view(batch, side, side, width)
        whole = y_BTC.mean(dim=1, keepdim=True)
        row = y_BRRC.amax(dim=2, keepdim=True).expand_as(y_BRRC).reshape(x_BTC.shape)
        near = functional.max_pool1d(y_BTC.transpose(1, 2), 3, stride=1, padding=1).transpose(1, 2)
        x_BTC = x_BTC + self.whole(whole) * y_BTC + self.row(row) + self.near(near)
        mixed: torch.Tensor = x_BTC + self.mix(x_BTC)
        return mixed


class PoolingNetwork(nn.Module):
    """Pictures (B, 8, 8) in [0, 1] to scores."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(PATCH * PATCH, WIDTH)
        self.place = nn.Parameter(0.02 * torch.randn((8 // PATCH) ** 2, WIDTH))
        self.blocks = nn.Sequential(PoolingBlock(WIDTH), PoolingBlock(WIDTH))
        self.head = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 10))

    def forward(self, x_BHW: torch.Tensor) -> torch.Tensor:
        patches = functional.unfold(x_BHW.unsqueeze(1), PATCH, stride=PATCH).transpose(1, 2)
        scores: torch.Tensor = self.head(self.blocks(self.embed(2.0 * patches - 1.0) + self.place).mean(dim=1))
        return scores


def build() -> dict[str, nn.Module]:
    """The same start on every machine."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return {"model": PoolingNetwork()}


def loss(players: Any, batch: tuple[torch.Tensor, ...], chance: Any) -> torch.Tensor:
    """At the worst perturbation that five steps of ascent find."""
    x, y = batch

    def at(point: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(players["model"](point), y)

    return at(ascend(at, x, eps=EPS, steps=5, step_size=EPS / 2, start=chance.uniform(8, 8), low=0.0, high=1.0))


def train(iterations: int) -> tuple[dict[str, float], int]:
    """Errors on held-out pictures, plain and attacked, and bytes that two workers sent."""
    digits = load_digits()
    x, y = (digits.images / 16.0).astype(np.float32), digits.target.astype(np.int64)
    order = np.random.default_rng(0).permutation(len(x))
    held, shards = order[::5], np.array_split(np.delete(order, slice(None, None, 5)), 2)
    judged = torch.from_numpy(x[held]), torch.from_numpy(y[held])

    def evaluate(players: Any) -> dict[str, float]:
        model, (pictures, labels) = players["model"], judged

        def at(point: torch.Tensor) -> torch.Tensor:
            return functional.cross_entropy(model(point), labels, reduction="sum")

        worst = ascend(at, pictures, eps=EPS, steps=20, step_size=EPS / 8, low=0.0, high=1.0)
        with torch.no_grad():
            errors = [float((model(each).argmax(1) != labels).double().mean()) for each in (worst, pictures)]
        return {"robust_error": errors[0], "clean_error": errors[1]}

    game = sb.ModuleGame(
        build=build, loss=loss, data=tuple((x[rows], y[rows]) for rows in shards), batch_size=64, evaluate=evaluate
    )
    grid = {"name": "grid", "step": 0.25, "block": 128}
    method = sb.make_method("compressed_adamw", game, step_size=1e-2, warmup=20, up=grid, down=grid)
    run = sb.simulate(game, method, stop=sb.Stop(max_iterations=iterations, every=iterations))
    return dict(run.merits), run.up_bytes


def main() -> None:
    """Train, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=250)
    errors, num_bytes = train(parser.parse_args().iterations)
    print(", ".join(f"{name} {100 * value:.1f} %" for name, value in errors.items()) + f", {num_bytes / 1e6:.2f} MB up")


if __name__ == "__main__":
    main()
