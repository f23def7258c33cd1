"""Handwritten digits with DistributedDataParallel: an ordinary script, with Saddlebag's hook where --compressor names one.

torchrun --nproc-per-node 2 examples/ddp_digits/train.py --compressor power_sgd --rank 2
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch.nn.parallel import DistributedDataParallel

if TYPE_CHECKING:
    from collections.abc import Callable

TRAINED, BATCH = 1437, 32


def network(width: int, seed: int) -> torch.nn.Sequential:
    """64 inputs, two hidden layers, 10 classes."""
    torch.manual_seed(seed)
    relu = torch.nn.ReLU
    return torch.nn.Sequential(
        torch.nn.Linear(64, width), relu(), torch.nn.Linear(width, width), relu(), torch.nn.Linear(width, 10)
    )


def train(steps: int, width: int = 256, seed: int = 0, prepare: Callable[[Any], Any] = lambda model: None) -> dict[str, float]:
    """Train on this rank's share of the rows; `prepare` may register a hook on the model."""
    pixels, digits = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(digits))
    x = torch.from_numpy(pixels[order] / 16.0).float()
    y = torch.from_numpy(digits[order])
    rank, ranks = dist.get_rank(), dist.get_world_size()
    own_x, own_y = x[rank:TRAINED:ranks], y[rank:TRAINED:ranks]

    model = DistributedDataParallel(network(width, seed))
    prepare(model)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    batches = torch.Generator().manual_seed(seed * 1000 + rank)
    loss, begun = torch.zeros(()), time.perf_counter()
    for _ in range(steps):
        rows = torch.randint(len(own_y), (BATCH,), generator=batches)
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(own_x[rows]), own_y[rows])
        loss.backward()
        optimiser.step()
    seconds = time.perf_counter() - begun

    with torch.no_grad():
        whole_loss = torch.nn.functional.cross_entropy(model.module(x[:TRAINED]), y[:TRAINED])
        accuracy = (model.module(x[TRAINED:]).argmax(1) == y[TRAINED:]).float().mean()
    return {"loss": float(whole_loss), "accuracy": float(accuracy), "ms": 1e3 * seconds / steps}


def main() -> None:
    """What torchrun starts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--compressor", help="none where it is left out")
    parser.add_argument("--fraction", type=float, help="of top_k and its like")
    parser.add_argument("--rank", type=int, help="of power_sgd and low_rank")
    options = parser.parse_args()
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    states = []

    def hook(model: DistributedDataParallel) -> None:
        params = {name: getattr(options, name) for name in ("fraction", "rank") if getattr(options, name) is not None}
        import saddlebag.client.ddp  # these two lines are all of it

        states.append(saddlebag.client.ddp.attach(model, options.compressor, **params))

    figures = train(options.steps, prepare=hook if options.compressor else lambda model: None)
    if dist.get_rank() == 0:
        sent = f", {states[0].bytes_up / options.steps:,.0f} bytes sent a step" if states else ""
        print("loss {loss:.4f}, test accuracy {accuracy:.3f}, {ms:.1f} ms a step".format(**figures) + sent)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
