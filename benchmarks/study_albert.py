"""Loss curves of an ALBERT on text: uncompressed and compressed, one direction and both, side by side.

    python benchmarks/study_albert.py PATH/wikitext2 [--plot docs/albert.png] [--rounds 200]

The recipe launch/recipes/albert_wikitext2.toml with a vocabulary of 2048 pieces and batches that leave the plateau of word
frequencies within minutes: 2 workers of 32 rows of 32 tokens. Reference driver, real messages; about ten minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import matplotlib as mpl

from saddlebag.algorithms import simulate
from saddlebag.launch.build import build_method, build_problem, resolve
from saddlebag.launch.recipe import load_recipe
from saddlebag.proto.codec import LoopbackWire

RECIPE = Path(__file__).parents[1] / "launch" / "recipes" / "albert_wikitext2.toml"
SETTING = (
    "workers=2",
    "problem.vocabulary=2048",
    "problem.length=32",
    "problem.batch_size=32",
)
TOP = '{name="compose", sparsifier={name="top_k", fraction=0.05}, values={name="nearest_int8"}}'
COMPRESSORS = {
    "8 bits in blocks": '{name="nearest_int8"}',
    "4 bits in blocks": '{name="nearest_int4"}',
    "grid 0.25, blocks of 128": '{name="grid", step=0.25, block=128}',
    "Top-5 % in 8 bits": TOP,
    "Rand-5 %": '{name="unscaled_rand_k", fraction=0.05}',
}
_BOTH_ALONE = ("8 bits in blocks", "grid 0.25, blocks of 128")  # one direction adds nothing to see
REST = ("method.schedule=linear", "method.weight_decay=0.01", "method.clip_norm=1.0")
NONE = '{name="identity"}'


def contenders() -> dict[str, tuple[str, ...]]:
    """The overrides of each curve."""
    curves: dict[str, tuple[str, ...]] = {"none": (f"method.up={NONE}", f"method.down={NONE}")}
    curves["PowerSGD, rank 4, both ways"] = ("method={name='power_sgd', rank=4}",)
    for name, table in COMPRESSORS.items():
        if name not in _BOTH_ALONE:
            curves[f"{name}, up"] = (f"method.up={table}", f"method.down={NONE}")
        curves[f"{name}, both ways"] = (f"method.up={table}", f"method.down={table}")
    return curves


def curve(problem: Any, sets: tuple[str, ...]) -> dict[str, Any]:
    """One run: the losses on the way, bytes of a worker in each direction, seconds of one core in a step."""
    recipe = load_recipe(RECIPE, sets)
    method = build_method(resolve(recipe, problem), problem)
    begin = time.process_time()
    found = simulate(problem, method, seed=recipe.seed, stop=recipe.stop, wire=LoopbackWire())
    steps = found.replica.iteration  # of two rounds each, for PowerSGD
    seconds = (time.process_time() - begin) / steps
    losses = {record.iteration: record.merits["loss"] for record in found.history}
    up, down = (size / recipe.workers / steps for size in (found.up_bytes, found.down_bytes))
    return {"losses": losses, "up": up, "down": down, "cpu_s": seconds}


def line(name: str, found: dict[str, Any], full: dict[str, Any]) -> str:
    """A row of the table; `full` is the uncompressed run."""
    losses = list(found["losses"].values())
    sizes = [f"{found[way] / 1000:,.0f} ({full[way] / found[way]:.1f} x)" for way in ("up", "down")]
    return f"| {name} | {losses[len(losses) // 2]:.3f} | {losses[-1]:.3f} | {' | '.join(sizes)} | {found['cpu_s']:.2f} |"


def draw(runs: dict[str, dict[str, Any]], path: Path) -> None:
    """Loss over iterations, and over bytes of a worker in both directions."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True, layout="constrained")
    colours = dict(zip(COMPRESSORS, plt.get_cmap("tab10").colors, strict=False))  # type: ignore[attr-defined]
    for name, found in runs.items():
        kind, _, ways = name.partition(", up") if name.endswith(", up") else name.partition(", both")
        style: dict[str, Any] = {"color": colours.get(kind, "black"), "ls": "-" if ways or kind == "none" else "--", "lw": 1.4}
        iterations, losses = list(found["losses"]), list(found["losses"].values())
        left.plot(iterations, losses, label=name, **style)
        right.plot([n * (found["up"] + found["down"]) / 1e6 for n in iterations], losses, **style)
    left.set(xlabel="iteration", ylabel="loss on held-out text")
    right.set(xlabel="MB of a worker, both directions", xscale="log")
    figure.legend(loc="outside right center", fontsize=8)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="WikiText's folder, or any text")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--only", default="", help="the curves whose names hold this; the uncompressed one is always there")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", type=Path, help="write every run's numbers here")
    arguments = parser.parse_args()
    length = (f"stop.max_iterations={arguments.rounds}", f"stop.every={max(1, arguments.rounds // 20)}")
    sets = (*SETTING, *length, f"data.source={arguments.data.resolve()}")
    optimizer = ("method.step_size=2e-3", f"method.warmup={arguments.rounds // 7}", f"method.total={arguments.rounds}", *REST)
    problem = build_problem(load_recipe(RECIPE, sets))
    print(f"{problem.dimension:,} parameters, {arguments.rounds} iterations, 2 workers\n")
    print("| compressor | loss half way | loss at the end | kB up, worker, step | kB down | CPU s a step, all |")
    print("|---|---|---|---|---|---|")
    runs: dict[str, dict[str, Any]] = {}
    for name, given in contenders().items():
        if name == "none" or arguments.only in name:
            runs[name] = curve(problem, (*sets, *given, *optimizer))
            print(line(name, runs[name], runs["none"]), flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps(runs, indent=1) + "\n")
    if arguments.plot:
        draw(runs, arguments.plot)


if __name__ == "__main__":
    main()
