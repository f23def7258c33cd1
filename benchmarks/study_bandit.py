"""A bandit over compressors beside every fixed arm: bytes of a worker to one accuracy on five problems.

    python benchmarks/study_bandit.py            # ten minutes of one core
    python benchmarks/study_bandit.py --smoke

`innovations` with steps that it finds itself; the arms are four pairs of compressors from a fifth of a bit to eight, sizes are
those that the codec makes. The bandit's bytes include what it spends on worse arms. Shown is its median over seeds, with the
range, and the ratio to the best arm in hindsight.
"""

from __future__ import annotations

import argparse
import math
import statistics
from typing import TYPE_CHECKING, Any

from saddlebag.algorithms import Stop, make_method, simulate
from saddlebag.algorithms.problems import PROBLEMS
from saddlebag.compression import make_compressor
from saddlebag.launch.data.rows import load_data
from saddlebag.proto.codec import LoopbackWire

if TYPE_CHECKING:
    from collections.abc import Mapping

WORKERS = 4
RULES = ("thompson", "epsilon_greedy", "elimination")
ARMS: dict[str, dict[str, dict[str, Any]]] = {
    "coarse grids": {"up": {"name": "grid"}, "down": {"name": "grid", "step": 0.5}},
    "fitted grids": {"up": {"name": "grid", "step": 0.5, "fit": 1.0}, "down": {"name": "grid", "step": 0.5, "fit": 1.0}},
    "4 bits": {"up": {"name": "nearest_int4"}, "down": {"name": "nearest_int4"}},
    "8 bits": {"up": {"name": "nearest_int8"}, "down": {"name": "nearest_int8"}},
}


def problems() -> dict[str, Any]:
    made = PROBLEMS
    return {
        "bilinear": made["bilinear"](None, n=50, num_workers=WORKERS, regularisation=0.02),
        "quadratic, rotation": made["quadratic"](None, num_workers=WORKERS, n=100, strong_monotonicity=0.05),
        "quadratic, gradient": made["quadratic"](None, num_workers=WORKERS, n=100, strong_monotonicity=0.05, rotation=0.0),
        "robust logistic": made["robust_logistic"](load_data("breast_cancer"), num_workers=WORKERS),
        "logistic": made["logistic_regression"](load_data("breast_cancer"), num_workers=WORKERS, regularisation=0.01),
    }


def spent(problem: Any, method: Any, seed: int, goal: float, most: int) -> float:
    """kB of a worker in both directions; infinite where the goal is not reached."""
    stop = Stop(merit=goal, max_iterations=most, every=5)
    end = simulate(problem, method, seed=seed, stop=stop, wire=LoopbackWire(), keep_history=False)
    return (end.up_bytes + end.down_bytes) / problem.num_workers / 1e3 if end.reason == "merit" else math.inf


def line(name: str, problem: Any, arms: Mapping[str, Any], args: argparse.Namespace) -> str:
    cells = [name]
    fixed = []
    for pair in arms.values():
        up, down = make_compressor(**pair["up"]), make_compressor(**pair["down"])
        method = make_method("innovations", problem, up=up, down=down, step_size="auto")
        fixed.append(spent(problem, method, 0, args.goal, args.most))
        cells.append(f"{fixed[-1]:.1f}")
    for rule in RULES:
        method = make_method("bandit", problem, arms=list(arms.values()), rule=rule, every=args.every, step_size="auto")
        taken = [spent(problem, method, seed, args.goal, args.most) for seed in range(args.seeds)]
        middle = statistics.median(taken)
        cells.append(f"{middle:.1f} ({min(taken):.1f} to {max(taken):.1f}), {middle / min(fixed):.2f}")
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--goal", type=float, default=1e-6, help="of the first merit")
    parser.add_argument("--every", type=int, default=10)
    parser.add_argument("--most", type=int, default=4000, help="iterations")
    parser.add_argument("--only", default="")
    parser.add_argument("--smoke", action="store_true")
    args = parser.parse_args()
    if args.smoke:
        args.seeds, args.most, args.only = 1, 40, "rotation"
    print("| kB a worker | " + " | ".join((*ARMS, *RULES)) + " |\n" + "|---" * (1 + len(ARMS) + len(RULES)) + "|")
    for name, problem in problems().items():
        if args.only in name:
            print(line(name, problem, ARMS, args), flush=True)


if __name__ == "__main__":
    main()
