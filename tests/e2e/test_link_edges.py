"""Links of models and jobs that are out of the ordinary: sparse gradients, compiled, several ranks, several types, shards."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

import saddlebag as sb
from saddlebag.errors import ConfigError
from tests.launch.link.test_two_levels import AVERAGE, Served, together

NODE = Path(__file__).with_name("linked_node.py")


class Words(nn.Module):
    """An embedding with sparse gradients, and parameters of three types, one of them frozen, one tied."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.embed = nn.Embedding(6, 4, sparse=True)
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4, dtype=torch.float64)
        self.second.bias = self.third_bias = nn.Parameter(torch.zeros(4, dtype=torch.float64))
        self.first.bias.requires_grad_(requires_grad=False)
        self.scale = nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
        with torch.no_grad():
            for value in (self.embed.weight, self.first.weight, self.first.bias, self.second.weight):
                value.copy_(torch.randn(value.shape, generator=generator, dtype=value.dtype))

    def forward(self, word_B: torch.Tensor) -> torch.Tensor:
        x = self.second(self.first(self.embed(word_B)).double())
        return ((x - self.third_bias.detach()) * self.scale.double()).square().mean()


def trained(model: nn.Module, address: str, rank: int) -> None:
    generator = torch.Generator().manual_seed(rank)
    optimizer = torch.optim.SGD([value for value in model.parameters() if value.requires_grad], 0.1)
    with sb.join(address, model, optimizer, method=AVERAGE, every=2, rank=rank) as link:
        for _ in range(6):
            optimizer.zero_grad()
            model(torch.randint(6, (4,), generator=generator)).backward()
            optimizer.step()
            link.step()


@pytest.mark.parametrize("compiled", [False, True])
def test_sparse_tied_frozen_and_mixed_parameters_agree_at_the_end(compiled: bool, tmp_path: Path) -> None:
    models = [Words(), Words()]
    served = Served(tmp_path / "run", workers=2)
    run: list[Any] = [torch.compile(model, backend="eager") if compiled else model for model in models]
    together(*(lambda rank=rank: trained(run[rank], served.address, rank) for rank in (0, 1)))
    assert served.end()["rounds"] == 3
    start = Words()
    for name, value in models[0].named_parameters():
        assert torch.equal(value, dict(models[1].named_parameters())[name]), name
        moved = not torch.equal(value, dict(start.named_parameters())[name])
        assert moved == value.requires_grad, name
    assert models[0].second.bias is models[0].third_bias


def test_shards_are_refused_by_name() -> None:
    fsdp = pytest.importorskip("torch.distributed.fsdp", reason="this torch has no FSDP")
    if not hasattr(fsdp, "fully_shard") or not dist.is_gloo_available():
        pytest.skip("needs fully_shard (torch 2.6) and gloo")
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        model = nn.Linear(4, 2)
        fsdp.fully_shard(model, mesh=dist.init_device_mesh("cpu", (1,)))
        with pytest.raises(ConfigError, match=r"parameter 'weight' is a shard \(FSDP\).* use DistributedDataParallel"):
            sb.join("localhost:1", model, torch.optim.SGD(model.parameters(), 0.1), rank=0)
    finally:
        dist.destroy_process_group()


@pytest.mark.e2e
@pytest.mark.timeout(240)
def test_a_node_of_two_ranks_is_one_worker(tmp_path: Path) -> None:
    """Rank 0 of torchrun's job talks, the other has what it hears; beside them a program of one process."""
    served = Served(tmp_path / "run", workers=2)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(NODE)]
    node = subprocess.Popen([*command, served.address, str(tmp_path)], stderr=subprocess.PIPE, text=True)
    model = nn.Linear(3, 1)
    with torch.no_grad():
        model.weight.fill_(0.5)
        model.bias.zero_()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    thread = threading.Thread(target=lambda: _alone(model, optimizer, served.address), daemon=True)
    thread.start()
    _, text = node.communicate(timeout=120)
    assert all((tmp_path / f"end-{rank}.json").exists() for rank in (0, 1)), text  # gloo may abort a rank while it is torn down
    thread.join(60)
    assert not thread.is_alive()
    assert served.end()["rounds"] == 4
    ends = [json.loads((tmp_path / f"end-{rank}.json").read_text()) for rank in (0, 1)]
    assert ends[0] == ends[1]
    assert np.allclose(ends[0], [*model.weight.flatten().tolist(), model.bias.item()], rtol=0, atol=1e-6)
    assert not np.allclose(ends[0], [0.5, 0.5, 0.5, 0.0], atol=1e-2)


def _alone(model: nn.Linear, optimizer: torch.optim.Optimizer, address: str) -> None:
    with sb.join(address, model, optimizer, method=AVERAGE, every=2, rank=1) as link:
        for step in range(8):
            optimizer.zero_grad()
            (model(torch.full((2, 3), 1.0 + step % 3)) - 1.0).square().mean().backward()
            optimizer.step()
            link.step()
