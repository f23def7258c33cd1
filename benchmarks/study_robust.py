"""What three bad workers of ten do to a classifier of digits, under each rule for the mean, with and without compression.

    python benchmarks/study_robust.py [--seeds 3] [--rounds 150] [--json FILE]

Softmax regression on scikit-learn's digits, a fifth held out, ten workers with a tenth of the other rows each, `compressed_sgd`
with full batches and momentum. Three workers, the first, send in every round

    flip    the opposite of what they found, four times as long
    noise   normal entries, a hundred times as large as an honest value's
    copy    ten times what the last worker, an honest one, found

Shown is the accuracy on the held-out rows at the end, in percent, mean over the seeds (order of the rows, and of the noise).
The column `8 bits` has the same with compressed messages in both directions. About half a minute on one core.

Shapes: N = samples, I = inputs, C = classes, D = I C + C coordinates.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from sklearn.datasets import load_digits

import saddlebag as sb
from saddlebag.compression import Draws, Purpose

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

WORKERS, BAD = 10, 3
Attack = Literal["none", "flip", "noise", "copy"]
ATTACKS: tuple[Attack, ...] = ("none", "flip", "noise", "copy")
RULES: dict[str, str | dict[str, Any]] = {
    "mean": "mean",
    "coordinate_median": "coordinate_median",
    "trimmed_mean": {"name": "trimmed_mean", "fraction": 0.3},
    "geometric_median": "geometric_median",
    "centred_clipping": "centred_clipping",
    "norm_bound": "norm_bound",
}


@dataclasses.dataclass(eq=False)
class Softmax:
    """Softmax regression on digits, ten workers, some of whom lie; the contract of `saddlebag.algorithms.base.Problem`."""

    seed: int
    attack: Attack = "none"
    num_workers: int = WORKERS
    name: str = "softmax"
    constants: None = None
    unconstrained: bool = True
    regularisation: float = 1e-3

    def __post_init__(self) -> None:
        x_NI, y_N = load_digits(return_X_y=True)
        order_N = np.random.default_rng(self.seed).permutation(len(y_N))
        x_NI, y_N, fifth = x_NI[order_N] / 16.0, y_N[order_N], len(y_N) // 5
        self.test = x_NI[:fifth], y_N[:fifth]
        x_NI, y_N = x_NI[fifth:], y_N[fifth:]
        self.shards = [(x_NI[m :: self.num_workers], y_N[m :: self.num_workers]) for m in range(self.num_workers)]
        self.inputs, self.classes = x_NI.shape[1], 10
        self.dimension = (self.inputs + 1) * self.classes

    def start(self) -> Any:
        return np.zeros(self.dimension)

    def prox(self, v_D: Any, step_size: float) -> Any:
        del step_size
        return v_D

    def scores(self, z_D: Any, x_NI: Any) -> Any:
        """Logits, (N, C)."""
        weight_IC, bias_C = z_D[: -self.classes].reshape(self.inputs, self.classes), z_D[-self.classes :]
        return x_NI @ weight_IC + bias_C

    def honest(self, worker: int, z_D: Any) -> Any:
        """The gradient of a worker's own loss, (D,)."""
        x_NI, y_N = self.shards[worker]
        logit_NC = self.scores(z_D, x_NI)
        chance_NC = np.exp(logit_NC - logit_NC.max(axis=1, keepdims=True))
        chance_NC /= chance_NC.sum(axis=1, keepdims=True)
        chance_NC[np.arange(len(y_N)), y_N] -= 1.0
        slope_D = np.concatenate(((x_NI.T @ chance_NC).ravel(), chance_NC.sum(axis=0))) / len(y_N)
        return slope_D + self.regularisation * z_D

    def operator(self, worker: int) -> Callable[[Any, Draws], Any]:
        def ask(z_D: Any, draws: Draws) -> Any:
            if worker >= BAD or self.attack == "none":
                return self.honest(worker, z_D)
            if self.attack == "flip":
                return -4.0 * self.honest(worker, z_D)
            if self.attack == "copy":
                return 10.0 * self.honest(self.num_workers - 1, z_D)
            size = 100.0 * float(np.sqrt(np.square(self.honest(worker, z_D)).mean()))
            return size * _normal(draws, len(z_D))

        return ask

    def merits(self, z_D: Any) -> Mapping[str, float]:
        x_NI, y_N = self.test
        return {"error": float((self.scores(z_D, x_NI).argmax(axis=1) != y_N).mean())}


def _normal(draws: Draws, count: int) -> Any:
    word = draws.own(Purpose.PERTURBATION).words(1)[0]
    return np.random.default_rng(int(word)).standard_normal(count)


def accuracy(seed: int, attack: Attack, rule: str | dict[str, Any], compressed: bool, rounds: int) -> float:
    """Percent of the held-out rows, at the end of a run."""
    problem: Any = Softmax(seed, attack)
    side = sb.make_compressor("nearest_int8") if compressed else "identity"
    method = sb.make_method("compressed_sgd", problem, step_size=0.3, momentum=0.9, up=side, down=side)
    run = sb.simulate(problem, method, seed=seed, stop=sb.Stop(max_rounds=rounds, every=rounds), mean=rule)
    return 100.0 * (1.0 - run.merits["error"])


def table(seeds: int, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Rule -> attack -> accuracy of [float32, 8 bits], mean over the seeds."""
    return {
        name: {
            attack: [float(np.mean([accuracy(s, attack, rule, way, rounds) for s in range(seeds)])) for way in (False, True)]
            for attack in ATTACKS
        }
        for name, rule in RULES.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=150)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found = table(args.seeds, args.rounds)
    print(f"{'rule':20}" + "".join(f"{attack:>9} {'8 bits':>7}" for attack in ATTACKS))
    for name, row in found.items():
        print(f"{name:20}" + "".join(f"{row[attack][0]:9.1f} {row[attack][1]:7.1f}" for attack in ATTACKS))
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
