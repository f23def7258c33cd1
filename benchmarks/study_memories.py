"""Which memory and which compressor keep a network's accuracy at a tenth, a thirtieth and a hundredth of the bytes.

    python benchmarks/study_memories.py [--seeds 3] [--iterations 300] [--problem perceptron|digits_transformer] [--json FILE]

Training by `compressed_adamw` (and `power_sgd`) on scikit-learn's digits, a fifth held out, 4 workers, batches of 16 samples
each, the same compressor up and down. Every contender gets the same four step sizes, with linear warm-up and cosine decay, and
is shown at its best one (by mean training loss). Bytes are lengths of encoded messages over those of float32 vectors. With the
default `perceptron` (numpy, d = 26,122) about 4 minutes on one core.

Shapes: N = samples, B = a batch, I = inputs, H = hidden units, C = classes.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np

from saddlebag.algorithms import METHODS, Stop, simulate
from saddlebag.compression import Draws, Purpose, make_compressor
from saddlebag.compression.combinators.per_tensor import Tensor, per_tensor
from saddlebag.proto.codec import LoopbackWire

WORKERS, HIDDEN = 4, 128
STEPS = (1e-3, 3e-3, 1e-2, 3e-2)


@dataclasses.dataclass(eq=False)
class Perceptron:
    """Two hidden layers of rectified units and cross-entropy on pictures of digits, by hand in numpy."""

    seed: int
    batch: int = 16
    num_workers: int = WORKERS
    name: str = "perceptron"
    constants: None = None
    unconstrained: bool = True

    def __post_init__(self) -> None:
        from sklearn.datasets import load_digits

        x, y = load_digits(return_X_y=True)
        order_N = np.random.default_rng(0).permutation(len(y))
        x, y, fifth = x[order_N] / 16.0, y[order_N], len(y) // 5
        self.test, train = (x[:fifth], y[:fifth]), (x[fifth:], y[fifth:])
        self.train, self.shards = (
            train,
            [(train[0][m :: self.num_workers], train[1][m :: self.num_workers]) for m in range(WORKERS)],
        )
        self.shapes = [(64, HIDDEN), (HIDDEN,), (HIDDEN, HIDDEN), (HIDDEN,), (HIDDEN, 10), (10,)]
        self.tensors = [Tensor(f"layer{i // 2}.{'bias' if i % 2 else 'weight'}", shape) for i, shape in enumerate(self.shapes)]
        self.dimension = sum(tensor.size for tensor in self.tensors)
        self.cuts = np.cumsum([tensor.size for tensor in self.tensors])[:-1]

    def start(self) -> Any:
        rng = np.random.default_rng(self.seed)
        return np.concatenate(
            [
                rng.standard_normal(shape).ravel() * (2 / shape[0]) ** 0.5 if len(shape) > 1 else np.zeros(shape)
                for shape in self.shapes
            ]
        )

    def prox(self, v_D: Any, step_size: float) -> Any:
        return v_D

    def _forward(self, z_D: Any, x_BI: Any) -> tuple[list[Any], list[Any], Any]:
        parts = [part.reshape(shape) for part, shape in zip(np.split(z_D, self.cuts), self.shapes, strict=True)]
        layers = [x_BI]
        for weight, bias in ((parts[0], parts[1]), (parts[2], parts[3])):
            layers.append(np.maximum(layers[-1] @ weight + bias, 0.0))
        score_BC = layers[-1] @ parts[4] + parts[5]
        score_BC -= score_BC.max(axis=1, keepdims=True)
        return parts, layers, score_BC - np.log(np.exp(score_BC).sum(axis=1, keepdims=True))

    def operator(self, worker: int) -> Any:
        x, y = self.shards[worker]

        def ask(z_D: Any, draws: Draws) -> Any:
            chosen_B = draws.own(Purpose.BATCH).below(len(y), self.batch)
            parts, layers, log_BC = self._forward(z_D, x[chosen_B])
            back = np.exp(log_BC)
            back[np.arange(self.batch), y[chosen_B]] -= 1.0
            back /= self.batch
            grads: list[Any] = []
            for layer in (2, 1, 0):
                grads = [layers[layer].T @ back, back.sum(axis=0), *grads]
                back = (back @ parts[2 * layer].T) * (layers[layer] > 0)
            return np.concatenate([grad.ravel() for grad in grads])

        return ask

    def merits(self, z_D: Any) -> dict[str, float]:
        (x, y), (xt, yt) = self.train, self.test
        log_NC = self._forward(z_D, x)[2]
        error = float((self._forward(z_D, xt)[2].argmax(axis=1) != yt).mean())
        return {"loss": float(-log_NC[np.arange(len(y)), y].mean()), "clean_error": error}


def transformer(seed: int, batch: int = 16) -> Any:
    from saddlebag.algorithms.networks.images.digits import digits_transformer
    from saddlebag.launch.data.images import read_images

    return digits_transformer(read_images("digits"), num_workers=WORKERS, seed=seed, attack="none", batch_size=batch)


def compressors(ratio: float, problem: Any) -> dict[str, Any]:
    """Those whose messages have about this share of float32's size; sizes of sparse entries include their places."""
    place = {10: 5.0, 30: 6.5, 100: 8.0}[ratio]
    found = {
        "top_k": make_compressor("top_k", fraction=32 / ratio / (32 + place)),
        "top_k, int8": make_compressor(
            "compose", sparsifier={"name": "top_k", "fraction": 32 / ratio / (8.5 + place - 1)}, values={"name": "nearest_int8"}
        ),
        "rand_k": make_compressor("unscaled_rand_k", fraction=1 / ratio),
    }
    rank = {10: 4, 30: 1}.get(ratio)
    if rank:
        rules = [
            {"match": "*weight", "min_size": 1000, "use": {"name": "low_rank", "rank": rank}},
            {"use": {"name": "identity"}},
        ]
        found["low_rank"] = per_tensor(tensors=problem.tensors, rules=rules)
    if ratio == 10:
        found["nearest_int4"] = make_compressor("nearest_int4")
    if ratio == 30:
        found["scaled_sign"] = make_compressor("scaled_sign")
    return found


