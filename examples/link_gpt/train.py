"""A small character model with an ordinary training loop; three lines (marked) link it with other programs, far away.

saddlebag host --workers 2 --out runs/gpt --address 127.0.0.1:7070
python examples/link_gpt/train.py input.txt --rank 0 --server 127.0.0.1:7070
python examples/link_gpt/train.py input.txt --rank 1 --server 127.0.0.1:7070
"""

from __future__ import annotations

import argparse
import contextlib
import json
import lzma
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import saddlebag as sb  # 1

LAYERS, HEADS, WIDTH, CONTEXT, BATCH = 4, 4, 128, 64, 12


class Block(nn.Module):
    """Attention, then a perceptron."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.mix, self.out = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.wide, self.narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        parts = self.mix(self.norm1(x)).view(batch, length, 3, HEADS, width // HEADS).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(parts[0], parts[1], parts[2], is_causal=True)
        x = x + self.out(seen.transpose(1, 2).reshape(batch, length, width))
        return x + self.narrow(functional.gelu(self.wide(self.norm2(x))))


class Model(nn.Module):
    """Characters in, logits of the next ones out; embedding and head are tied."""

    def __init__(self, letters: int) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(letters, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, letters, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        self.head.weight = self.embed.weight

    def forward(self, index: Tensor) -> Tensor:
        x = self.embed(index) + self.place(torch.arange(index.shape[1]))
        return self.head(self.norm(self.blocks(x)))


def read(path: Path) -> tuple[Tensor, Tensor, int]:
    """A text as numbers of characters: nine tenths to train on, the rest; and how many letters there are."""
    data = path.read_bytes()
    text = (lzma.decompress(data) if path.suffix == ".xz" else data).decode()
    letters = sorted(set(text))
    number = {letter: place for place, letter in enumerate(letters)}
    index = torch.tensor([number[letter] for letter in text])
    cut = len(index) * 9 // 10
    return index[:cut], index[cut:], len(letters)


def batch(data: Tensor, generator: torch.Generator, size: int = BATCH) -> tuple[Tensor, Tensor]:
    """Random stretches, and the same one character later."""
    start = torch.randint(len(data) - CONTEXT - 1, (size,), generator=generator)
    rows = torch.stack([data[at : at + CONTEXT + 1] for at in start.tolist()])
    return rows[:, :-1], rows[:, 1:]


def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of the next characters, in nats."""
    return functional.cross_entropy(model(x).flatten(0, 1), y.flatten())


def rate(step: int, steps: int, largest: float) -> float:
    """A short rise, then a cosine down to a tenth."""
    if step < 100:
        return largest * (step + 1) / 100
    return largest * (0.1 + 0.45 * (1 + math.cos(math.pi * (step - 100) / max(1, steps - 100))))


def main() -> None:
    """Train and print a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text", type=Path)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batches", type=int, default=1, help="batches a step, whose gradients are averaged")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rank", type=int, default=0)
    parser.add_argument("--server")
    parser.add_argument("--method", default="sparse_loco", help="a name, or a table as JSON")
    parser.add_argument("--every", type=int, default=30)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    train, held_out, letters = read(options.text)
    model = Model(letters)
    optimizer = torch.optim.AdamW(model.parameters(), options.rate, betas=(0.9, 0.99), weight_decay=0.1)
    link: Any = None
    if options.server:
        method = json.loads(options.method) if options.method.startswith("{") else options.method
        link = sb.join(options.server, model, optimizer, method=method, every=options.every, rank=options.rank)  # 2
    generator, begun = torch.Generator().manual_seed(1000 * options.seed + options.rank), time.perf_counter()
    with link or contextlib.nullcontext():
        for step in range(options.steps):
            for group in optimizer.param_groups:
                group["lr"] = rate(step, options.steps, options.rate)
            optimizer.zero_grad()
            for _ in range(options.batches):
                (loss_of(model, *batch(train, generator)) / options.batches).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            if link:
                link.step()  # 3
    seconds = time.perf_counter() - begun
    model.eval()
    with torch.no_grad():
        loss = loss_of(model, *batch(held_out, torch.Generator().manual_seed(0), 500))
    parameters = sum(value.numel() for value in model.parameters())
    print(
        json.dumps({"loss": round(float(loss), 4), "seconds": round(seconds, 1), "parameters": parameters, "link": repr(link)})
    )


if __name__ == "__main__":
    main()
