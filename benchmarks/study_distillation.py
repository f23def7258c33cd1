"""Federated distillation beside FedAvg: errors on pictures that nobody was told the classes of, and bytes, by temperature.

    python benchmarks/study_distillation.py digits PATH     # PATH: MNIST's folder; ten minutes of one core
    python benchmarks/study_distillation.py digits --smoke

Four clients, in even shares and divided by class. Distillation: unlike perceptrons, `compressed_sgd` on the innovations of the
probabilities, by a grid both ways, or the two largest of ten in two bits up. FedAvg: `local_average` of the first of these
perceptrons, in float32, with as many rounds of as many local steps. Judged on the public pictures, at the end.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import torch

import saddlebag as sb
from saddlebag.launch.data.images import read_images

WORKERS = 4
GRID = {"name": "grid", "step": 0.5, "block": 100}
TOP2 = {"name": "chunk_top_k", "chunk": 10, "k": 2}


def cell(runs: list[Any]) -> str:
    """Mean error in per cent with its range, and kB of a worker both ways."""
    errors = [100 * run.merits["error"] for run in runs]
    kilobytes = statistics.mean((run.up_bytes + run.down_bytes) / WORKERS / 1e3 for run in runs)
    return f"{statistics.mean(errors):.1f} ({min(errors):.1f} to {max(errors):.1f}), {kilobytes:.1f} kB"


def fedavg(data: Any, split: str, seed: int, args: argparse.Namespace) -> Any:
    ways: dict[str, Any] = {"price": 0.0, "speed": 1e-9, "hidden": [64], "batch_size": 32}  # all neurons stay, for good
    problem = sb.make_problem("pruning_game", data=data, workers=WORKERS, split=split, seed=seed, **ways)
    walk: dict[str, Any] = {"local_steps": args.local_steps, "local_rule": "adamw", "local_step_size": 3e-3}
    plain: dict[str, Any] = {"up": {"name": "identity"}, "down": {"name": "identity"}}
    method = sb.make_method("local_average", problem, **walk, **plain)
    return sb.simulate(problem, method, seed=seed, stop=sb.Stop(max_rounds=args.rounds, every=args.rounds))


def distilled(data: Any, split: str, seed: int, args: argparse.Namespace, temperature: float, up: dict[str, Any]) -> Any:
    public = min(1000, len(data.divide()[0]))
    ways: dict[str, Any] = {"public": public, "temperature": temperature, "local_steps": args.local_steps}
    problem = sb.make_problem("distillation", data=data, workers=WORKERS, split=split, seed=seed, **ways)
    keys: dict[str, Any] = {"momentum": 0.0, "memory": "innovations", "step_size": 1.0, "up": up, "down": GRID}
    method = sb.make_method("compressed_sgd", problem, **keys)
    return sb.simulate(problem, method, seed=seed, stop=sb.Stop(max_rounds=args.rounds, every=args.rounds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", help="'digits', or MNIST's folder")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--local-steps", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--smoke", action="store_true")
    args = parser.parse_args()
    if args.smoke:
        args.rounds, args.local_steps, args.seeds = 2, 2, 1
    torch.set_num_threads(1)
    heads = ("data", "split", "FedAvg", "grid, temperature 1", "grid, 2", "grid, 4", "top 2 of 10 up, temperature 1")
    print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    for source in args.data:
        data = read_images(source)
        for split in ("even", "label_skew"):
            cells = [data.name, split, cell([fedavg(data, split, seed, args) for seed in range(args.seeds)])]
            for temperature, up in ((1.0, GRID), (2.0, GRID), (4.0, GRID), (1.0, TOP2)):
                cells.append(cell([distilled(data, split, seed, args, temperature, up) for seed in range(args.seeds)]))
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
