"""Whether a worker with wrong labels is found by its contribution, and what leaving it out is worth.

    python benchmarks/study_contributions.py [--seeds 20] [--rounds 60] [--flipped 0.3]

Softmax regression on scikit-learn's digits as in study_robust.py, eight workers, of whom one (drawn by the seed) has a part of
its labels exchanged for others. Contributions are those of `server.contributions`, sums over the rounds of the Shapley values
of |mean of the uplinks|^2, from messages of 8 bits. Shown for each seed: the rank of that worker (8 is last), its contribution
over the mean one, and the accuracy on the held-out rows with it and without it. About a minute on one core.
"""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

import numpy as np
from study_robust import Softmax

import saddlebag as sb
from saddlebag.algorithms import Outcome, Stop, simulate
from saddlebag.proto.codec import LoopbackWire

WORKERS = 8


@dataclasses.dataclass(eq=False)
class Mislabelled(Softmax):
    """One worker's labels are partly wrong, or its rows are left out."""

    flipped: float = 0.3
    without: bool = False
    num_workers: int = WORKERS

    def __post_init__(self) -> None:
        super().__post_init__()
        rng = np.random.default_rng(self.seed)
        self.bad = int(rng.integers(WORKERS))
        x_NI, y_N = self.shards[self.bad]
        y_N, wrong = y_N.copy(), rng.permutation(len(y_N))[: round(self.flipped * len(y_N))]
        y_N[wrong] = (y_N[wrong] + rng.integers(1, 10, len(wrong))) % 10
        self.shards[self.bad] = x_NI, y_N
        if self.without:
            del self.shards[self.bad]
            self.num_workers = WORKERS - 1


def run(seed: int, rounds: int, flipped: float, *, without: bool) -> tuple[Mislabelled, Outcome]:
    """A run of eight workers, or of the seven good ones."""
    problem = Mislabelled(seed, flipped=flipped, without=without)
    given: Any = problem
    method = sb.make_method("compressed_sgd", given, step_size=0.3, momentum=0.9, up="nearest_int8", down="nearest_int8")
    stop = Stop(max_rounds=rounds, every=rounds)
    return problem, simulate(given, method, seed=seed, stop=stop, wire=LoopbackWire(), scored=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--flipped", type=float, default=0.3)
    args = parser.parse_args()
    ranks, gains = [], []
    for seed in range(args.seeds):
        problem, outcome = run(seed, args.rounds, args.flipped, without=False)
        _, better = run(seed, args.rounds, args.flipped, without=True)
        score_M = np.array(outcome.contributions)
        ranks.append(int((score_M > score_M[problem.bad]).sum()) + 1)
        accuracies = [100.0 * (1.0 - each.history[-1].merits["error"]) for each in (outcome, better)]
        gains.append(accuracies[1] - accuracies[0])
        share = score_M[problem.bad] / score_M.mean()
        told = f"{share:5.2f} of the mean  accuracy {accuracies[0]:5.1f}, without {accuracies[1]:5.1f}"
        print(f"seed {seed:2}  rank {ranks[-1]}  {told}")
    print(f"last in {ranks.count(WORKERS)} of {args.seeds}; without it {np.mean(gains):+.2f} points of accuracy in the mean")


if __name__ == "__main__":
    main()
