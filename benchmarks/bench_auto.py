"""The automatic step beside the best constant one: bytes to a target, over problems, methods and seeds.

    python benchmarks/bench_auto.py [--seeds 3] [--methods innovations,ogda] [--problems ...] [--json FILE]

A row is one method on one problem. "best" is the fewest bytes (both directions, each worker) over a grid of constant steps,
gamma L from 0.02 to 16 in ratios of 1.15; "auto" is the worst over the seeds, as a multiple of it. Asked: at most 1.3. A
constant step is given up when it has taken twice as many iterations as the automatic one, or 1.2 times as many as the best.
Set OPENBLAS_NUM_THREADS=1 where other processes run.

    python benchmarks/bench_auto.py --sound [--seeds 20] [--smoke]

asks instead whether the step ever throws an error back, see auto_sound.py: 20 seeds take about an hour on two cores, the smoke
form (one seed, M = 1, 2, 3, two problems) a minute. It ends with 1 where one did.
"""

from __future__ import annotations

import argparse
import json
import math
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import auto_sound

from saddlebag.algorithms import Problem, Stop, make_method, simulate
from saddlebag.algorithms.problems import PROBLEMS, BilinearGame
from saddlebag.algorithms.problems.estimate import estimate_constants, with_constants
from saddlebag.compression import Grid, Identity, Natural, RandK, TopK
from saddlebag.launch.data.rows import load_data
from saddlebag.proto.codec import LoopbackWire

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "innovations": ("innovations", {"up": Grid(), "down": Grid(step=0.5)}),
    "innovations auto": ("innovations", {}),  # grids that set themselves, too
    "ogda": ("ogda", {}),
    "extragradient": ("extragradient", {}),
    "masha1 natural": ("masha1", {"up": Natural(), "down": Natural()}),
    "masha1 rand_k": ("masha1", {"up": RandK(fraction=0.1), "down": Identity(), "probability": 0.1}),
    "masha2 top_k": ("masha2", {"up": TopK(fraction=0.1), "down": TopK(fraction=0.1), "probability": 0.11375}),
}
TARGETS = {"matrix game": 3e-2}  # merely monotone: sublinear
MOST_ITERATIONS = 30_000
STEPS = [0.02 * 1.15**i for i in range(48)]


def robust(split: str) -> Problem:
    return PROBLEMS["robust_logistic"](load_data("breast_cancer"), num_workers=4, split=split)


def game(**changes: Any) -> Problem:
    return BilinearGame(**({"n": 10, "num_workers": 4, "regularisation": 0.05} | changes))


def build(name: str) -> Problem:
    problems = {
        "bilinear": game,
        "bilinear identical": lambda: game(heterogeneity=0.0),
        "bilinear het 2": lambda: game(heterogeneity=2.0),
        "bilinear easy": lambda: game(regularisation=0.3),
        "bilinear d=100": lambda: game(n=50, num_workers=10, regularisation=0.05),
        "quadratic": lambda: PROBLEMS["quadratic"](None, num_workers=4, strong_monotonicity=0.05),
        "quadratic gradient": lambda: PROBLEMS["quadratic"](None, num_workers=4, strong_monotonicity=0.05, rotation=0.0),
        "matrix game": lambda: PROBLEMS["matrix_game"](None, num_workers=4),
        "fixed point": lambda: PROBLEMS["fixed_point"](None, num_workers=4),
        "robust even": lambda: robust("even"),
        "robust skewed": lambda: robust("label_skew"),
    }
    if name not in problems:
        raise SystemExit(f"unknown problem {name!r}; known: {', '.join(problems)}")
    return problems[name]()


NAMES = (
    "bilinear,bilinear identical,bilinear het 2,bilinear easy,bilinear d=100,quadratic,quadratic gradient,matrix game,"
    "fixed point,robust even,robust skewed"
)


