"""A rank of a node with several, for `test_link_edges.py`: the server's address, and the folder of what it ends with."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

import saddlebag as sb


def main(address: str, out: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    model = nn.Linear(3, 1)
    with torch.no_grad():
        model.weight.fill_(0.5)
        model.bias.zero_()
    whole = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.SGD(whole.parameters(), 0.1)
    full = {"name": "identity", "dtype": "float64"}
    link = sb.join(address, whole, optimizer, method={"name": "local_average", "up": full, "down": full}, every=2)
    for step in range(8):
        optimizer.zero_grad()
        (whole(torch.full((2, 3), 1.0 + (step + dist.get_rank()) % 3)) - 1.0).square().mean().backward()
        optimizer.step()
        link.step()
    link.finish()
    end = [*model.weight.flatten().tolist(), model.bias.item()]
    (out / f"end-{dist.get_rank()}.json").write_text(json.dumps(end))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
