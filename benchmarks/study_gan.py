"""The GAN on digits: methods and compression, Frechet merit and bytes each way over three seeds; a table and a figure.

Runs of the recipe launch/recipes/digits_gan.toml, in the reference driver with real messages; about ten minutes on one core.
Steps are the best of a few on seed 0: powers of two for the Adams, for the others the largest that did not diverge.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from saddlebag.algorithms import simulate
from saddlebag.launch.build import build_method, build_problem, resolve
from saddlebag.launch.pictures import grid
from saddlebag.launch.plot import PALETTE
from saddlebag.launch.recipe import load_recipe
from saddlebag.proto.codec import LoopbackWire

if TYPE_CHECKING:
    from saddlebag.algorithms import Outcome

RECIPE = Path(__file__).parents[1] / "launch" / "recipes" / "digits_gan.toml"
GRID = '{name="grid", step=0.25, block=128}'
FULL = ('method.up={name="identity"}', 'method.down={name="identity"}')
ADAM = ("method.name=compressed_adamw", "method.beta1=0.5", "method.beta2=0.9")
EXTRA = ("method.name=compressed_extra_adam",)
RUNS: dict[str, tuple[str, ...]] = {
    "Adam": (*ADAM, *FULL),
    "optimistic Adam": FULL,
    "Extra Adam": (*EXTRA, *FULL),
    "Adam, compressed": ADAM,
    "optimistic Adam, compressed": (),
    "Extra Adam, compressed": EXTRA,
    "SGD": ('method={name="compressed_sgd", step_size=0.5, beta1=0.0}',),
    "OGDA": ('method={name="ogda", step_size=0.15}',),
    "innovations, compressed": (f'method={{name="innovations", step_size=0.15, up={GRID}, down={GRID}}}',),
}
DRAWN = ("optimistic Adam", "optimistic Adam, compressed")


def run(sets: tuple[str, ...], seed: int) -> tuple[Any, Outcome]:
    recipe = load_recipe(RECIPE, [*sets, f"seed={seed}", f"problem.seed={seed}"])
    problem = build_problem(recipe)
    method = build_method(resolve(recipe, problem), problem)
    return problem, simulate(problem, method, seed=seed, stop=recipe.stop, wire=LoopbackWire())


def row_of(name: str, found: list[Outcome], workers: int) -> dict[str, Any]:
    ends = [outcome.history[-1].merits["frechet"] if outcome.history else float("inf") for outcome in found]
    sizes = [np.mean([getattr(outcome, way) for outcome in found]) / workers / 1000 for way in ("up_bytes", "down_bytes")]
    return {"name": name, "frechet": ends, "up_kB": sizes[0], "down_kB": sizes[1]}


def draw(problem: Any, runs: dict[str, list[Outcome]], floor: float, out: Path) -> None:
    """Merit against bytes on the left, samples of either run and real pictures on the right."""
    figure = Figure(figsize=(13, 4.3), layout="constrained")
    ax, *panels = figure.subplots(1, 4, width_ratios=(1.7, 1, 1, 1))
    for number, (name, found) in enumerate(runs.items()):
        for seed, outcome in enumerate(found):
            size = [(record.up_bytes + record.down_bytes) / problem.num_workers / 1e6 for record in outcome.history]
            merit = [record.merits["frechet"] for record in outcome.history]
            ax.plot(size, merit, color=PALETTE[number], label=None if seed else name, alpha=0.8)
    ax.axhline(floor, color="#777777", linewidth=0.9, linestyle=(0, (2, 2)))
    ax.annotate("training pictures", (1, floor), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8.5)
    ax.set(xscale="log", yscale="log", xlabel="MB up and down, each worker", ylabel="Frechet distance to held-out pictures")
    ax.legend(frameon=False)
    shown = [problem.pictures(found[0].replica.z_D)["samples"] for found in runs.values()]
    pictures = zip((*runs, "held out"), (*shown, problem.judge.held_NHW[:64]), strict=True)
    for panel, (name, pictures_NHW) in zip(panels, pictures, strict=True):
        panel.imshow(grid(pictures_NHW[:36]), cmap="gray", vmin=0, vmax=1)
        panel.set_title(name, fontsize=10)
        panel.axis("off")
    figure.savefig(out, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="write the figure there")
    parser.add_argument("--json", type=Path, help="write the rows there")
    arguments = parser.parse_args()
    print("| | Frechet distance, mean (least-most) | kB up, worker | kB down |\n|---|---|---|---|")
    rows, drawn = [], {}
    for name, sets in RUNS.items():
        pairs = [run(sets, seed) for seed in range(arguments.seeds)]
        problem, found = pairs[0][0], [outcome for _, outcome in pairs]
        rows.append(row := row_of(name, found, problem.num_workers))
        ends = row["frechet"]
        merit = f"{np.mean(ends):.2f} ({min(ends):.2f}-{max(ends):.2f})"
        print(f"| {name} | {merit} | {row['up_kB']:,.0f} | {row['down_kB']:,.0f} |", flush=True)
        if name in DRAWN:
            drawn[name] = found
    floor = problem.judge.frechet(np.concatenate([pictures for (pictures,) in problem.data]))
    print(f"\nstart {problem.merits(problem.start())['frechet']:.1f}, training pictures {floor:.2f}")
    if arguments.out:
        draw(problem, drawn, floor, arguments.out)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