def num_bytes(problem: Problem, method: str, step_size: float | str, seed: int, limit: int, target: float) -> tuple[float, int]:
    """Bytes of each worker in both directions, and iterations; infinite when the target is not reached."""
    kind, params = METHODS[method]
    built = make_method(kind, problem, step_size=step_size, **params)
    merit, value = next(iter(problem.merits(problem.start()).items()))
    stop = Stop(merit=target * (1.0 if merit == "relative_error" else value), max_iterations=limit)
    end = simulate(problem, built, seed=seed, stop=stop, wire=LoopbackWire(), keep_history=False)
    total = (end.up_bytes + end.down_bytes) / problem.num_workers
    return (total, end.replica.iteration) if end.reason == "merit" else (math.inf, limit)


def row(name: str, method: str, seeds: int) -> dict[str, Any]:
    problem = build(name)
    known = problem if problem.constants is not None else with_constants(problem, estimate_constants(problem))
    assert known.constants is not None
    target = TARGETS.get(name, 1e-6)  # of the merit where it is relative, else of its value at the start
    auto = [num_bytes(problem, method, "auto", seed, MOST_ITERATIONS, target) for seed in range(seeds)]
    best, best_step, limit = math.inf, math.nan, 2 * max(iterations for _, iterations in auto)
    for step in reversed(STEPS):  # large ones first: most fail at once
        total, iterations = num_bytes(problem, method, step / known.constants.lipschitz, 0, limit, target)
        if total < best:
            best, best_step, limit = total, step, math.ceil(1.2 * iterations)
        elif step < best_step / 1.7:
            break
    worst = max(total for total, _ in auto)
    return {
        "problem": name,
        "method": method,
        "best_step": best_step,
        "best_kB": best / 1e3,
        "auto_kB": worst / 1e3,
        "ratio": worst / best,
    }


def sound(seeds: int, processes: int, *, smoke: bool) -> int:
    """Run all cells of auto_sound.py; the number of those that were thrown back."""
    problems = ("bilinear", "logistic_regression") if smoke else auto_sound.PROBLEM_NAMES
    found = list(auto_sound.cells(1 if smoke else seeds, problems=problems))
    found = [cell for cell in found if not smoke or cell.workers <= 3]
    worst: dict[tuple[str, float], float] = {}
    bad = []
    with ProcessPoolExecutor(processes) as pool:
        for cell, value in zip(found, pool.map(auto_sound.thrown_back, found, chunksize=10), strict=True):
            if value is not None:
                key = (cell.method, cell.distance)
                worst[key] = max(worst.get(key, 0.0), value)
                if not value <= 1.0:
                    bad.append((cell, value))
                    print(f"thrown back: {cell}: {value:.3g} times what is allowed", flush=True)
    print(f"{'method':20} {'start at':>10} {'largest error, of ten times that of the start':>46}")
    for (method, distance), value in sorted(worst.items()):
        print(f"{method:20} {distance:10g} {value:46.3g}")
    print(f"{len(bad)} of {len(found)} runs were thrown back")
    return len(bad)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--problems", default=NAMES)
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sound", action="store_true", help="whether an error is ever thrown back, instead of bytes")
    parser.add_argument("--smoke", action="store_true", help="with --sound: a minute's selection")
    args = parser.parse_args()
    if args.sound:
        raise SystemExit(min(1, sound(args.seeds, args.workers, smoke=args.smoke)))
    cells = [(p, m) for m in args.methods.split(",") for p in args.problems.split(",")]
    cells = [(p, m) for p, m in cells if METHODS[m][0] != "masha2" or build(p).unconstrained]
    rows = []
    print(f"{'method':16} {'problem':20} {'best gamma L':>12} {'best kB':>10} {'auto kB':>10} {'ratio':>6}")
    with ProcessPoolExecutor(args.workers) as pool:
        for found in pool.map(row, *zip(*cells, strict=True), [args.seeds] * len(cells)):
            rows.append(found)
            print(
                f"{found['method']:16} {found['problem']:20} {found['best_step']:12.3f} {found['best_kB']:10.1f} "
                f"{found['auto_kB']:10.1f} {found['ratio']:6.2f}",
                flush=True,
            )
    print(f"{sum(r['ratio'] <= 1.3 for r in rows)} of {len(rows)} rows within 1.3 times the best constant step")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
