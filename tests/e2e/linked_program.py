"""A program with a training loop of its own, for `test_link.py`: rank, address, folder of its checkpoints, steps."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import torch
from torch import nn

import saddlebag as sb

EVERY = 2


def main(rank: int, address: str, kept: Path, steps: int) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    generator, first = torch.Generator().manual_seed(rank), 0
    link = sb.join(
        address, model, optimizer, every=EVERY, rank=rank, note=lambda text: print(text, file=sys.stderr, flush=True)
    )
    if kept.exists():
        state = torch.load(kept)
        first = state["step"]
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        generator.set_state(state["generator"])
        link.load_state_dict(state["link"])
    for step in range(first, steps):
        x = torch.randn(8, 4, generator=generator)
        optimizer.zero_grad()
        ((model(x) - x.sum(1, keepdim=True)) ** 2).mean().backward()
        optimizer.step()
        link.step()
        if step % 20 == 19:
            state = {"step": step + 1, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save({**state, "generator": generator.get_state(), "link": link.state_dict()}, kept.with_suffix(".new"))
            kept.with_suffix(".new").replace(kept)
            print(f"step {step + 1}", flush=True)
    link.finish()
    values = torch.cat([value.detach().reshape(-1) for value in model.parameters()]).numpy()
    print(hashlib.sha256(values.tobytes()).hexdigest(), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
