"""Accuracy against epsilon: softmax regression whose workers, each with one row, add noise to the levels that they send.

    python benchmarks/study_privacy.py [--seeds 3] [--rounds 30] [--adult FILE] [--json FILE]

The data are scikit-learn's digits, or, with --adult, 3,000 rows of adult.data and its columns of numbers; a fifth is held out.
Every worker has one row, so that privacy of workers is privacy of samples. `compressed_sgd` with whole batches, one message of
each worker a round, clipped: 8 or 4 bits on the common grid with discrete noise, as `server.noise` adds it, but from the keyed
stream; or float32 with continuous noise of the same sigma. Epsilon is that of `saddlebag.launch.privacy`, delta 1e-5. With
Opacus installed its accuracy stands beside: the same model, clip, noise, steps and whole batches. Shown is the accuracy on the
held-out rows in percent, mean over the seeds (order of the rows, and noise).

Shapes: N = samples, I = inputs, C = classes, D = (I + 1) C coordinates.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.datasets import load_digits

import saddlebag as sb
from saddlebag.algorithms import Message, simulate
from saddlebag.algorithms.discrete_gaussian import discrete_gaussian
from saddlebag.compression import SERVER, Dense, Draws, Levels, Purpose
from saddlebag.launch.privacy import gaussian_epsilon

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CLIP, DELTA = 2.0, 1e-5  # the norm of a sample's gradient
EPSILONS = (1.0, 3.0, 8.0, math.inf)
WAYS = {"8 bits": ("nearest_int8", 127, 2.0**-6), "4 bits": ("nearest_int4", 7, 2.0**-5), "float32": ("identity", 0, 1.0)}
"""A compressor, its levels, and what one of them is worth."""


class Rows:
    """Softmax regression; the contract of `saddlebag.algorithms.base.Problem`, with a worker for each row."""

    name, constants, unconstrained = "rows", None, True

    def __init__(self, x_NI: Any, y_N: Any, seed: int) -> None:
        order_N = np.random.default_rng(seed).permutation(len(y_N))
        x_NI, y_N, fifth = x_NI[order_N], y_N[order_N], len(y_N) // 5
        self.test, self.x_NI, self.y_N = (x_NI[:fifth], y_N[:fifth]), x_NI[fifth:], y_N[fifth:]
        self.num_workers, self.inputs, self.classes = len(self.y_N), x_NI.shape[1], int(y_N.max()) + 1
        self.dimension = (self.inputs + 1) * self.classes

    def start(self) -> Any:
        return np.zeros(self.dimension)

    def prox(self, v_D: Any, step_size: float) -> Any:
        del step_size
        return v_D

    def scores(self, z_D: Any, x_NI: Any) -> Any:
        """Logits, (N, C)."""
        return x_NI @ z_D[: -self.classes].reshape(self.inputs, self.classes) + z_D[-self.classes :]

    def operator(self, worker: int) -> Callable[[Any, Draws], Any]:
        x_I, y = self.x_NI[worker], self.y_N[worker]

        def slope(z_D: Any, draws: Draws) -> Any:
            del draws
            logit_C = self.scores(z_D, x_I)
            chance_C = np.exp(logit_C - logit_C.max())
            chance_C /= chance_C.sum()
            chance_C[y] -= 1.0
            return np.concatenate((np.outer(x_I, chance_C).ravel(), chance_C))

        return slope

    def merits(self, z_D: Any) -> Mapping[str, float]:
        x_NI, y_N = self.test
        return {"error": float((self.scores(z_D, x_NI).argmax(axis=1) != y_N).mean())}


class Noisy:
    """A wire on which every uplink gets its worker's share of the noise, of sigma in levels, or in the values' units."""

    def __init__(self, sigma: float) -> None:
        self.sigma = sigma

    def carry(self, message: Message, sizes: tuple[int, ...], draws: Draws) -> tuple[Message, int]:
        del sizes
        if draws.worker == SERVER or not self.sigma:
            return message, 0
        payload, words = message.parts[0], draws.own(Purpose.NOISE)
        if isinstance(payload, Levels):
            noise_D = discrete_gaussian(self.sigma, words.words(payload.dimension))
            return Message((Levels((payload.level_D + noise_D).astype(np.int16), payload.scale_B, payload.block),)), 0
        rng = np.random.default_rng(int(words.words(1)[0]))
        return Message((Dense(payload.dense() + self.sigma * rng.standard_normal(payload.dimension)),)), 0


def multiplier(epsilon: float, rounds: int) -> float:
    """The noise that gives this epsilon, by bisection."""
    low, high = 0.1, 1e4
    while high / low > 1.001:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if gaussian_epsilon(middle, rounds, DELTA) <= epsilon else (middle, high)
    return high


def accuracy(rows: Rows, way: str, epsilon: float, seed: int, rounds: int, step_size: float) -> float:
    """Percent of the held-out rows."""
    problem: Any = rows
    name, most, scale = WAYS[way]
    keys: dict[str, Any] = {"common_range": most * scale, "level_clip": CLIP / scale} if most else {"clip_norm": CLIP}
    method = sb.make_method("compressed_sgd", problem, step_size=step_size, momentum=0.0, up=name, down="identity", **keys)
    noise = 0.0 if epsilon == math.inf else multiplier(epsilon, rounds) * CLIP / scale / math.sqrt(rows.num_workers)
    run = simulate(problem, method, seed=seed, stop=sb.Stop(max_rounds=rounds, every=rounds), wire=Noisy(noise))
    return 100.0 * (1.0 - rows.merits(run.replica.z_D)["error"])


def of_opacus(rows: Rows, epsilon: float, seed: int, rounds: int, step_size: float) -> float:
    """The same by Opacus' per-sample gradients and optimizer."""
    import torch
    from opacus import GradSampleModule
    from opacus.optimizers import DPOptimizer

    warnings.simplefilter("ignore")
    model = torch.nn.Linear(rows.inputs, rows.classes).double()
    torch.nn.init.zeros_(model.weight)
    torch.nn.init.zeros_(model.bias)
    sampled = GradSampleModule(model, loss_reduction="mean")
    noise = 0.0 if epsilon == math.inf else multiplier(epsilon, rounds)
    ways: dict[str, Any] = {"noise_multiplier": noise, "max_grad_norm": CLIP, "expected_batch_size": rows.num_workers}
    optimizer = DPOptimizer(
        torch.optim.SGD(model.parameters(), lr=step_size), **ways, generator=torch.Generator().manual_seed(seed)
    )
    x, y = torch.from_numpy(rows.x_NI), torch.from_numpy(rows.y_N)
    for _ in range(rounds):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(sampled(x), y).backward()
        optimizer.step()
    x_NI, y_N = rows.test
    return float((model(torch.from_numpy(x_NI)).argmax(1).numpy() == y_N).mean() * 100.0)


