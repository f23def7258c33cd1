"""The task: scikit-learn's 1,797 digits, a small network, and local training. Nothing here knows of Saddlebag."""

from __future__ import annotations

import functools

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

TEST_ROWS = 360
SKEW = 0.5  # of Dirichlet's distribution of the labels over the clients; the smaller, the more they differ


def network(seed: int) -> nn.Module:
    """64 pixels, 128 and 64 hidden units, 10 classes: 17,226 parameters."""
    with torch.random.fork_rng():
        torch.random.manual_seed(seed)
        return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))


@functools.lru_cache(maxsize=1)
def digits() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pixels and labels for training, pixels and labels for the test."""
    x_ND, y_N = load_digits(return_X_y=True)
    order_N = np.random.default_rng(0).permutation(len(y_N))
    x = torch.from_numpy((x_ND[order_N] / 16).astype(np.float32))
    y = torch.from_numpy(y_N[order_N].astype(np.int64))
    return x[TEST_ROWS:], y[TEST_ROWS:], x[:TEST_ROWS], y[:TEST_ROWS]


@functools.lru_cache(maxsize=8)
def shards(clients: int, seed: int) -> tuple[np.ndarray, ...]:
    """The rows of each client: every label is divided by shares of its own."""
    rng, label_N = np.random.default_rng(seed), digits()[1].numpy()
    owner_N = np.empty(len(label_N), np.int64)
    for label in range(10):
        own_N = np.flatnonzero(label_N == label)
        owner_N[own_N] = rng.choice(clients, len(own_N), p=rng.dirichlet(np.full(clients, SKEW)))
    return tuple(np.flatnonzero(owner_N == client) for client in range(clients))


def train(model: nn.Module, rows_N: np.ndarray, epochs: int, learning_rate: float, seed: int) -> float:
    """Stochastic gradient steps over a client's rows; returns the mean loss of the last epoch."""
    x, y, _, _ = digits()
    rng, losses = np.random.default_rng(seed), [0.0]
    optimiser = torch.optim.SGD(model.parameters(), lr=learning_rate)
    for _ in range(epochs):
        losses = [0.0]
        for start in range(0, len(rows_N), 32):
            if start == 0:
                rows_N = rng.permutation(rows_N)
            batch = torch.from_numpy(rows_N[start : start + 32])
            optimiser.zero_grad()
            loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
            loss.backward()
            optimiser.step()
            losses.append(float(loss))
    return float(np.mean(losses))


def accuracy(model: nn.Module) -> float:
    """On the test rows."""
    _, _, x, y = digits()
    with torch.no_grad():
        return float((model(x).argmax(dim=1) == y).float().mean())
