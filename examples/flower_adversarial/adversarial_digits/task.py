"""The task: Saddlebag's `digits_transformer`, its network, its pictures and its attack; here only who holds what, and Adam."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from saddlebag.algorithms.networks.chance import Chance
from saddlebag.algorithms.networks.images.digits import digits_transformer
from saddlebag.launch.data.images import read_images

if TYPE_CHECKING:
    from saddlebag.algorithms.networks.game import ModuleGame

SKEW = 1.0  # of Dirichlet's distribution of the labels over the clients; the smaller, the more they differ
BATCH = 16


@functools.lru_cache(maxsize=8)
def game(seed: int, radius: float, steps: int) -> ModuleGame:
    """The game against perturbations of each picture of at most `radius` a pixel; with 0 steps, without an attack."""
    attack = {"attack": "pgd", "attack_steps": steps} if steps else {"attack": "none"}
    return digits_transformer(read_images("digits"), num_workers=1, seed=seed, eps=radius, **attack)  # type: ignore[arg-type]


def network(seed: int) -> nn.Module:
    """The transformer with its first parameters."""
    return game(seed, 0.1, 0).build()["model"]


@functools.lru_cache(maxsize=8)
def shards(clients: int, seed: int) -> tuple[np.ndarray, ...]:
    """The training rows of each client: every label is divided by shares of its own."""
    rng, label_N = np.random.default_rng(seed), game(seed, 0.1, 0).data[0][1]
    owner_N = np.empty(len(label_N), np.int64)
    for label in range(10):
        own_N = np.flatnonzero(label_N == label)
        owner_N[own_N] = rng.choice(clients, len(own_N), p=rng.dirichlet(np.full(clients, SKEW)))
    return tuple(np.flatnonzero(owner_N == client) for client in range(clients))


def train(model: nn.Module, rows_N: np.ndarray, task: ModuleGame, *, epochs: int, learning_rate: float, seed: int) -> float:
    """Adam steps on the game's loss over a client's rows; returns the mean loss of the last epoch."""
    rng, losses = np.random.default_rng(seed), [0.0]
    optimiser = torch.optim.Adam(model.parameters(), lr=learning_rate)
    for epoch in range(epochs):
        losses = [0.0]
        rows_N = rng.permutation(rows_N)
        for start in range(0, len(rows_N), BATCH):
            index_B = rows_N[start : start + BATCH]
            x, y = (torch.from_numpy(array[index_B]) for array in task.data[0])
            chance = Chance(seed * 1_000_003 + epoch * 1_009 + start, len(index_B), slice(None))
            optimiser.zero_grad()
            loss = task.loss({"model": model}, (x, y), chance)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            losses.append(loss.item())
    return float(np.mean(losses[1:] or losses))


def accuracies(model: nn.Module, task: ModuleGame) -> dict[str, float]:
    """On the pictures that the game holds out: clean, and under 20 steps of the attack."""
    with torch.no_grad():
        z_D = torch.cat([parameter.reshape(-1) for parameter in model.parameters()]).double().numpy()
    merits = task.merits(z_D)
    return {"accuracy": 1.0 - merits["clean_error"], "robust-accuracy": 1.0 - merits["robust_error"]}