def digits() -> tuple[Any, Any]:
    x_NI, y_N = load_digits(return_X_y=True)
    return x_NI / 16.0, y_N


def adult(file: Path) -> tuple[Any, Any]:
    """The columns of numbers, each divided by its largest, and whether somebody earns above 50K."""
    numbers = (0, 2, 4, 10, 11, 12)
    lines = [line.split(", ") for line in file.read_text().splitlines()[:3000] if line.strip()]
    x_NI = np.array([[float(line[at]) for at in numbers] for line in lines])
    y_N = np.array([line[-1].strip(". ") == ">50K" for line in lines], np.int64)
    return x_NI / x_NI.max(axis=0), y_N


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--most-rows", type=int, default=10**9)
    parser.add_argument("--step-size", type=float, default=4.0)
    parser.add_argument("--adult", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    x_NI, y_N = adult(args.adult) if args.adult else digits()
    x_NI, y_N = x_NI[: args.most_rows], y_N[: args.most_rows]
    has_opacus = importlib.util.find_spec("opacus") is not None
    table: dict[str, dict[str, float]] = {}
    for epsilon in EPSILONS:
        line: dict[str, list[float]] = {}
        for seed in range(args.seeds):
            rows = Rows(x_NI, y_N, seed)
            about = (seed, args.rounds, args.step_size)
            for way in WAYS:
                line.setdefault(way, []).append(accuracy(rows, way, epsilon, *about))
            if has_opacus:
                line.setdefault("Opacus", []).append(of_opacus(rows, epsilon, *about))
        table[f"{epsilon:g}"] = {way: float(np.mean(found)) for way, found in line.items()}
        print(
            f"epsilon {epsilon:g}: " + ", ".join(f"{way} {found:.1f}" for way, found in table[f"{epsilon:g}"].items()),
            flush=True,
        )
    if args.json:
        args.json.write_text(json.dumps(table, indent=2) + "\n")


if __name__ == "__main__":
    main()
