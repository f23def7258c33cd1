"""The hook beside plain DDP and beside PyTorch's own PowerSGD hook at the same rank: loss, accuracy, bytes and time a step.

The program is `examples/ddp_digits/train.py`, unmodified, on two gloo processes over loopback. The contenders take turns within
each pair of processes, once for each seed. Bytes are what rank 0 hands to collectives: counted by the hook, by a wrapper around
`all_reduce` for PyTorch's hook, and for plain DDP, whose reductions Python does not see, four for each parameter.

python benchmarks/bench_ddp_hook.py            # 3 seeds, 300 steps: about a minute
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks import powerSGD_hook

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "examples" / "ddp_digits"))  # the program under test

# ruff: noqa: E402
from train import train

from saddlebag.client.ddp import attach

if TYPE_CHECKING:
    from collections.abc import Callable

WARM_UP = 2  # steps uncompressed: what PyTorch's hook asks for at least


class Counting:
    """`all_reduce` that counts the bytes it is handed."""

    def __init__(self) -> None:
        self.bytes, self._all_reduce = 0, dist.all_reduce

    def __call__(self, tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        self.bytes += tensor.numel() * tensor.element_size()
        return self._all_reduce(tensor, *args, **kwargs)


def plain(model: Any) -> Callable[[int], float]:
    return lambda steps: 4.0 * steps * sum(p.numel() for p in model.parameters())


def torch_power_sgd(model: Any, rank: int) -> Callable[[int], float]:
    state = powerSGD_hook.PowerSGDState(None, matrix_approximation_rank=rank, start_powerSGD_iter=WARM_UP)
    counting = Counting()
    dist.all_reduce = counting
    model.register_comm_hook(state, powerSGD_hook.powerSGD_hook)
    return lambda steps: counting.bytes


def ours(model: Any, name: str, **params: Any) -> Callable[[int], float]:
    state = attach(model, name, start_after=WARM_UP, **params)
    return lambda steps: state.bytes_up


def sparse(fraction: float) -> dict[str, Any]:
    return {"sparsifier": {"name": "top_k", "fraction": fraction}, "values": {"name": "nearest_int8"}}


def contenders(rank: int) -> dict[str, Callable[[Any], Callable[[int], float]]]:
    hook = functools.partial
    return {
        "DDP, no hook": plain,
        f"PyTorch's PowerSGD, rank {rank}": hook(torch_power_sgd, rank=rank),
        f"power_sgd, rank {rank}": hook(ours, name="power_sgd", rank=rank),
        "top_k, 1 %": hook(ours, name="top_k", fraction=0.01),
        "top_k, 1 %, 8 bits": hook(ours, name="compose", **sparse(0.01)),
        "block_int8": hook(ours, name="block_int8"),
        "nearest_int8": hook(ours, name="nearest_int8"),
        "nearest_int4": hook(ours, name="nearest_int4"),
        "identity": hook(ours, name="identity"),
    }


def run(number: int, store: str, out: str, options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=number, world_size=2)
    all_reduce, found = dist.all_reduce, []
    train(20, options.width)  # warm
    for seed in range(options.seeds):
        for name, prepare in contenders(options.rank).items():
            counted: list[Callable[[int], float]] = []
            figures = train(options.steps, options.width, seed, lambda model, p=prepare, c=counted: c.append(p(model)))
            dist.all_reduce = all_reduce
            found.append({"name": name, "seed": seed, "bytes": counted[0](options.steps) / options.steps, **figures})
    if number == 0:
        Path(out).write_text(json.dumps(found))
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--rank", type=int, default=2)
    parser.add_argument("--json", type=Path, help="where the single runs go")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = options.json or Path(folder) / "runs.json"
        torch.multiprocessing.spawn(run, (f"{folder}/store", str(out), options), nprocs=2)
        found = json.loads(out.read_text())
    print(f"{options.steps} steps, width {options.width}, {options.seeds} seeds: mean, spread (largest - smallest) of the loss")
    print("| contender | loss | spread | test accuracy | bytes sent a step | of DDP's | ms a step |")
    print("|---|---|---|---|---|---|---|")
    whole = statistics.mean(row["bytes"] for row in found if row["name"] == "DDP, no hook")
    for name in contenders(options.rank):
        rows = [row for row in found if row["name"] == name]
        loss, accuracy, sent = (statistics.mean(row[key] for row in rows) for key in ("loss", "accuracy", "bytes"))
        spread = max(row["loss"] for row in rows) - min(row["loss"] for row in rows)
        ms = statistics.median(row["ms"] for row in rows)
        print(f"| {name} | {loss:.4f} | {spread:.4f} | {accuracy:.4f} | {sent:,.0f} | {sent / whole:.2%} | {ms:.2f} |")


if __name__ == "__main__":
    main()
