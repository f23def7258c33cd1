"""Greedy block rules: iterations of block descent by the rule that chooses the blocks, where their constants L_b are spread.

    python benchmarks/study_greedy_blocks.py            # five minutes of one core
    python benchmarks/study_greedy_blocks.py --smoke

Every rule sends k of 50 blocks an iteration. Steps are the largest proven ones: along k blocks at once the Hessian is at most k
times its block diagonal, so 1/(k L_b) for each block, or 1/(k L_max) for all; `block_descent` is told none. Counted are
iterations until f - f* is a millionth of what it was; medians over seeds, with the range. The gradient is exact.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
from typing import Any

import numpy as np

from saddlebag.algorithms import Stop, make_method, simulate
from saddlebag.compression import Draws, GreedyBlocks
from saddlebag.proto.codec import LoopbackWire

BLOCK, BLOCKS = 4, 50  # coordinates of a block, and how many there are
GOAL, NONE = 1e-6, Draws(0, 0)
ESTIMATED = "block_descent, constants estimated"


@dataclasses.dataclass(frozen=True, eq=False)
class Smooth:
    """A function with block constants: (1/2N) |Az - b|^2, or the mean of log(1 + exp(-b a'z)); both + (lam/2) |z|^2."""

    kind: str
    rows_NF: Any
    target_N: Any
    penalty: float

    @classmethod
    def random(cls, kind: str, spread: float, seed: int, blocks: int = BLOCKS) -> Smooth:
        """Gaussian rows whose blocks of columns have L_b from about 1 to `spread`, times the curvature; lam = 0.01."""
        rng = np.random.default_rng(seed)
        scale_B = rng.permutation(np.geomspace(1.0, spread, blocks)) ** 0.5
        features = BLOCK * blocks
        rows_NF = rng.standard_normal((3 * features, features)) * np.repeat(scale_B, BLOCK)
        truth_F = rng.standard_normal(features) / np.repeat(scale_B, BLOCK) / features**0.5
        value_N = rows_NF @ truth_F + rng.standard_normal(len(rows_NF))
        target_N = value_N if kind == "least squares" else np.sign(value_N)
        return cls(kind, rows_NF, target_N, 1e-2)

    @property
    def curvature(self) -> float:
        """The most of the loss's second derivative."""
        return 1.0 if self.kind == "least squares" else 0.25

    def value(self, z_F: Any) -> float:
        score_N, penalty = self.rows_NF @ z_F, 0.5 * self.penalty * float(z_F @ z_F)
        if self.kind == "least squares":
            return 0.5 * float(np.mean((score_N - self.target_N) ** 2)) + penalty
        return float(np.mean(np.logaddexp(0.0, -self.target_N * score_N))) + penalty

    def gradient(self, z_F: Any) -> Any:
        score_N = self.rows_NF @ z_F
        if self.kind == "least squares":
            slope_N = score_N - self.target_N
        else:
            slope_N = -self.target_N / (1.0 + np.exp(self.target_N * score_N))
        return self.rows_NF.T @ slope_N / len(score_N) + self.penalty * z_F

    def constants(self) -> tuple[float, ...]:
        """L_b: the curvature times the largest eigenvalue of A_b'A_b / N, + lam."""
        blocks = np.split(self.rows_NF, self.rows_NF.shape[1] // BLOCK, axis=1)
        scale = self.curvature / len(self.rows_NF)
        return tuple(scale * float(np.linalg.norm(block, 2)) ** 2 + self.penalty for block in blocks)

    def least(self) -> float:
        """f*, by Newton steps."""
        z_F = np.zeros(self.rows_NF.shape[1])
        for _ in range(50):
            score_N = self.rows_NF @ z_F
            curve_N = np.ones(len(score_N))
            if self.kind != "least squares":
                curve_N = 0.25 / np.cosh(0.5 * score_N) ** 2
            hessian = self.rows_NF.T * curve_N @ self.rows_NF / len(score_N) + self.penalty * np.eye(len(z_F))
            z_F = z_F - np.linalg.solve(hessian, self.gradient(z_F))
        return self.value(z_F)


def rules(constants: tuple[float, ...], k: int) -> dict[str, tuple[GreedyBlocks, Any]]:
    """Name -> the compressor, and the step of each coordinate of what it keeps."""
    own_D = 1.0 / (k * np.repeat(np.array(constants), BLOCK))
    plain = GreedyBlocks(block=BLOCK, k=k)
    damped = GreedyBlocks(block=BLOCK, k=k, lipschitz=constants, damped=True)
    return {
        "largest norm, one step for all": (plain, 1.0 / (k * max(constants))),
        "largest norm, a step for each block": (plain, own_D),
        "largest sure gain (damped)": (damped, 1.0 / (k * min(constants))),
    }


def iterations(problem: Smooth, choose: GreedyBlocks, step: Any, least: float, most: int) -> int:
    """How many until the goal; `most` if it is not reached."""
    z_D = np.zeros(problem.rows_NF.shape[1])
    first = problem.value(z_D) - least
    for iteration in range(most):
        if problem.value(z_D) - least <= GOAL * first:
            return iteration
        z_D = z_D - step * choose.encode(problem.gradient(z_D), NONE).dense()
    return most


class Descent:
    """A `Smooth` as a problem of one worker, for `block_descent`."""

    name, num_workers, unconstrained, constants = "smooth", 1, True, None

    def __init__(self, problem: Smooth, least: float) -> None:
        self.smooth, self.least, self.dimension = problem, least, problem.rows_NF.shape[1]
        self.first = problem.value(self.start()) - least

    def start(self) -> Any:
        return np.zeros(self.dimension)

    def prox(self, v_D: Any, step_size: float) -> Any:
        del step_size
        return v_D

    def operator(self, worker: int) -> Any:
        del worker
        return lambda z_D, draws: self.smooth.gradient(z_D)

    def merits(self, z_D: Any) -> dict[str, float]:
        return {"gap": (self.smooth.value(z_D) - self.least) / self.first}


def estimated(problem: Smooth, k: int, least: float, most: int) -> int:
    """Iterations of `block_descent`, whose first step is a millionth of a usual one."""
    game: Any = Descent(problem, least)
    method = make_method("block_descent", game, block=BLOCK, k=k, step_size=1e-6)
    run = simulate(game, method, seed=0, stop=Stop(merit=GOAL, max_iterations=most), wire=LoopbackWire(), keep_history=False)
    return run.rounds if run.reason == "merit" else most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--spread", type=float, nargs="+", default=[1.0, 10.0, 100.0], help="largest L_b by the least")
    parser.add_argument("--most", type=int, default=20_000, help="iterations before a run is given up")
    parser.add_argument("--only", default="", help="rules whose name has this")
    parser.add_argument("--smoke", action="store_true")
    args = parser.parse_args()
    blocks = BLOCKS
    if args.smoke:
        args.seeds, args.spread, args.most, blocks = 1, [10.0], 20, 6
    print("| problem | spread of L_b | k | rule | iterations (range) |\n|---|---|---|---|---|")
    for kind in ("least squares", "logistic regression"):
        for spread in args.spread:
            problems = [Smooth.random(kind, spread, seed, blocks) for seed in range(args.seeds)]
            least = [problem.least() for problem in problems]
            known = [problem.constants() for problem in problems]
            for k in (1, 5):
                for name in (*rules(known[0], k), ESTIMATED):
                    if args.only not in name:
                        continue
                    counts = [
                        estimated(problem, k, low, args.most)
                        if name == ESTIMATED
                        else iterations(problem, *rules(constants, k)[name], low, args.most)
                        for problem, constants, low in zip(problems, known, least, strict=True)
                    ]
                    shown = f"{statistics.median(counts):.0f} ({min(counts)} to {max(counts)})"
                    print(f"| {kind} | {spread:g} | {k} | {name} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
