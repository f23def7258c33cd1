"""Adversarial training of the digits transformer: plain, uncompressed, compressed; clean and robust accuracy, bytes each way.

Three seeds of the recipe `digits_transformer`, in the reference driver with real messages; about six
minutes on one core. `--table compressors` compares compressors, one way and both, against the cheaper FGSM adversary (fifteen
minutes), `--table adversaries` what the workers do to find perturbations (eight), `--table local` steps of the workers' own
between exchanges, `--table rules` LAMB beside AdamW (three each).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from saddlebag.algorithms import simulate
from saddlebag.launch.build import build_method, build_problem, resolve
from saddlebag.launch.recipe.recipe import load_recipe
from saddlebag.proto.codec import LoopbackWire

RECIPE = Path(__file__).parents[1] / "launch" / "recipes" / "digits_transformer.toml"
FULL = ('method.up={name="identity"}', 'method.down={name="identity"}')


def both(table: str) -> tuple[str, ...]:
    return (f"method.up={table}", f"method.down={table}")


GRID = '{name="grid", step=0.25, block=128}'
FGSM = "problem.attack=fgsm"
BY_TENSOR = (
    '{name="per_tensor", rules=[{match="*bias", use={name="identity"}}, {match="*norm*", use={name="identity"}}, {use=%s}]}'
)
TOP = '{name="compose", sparsifier={name="top_k", fraction=%s}, values={name="nearest_int8"}}'


def local(steps: int, table: str = GRID) -> tuple[str, ...]:
    """As many gradients as the recipe, in fewer rounds: workers take steps of AdamW, and their points are averaged."""
    rounds = 400 // steps
    averaged = f'name="compressed_sgd", momentum=0.0, step_size={0.01 * steps}, schedule="linear", total={rounds}'
    own = f'local_steps={steps}, local_step_size=0.01, local_rule="adamw_kept"'
    return FGSM, f"method={{{averaged}, {own}, up={table}, down={table}}}", f"stop.max_iterations={rounds}"


WHOLE = (
    "problem.attack=none",
    "problem.batch_size=0",
    "method.warmup=10",
    "method.total=100",
    "stop.max_iterations=100",
    *FULL,
)
LAMB = "method.name=compressed_lamb"
TABLES: dict[str, dict[str, tuple[str, ...]]] = {
    "main": {"plain training": ("problem.attack=none", *FULL), "adversarial": FULL, "adversarial, compressed": ()},
    "compressors": {
        "none": (FGSM, *FULL),
        "8 bits in blocks, both ways": (FGSM, *both('{name="nearest_int8"}')),
        "4 bits in blocks, both ways": (FGSM, *both('{name="nearest_int4"}')),
        "grid 0.25 in blocks of 128, up": (FGSM, f"method.up={GRID}", FULL[1]),
        "grid 0.25 in blocks of 128, both ways": (FGSM, *both(GRID)),
        "grid 0.5 in blocks of 256, both ways": (FGSM, *both('{name="grid", step=0.5, block=256}')),
        "grid 1 in blocks of 64, both ways": (FGSM, *both('{name="grid", step=1.0, block=64}')),
        "Top-10 % in 8 bits, up": (FGSM, "method.up=" + TOP % 0.1, FULL[1]),
        "Top-10 % in 8 bits, both ways": (FGSM, *both(TOP % 0.1)),
        "Rand-10 %, up": (FGSM, 'method.up={name="unscaled_rand_k", fraction=0.1}', FULL[1]),
        "rank 2 by tensor, both ways": (FGSM, *both(BY_TENSOR % '{name="low_rank", rank=2}')),
        "signs by tensor, both ways": (FGSM, *both(BY_TENSOR % '{name="scaled_sign"}')),
    },
    "adversaries": {
        "FGSM": (FGSM,),
        "PGD-5": (),
        "FreeLB-5": ("problem.attack=freelb",),
        "kept blocks, one step a round": ("problem.attack=free",),
        "kept blocks, 1200 rounds": ("problem.attack=free", "method.total=1200", "stop.max_iterations=1200"),
    },
    "local": {
        "1 (the recipe)": (FGSM,),
        "4": local(4),
        "8": local(8),
        "8, uncompressed": local(8, '{name="identity"}'),
        "16": local(16),
    },
    "rules": {
        "AdamW, FGSM, batches of 64, 400 iterations": (FGSM,),
        "LAMB, FGSM, batches of 64, 400 iterations": (FGSM, LAMB, "method.step_size=0.03"),
        "AdamW, plain, uncompressed, whole batches, 100 iterations": (*WHOLE, "method.step_size=0.03"),
        "LAMB, plain, uncompressed, whole batches, 100 iterations": (*WHOLE, LAMB, "method.step_size=0.01"),
    },
}


def run(sets: tuple[str, ...], seed: int) -> dict[str, float]:
    recipe = load_recipe(RECIPE, [*sets, f"seed={seed}", f"problem.seed={seed}", "stop.every=400"])
    begin = time.process_time()
    problem = build_problem(recipe)
    method = build_method(resolve(recipe, problem), problem)
    found = simulate(problem, method, seed=seed, stop=recipe.stop, wire=LoopbackWire())
    seconds = time.process_time() - begin
    merits = problem.merits(found.replica.z_D)
    up, down = (size / recipe.workers for size in (found.up_bytes, found.down_bytes))
    row = {"clean": 1 - merits["clean_error"], "robust": 1 - merits["robust_error"], "up": up, "down": down}
    return {**row, "cpu_s": seconds, "values": found.rounds * problem.dimension}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", choices=TABLES, default="main")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="every run as a line of JSON")
    parser.add_argument(
        "--set", dest="sets", action="append", default=[], metavar="KEY=VALUE", help="override a key of every run"
    )
    arguments = parser.parse_args()
    if not arguments.json:
        print("| | clean accuracy | PGD-20 accuracy | kB up, worker | kB down | bits a value, up | down | CPU s |")
        print("|---|---|---|---|---|---|---|---|")
    for name, sets in TABLES[arguments.table].items():
        found = [run((*sets, *arguments.sets), seed) for seed in range(arguments.seeds)]
        print(json.dumps({"name": name, "runs": found}) if arguments.json else line(name, found), flush=True)


def line(name: str, found: list[dict[str, float]]) -> str:
    def mean(key: str) -> float:
        return float(np.mean([row[key] for row in found]))

    clean, robust = (
        f"{np.mean(values):.4f} ({min(values):.4f}-{max(values):.4f})"
        for values in ([row[key] for row in found] for key in ("clean", "robust"))
    )
    sizes = " | ".join(f"{mean(key) / 1000:,.0f}" for key in ("up", "down"))
    bits = " | ".join(f"{8 * mean(key) / mean('values'):.2f}" for key in ("up", "down"))
    return f"| {name} | {clean} | {robust} | {sizes} | {bits} | {mean('cpu_s'):.0f} |"


if __name__ == "__main__":
    main()
