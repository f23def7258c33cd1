"""The task: scikit-learn's 1,797 digits, a small transformer, the attack, local training. Nothing here knows of Saddlebag."""

from __future__ import annotations

import functools

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

TEST_ROWS = 360
SKEW = 1.0  # of Dirichlet's distribution of the labels over the clients; the smaller, the more they differ
SIDE, PATCH, WIDTH, HEADS, LAYERS = 8, 2, 32, 4, 2
BATCH = 16


class Transformer(nn.Module):
    """16 patches of 2 x 2 pixels, two pre-norm encoder layers of width 32, the mean of the tokens, 10 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(PATCH * PATCH, WIDTH)
        self.place = nn.Parameter(0.1 * torch.randn((SIDE // PATCH) ** 2, WIDTH))
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 2 * WIDTH, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, LAYERS, nn.LayerNorm(WIDTH), enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, 10)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Logits, shape (B, 10), of pixels in [0, 1], shape (B, 64)."""
        grid = pixels.view(-1, SIDE // PATCH, PATCH, SIDE // PATCH, PATCH)
        patches = grid.transpose(2, 3).reshape(len(pixels), -1, PATCH * PATCH)
        logits: torch.Tensor = self.head(self.encoder(self.embed(patches) + self.place).mean(dim=1))
        return logits


def network(seed: int) -> nn.Module:
    """The transformer with its first parameters."""
    with torch.random.fork_rng():
        torch.random.manual_seed(seed)
        return Transformer()


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


def perturbed(
    model: nn.Module, x: torch.Tensor, y: torch.Tensor, radius: float, steps: int, generator: torch.Generator
) -> torch.Tensor:
    """Pixels within `radius` of x, and in [0, 1], that make the loss large: projected gradient ascent from a random start.

    Madry et al. 2018, "Towards deep learning models resistant to adversarial attacks"; step 2.5 radius / steps.
    """
    near = (x + radius * (2 * torch.rand(x.shape, generator=generator) - 1)).clamp(0, 1)
    for _ in range(steps):
        near.requires_grad_(True)
        loss = nn.functional.cross_entropy(model(near), y)
        (slope,) = torch.autograd.grad(loss, near)
        moved = near.detach() + 2.5 * radius / steps * slope.sign()
        near = torch.minimum(torch.maximum(moved, x - radius), x + radius).clamp(0, 1)
    return near.detach()


def train(
    model: nn.Module, rows_N: np.ndarray, *, epochs: int, learning_rate: float, radius: float, steps: int, seed: int
) -> float:
    """Adam steps on perturbed rows of a client; returns the mean loss of the last epoch."""
    x, y, _, _ = digits()
    rng, generator, losses = np.random.default_rng(seed), torch.Generator().manual_seed(seed), [0.0]
    optimiser = torch.optim.Adam(model.parameters(), lr=learning_rate)
    for _ in range(epochs):
        losses = [0.0]
        rows_N = rng.permutation(rows_N)
        for start in range(0, len(rows_N), BATCH):
            batch = torch.from_numpy(rows_N[start : start + BATCH])
            pixels = perturbed(model, x[batch], y[batch], radius, steps, generator) if radius else x[batch]
            optimiser.zero_grad()
            loss = nn.functional.cross_entropy(model(pixels), y[batch])
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            losses.append(loss.item())
    return float(np.mean(losses[1:] or losses))


def accuracies(model: nn.Module, radius: float) -> dict[str, float]:
    """On the test rows: clean, and under 20 steps of the attack."""
    _, _, x, y = digits()
    near = perturbed(model, x, y, radius, 20, torch.Generator().manual_seed(0))
    with torch.no_grad():
        clean, robust = (float((model(pixels).argmax(dim=1) == y).float().mean()) for pixels in (x, near))
    return {"accuracy": clean, "robust-accuracy": robust}
