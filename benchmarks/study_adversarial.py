"""Adversarial training of the digits transformer: plain, uncompressed, compressed; clean and robust accuracy, bytes each way.

Three seeds of the recipe launch/recipes/digits_transformer.toml, in the reference driver with real messages; about six
minutes on one core.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from saddlebag.algorithms import simulate
from saddlebag.launch.build import build_method, build_problem, resolve
from saddlebag.launch.recipe import load_recipe
from saddlebag.proto.codec import LoopbackWire

RECIPE = Path(__file__).parents[1] / "launch" / "recipes" / "digits_transformer.toml"
FULL = ('method.up={name="identity"}', 'method.down={name="identity"}')
RUNS = {"plain training": ("problem.attack=none", *FULL), "adversarial": FULL, "adversarial, compressed": ()}


def run(sets: tuple[str, ...], seed: int) -> dict[str, float]:
    recipe = load_recipe(RECIPE, [*sets, f"seed={seed}", f"problem.seed={seed}", "stop.every=400"])
    problem = build_problem(recipe)
    method = build_method(resolve(recipe, problem), problem)
    found = simulate(problem, method, seed=seed, stop=recipe.stop, wire=LoopbackWire())
    merits = problem.merits(found.replica.z_D)
    up, down = (size / recipe.workers for size in (found.up_bytes, found.down_bytes))
    return {"clean": 1 - merits["clean_error"], "robust": 1 - merits["robust_error"], "up": up, "down": down}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = {name: [run(sets, seed) for seed in range(arguments.seeds)] for name, sets in RUNS.items()}
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    print("| | clean accuracy | PGD-20 accuracy | kB up, worker | kB down |\n|---|---|---|---|---|")
    for name, found in rows.items():
        clean, robust = (
            f"{np.mean(values):.4f} ({min(values):.4f}-{max(values):.4f})"
            for values in ([row[key] for row in found] for key in ("clean", "robust"))
        )
        up, down = (f"{np.mean([row[key] for row in found]) / 1000:,.0f}" for key in ("up", "down"))
        print(f"| {name} | {clean} | {robust} | {up} | {down} |", flush=True)


if __name__ == "__main__":
    main()
