"""The gradient of a small language model, on which the benchmarks measure what synthetic vectors cannot show.

A GPT-like transformer of about 10 million parameters (pre-norm, tied embeddings), trained for some steps on words of a
text, or of a synthetic text with Zipf's frequencies; then the gradient of the next batch.
"""

from __future__ import annotations

import lzma
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from pathlib import Path

WIDTH, LAYERS, HEADS, WORDS, LENGTH, BATCH = 320, 6, 5, 8192, 128, 8


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.word = nn.Embedding(WORDS, WIDTH)
        self.place = nn.Embedding(LENGTH, WIDTH)
        layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 4 * WIDTH, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.body = nn.TransformerEncoder(layer, LAYERS, nn.LayerNorm(WIDTH), enable_nested_tensor=False)
        for weight in self.parameters():  # the usual start of GPT-2
            if weight.ndim > 1:
                nn.init.normal_(weight, std=0.02)

    def forward(self, token_BT: Tensor) -> Tensor:
        hidden = self.word(token_BT) + self.place.weight[: token_BT.shape[1]]
        mask = nn.Transformer.generate_square_subsequent_mask(token_BT.shape[1])
        return self.body(hidden, mask=mask, is_causal=True) @ self.word.weight.T


def _read(file: Path) -> str:
    with lzma.open(file, "rt", encoding="utf-8") if file.suffix == ".xz" else file.open(encoding="utf-8") as stream:
        return stream.read()


def _tokens(text: Path | None) -> np.ndarray[Any, Any]:
    """Numbers of words by frequency, the rarest all the same number; a Markov chain over Zipf frequencies without a text."""
    if text is None:
        rng = np.random.default_rng(0)
        frequency = 1.0 / np.arange(1, WORDS + 1)
        fresh = rng.choice(WORDS, 300_000, p=frequency / frequency.sum())
        follows = rng.permutation(WORDS)
        repeat = rng.random(len(fresh)) < 0.5  # half of the words follow from the one before
        fresh[1:][repeat[1:]] = follows[fresh[:-1][repeat[1:]]]
        return fresh
    files = sorted(file for file in text.rglob("*") if file.name.endswith((".txt", ".txt.xz"))) if text.is_dir() else [text]
    if not files:
        raise SystemExit(f"--text: no .txt or .txt.xz file in {text}")
    words = re.findall(r"\w+|[^\w\s]", "\n".join(map(_read, files)))
    _, inverse, count = np.unique(words, return_inverse=True, return_counts=True)
    rank = np.empty(len(count), np.int64)
    rank[np.argsort(-count, kind="stable")] = np.arange(len(count))
    return np.minimum(rank[inverse], WORDS - 1)


def make_gradient(text: Path | None = None, steps: int = 50, show_progress: bool = False) -> dict[str, Tensor]:
    """The gradient by parameter name, float32, after `steps` steps of Adam."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.from_numpy(_tokens(text))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Transformer()
    adam = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step in range(steps + 1):
        start_B = torch.randint(len(tokens) - LENGTH - 1, (BATCH, 1), generator=generator)
        batch = tokens[start_B + torch.arange(LENGTH + 1)]
        loss = nn.functional.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
        adam.zero_grad()
        loss.backward()
        if show_progress and step % 10 == 0:
            print(f"step {step}: loss {loss.item():.2f}", flush=True)
        if step < steps:
            adam.step()
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


def flat(gradient: dict[str, Tensor]) -> np.ndarray[Any, Any]:
    """One vector, tensors in their order; float32, shape (D,)."""
    return np.concatenate([tensor.detach().float().numpy().reshape(-1) for tensor in gradient.values()])