MEMORIES: dict[str, dict[str, Any]] = {
    "feedback": {"memory": "feedback"},
    "innovations": {"memory": "innovations"},
    "innovations, a = 0.5": {"memory": "innovations", "momentum_up": 0.5},
}


def contenders(problem: Any) -> list[tuple[str, str, str, dict[str, Any]]]:
    """(share, compressor, memory, method and parameters)."""
    full = make_compressor("identity")
    cells: list[Any] = [("1", "none", "-", {"name": "compressed_adamw", "up": full, "down": full})]
    for ratio in (10, 30, 100):
        for (label, each), (memory, keys) in itertools.product(compressors(ratio, problem).items(), MEMORIES.items()):
            if label == "rand_k" and memory != "feedback":
                continue  # far behind with every memory
            cells.append((f"1/{ratio}", label, memory, {"name": "compressed_adamw", "up": each, "down": each, **keys}))
    for share, rank in (("1/10", 4), ("1/30", 1)):
        cells.append((share, f"power_sgd {rank}", "feedback", {"name": "power_sgd", "rank": rank}))
    return cells


def measure(make: Any, keys: dict[str, Any], step_size: float, seed: int, iterations: int) -> tuple[float, float, float]:
    """Training loss (infinite if it diverged), held-out error, bytes in all."""
    problem, params = make(seed), {key: value for key, value in keys.items() if key != "name"}
    schedule = {"warmup": iterations // 20, "total": iterations, "schedule": "cosine", "weight_decay": 0.01}
    method = METHODS[keys["name"]](problem, step_size=step_size, **schedule, **params)
    outcome = simulate(problem, method, seed=seed, stop=Stop(max_iterations=iterations, every=iterations), wire=LoopbackWire())
    if not outcome.history or outcome.reason == "diverged":
        return float("inf"), 1.0, float(outcome.up_bytes + outcome.down_bytes)
    merits = outcome.history[-1].merits
    return merits["loss"], merits["clean_error"], float(outcome.up_bytes + outcome.down_bytes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--problem", choices=("perceptron", "digits_transformer"), default="perceptron")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--only", default="", help="a pattern that lines' names contain")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    make = functools.partial(Perceptron if args.problem == "perceptron" else transformer, batch=args.batch)
    rows, full = [], 2.0 * 4 * make(0).dimension * WORKERS * args.iterations  # float32 up and down
    print("| share | compressor | memory | bytes | step | training loss | error % (range) |\n|---|---|---|---|---|---|---|")
    for share, label, memory, keys in contenders(make(0)):
        if share != "1" and not re.search(args.only, f"{share} {label} {memory}"):
            continue
        started = time.perf_counter()
        best: Any = None
        for step_size in STEPS:
            runs = [measure(make, keys, step_size, seed, args.iterations) for seed in range(args.seeds)]
            loss = float(np.mean([run[0] for run in runs]))
            if best is None or loss < best[0]:
                best = (loss, step_size, [100 * run[1] for run in runs], runs[0][2])
        loss, step_size, errors, num_bytes = best
        print(
            f"| {share} | {label} | {memory} | 1/{full / num_bytes:.1f} | {step_size:g} | {loss:.2g} | "
            f"{np.mean(errors):.2f} ({min(errors):.1f} to {max(errors):.1f}) |",
            flush=True,
        )
        seconds = time.perf_counter() - started
        rows.append({"share": share, "compressor": label, "memory": memory, "bytes": num_bytes / full, "step": step_size})
        rows[-1] |= {"loss": loss, "errors": errors, "seconds": seconds}
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
