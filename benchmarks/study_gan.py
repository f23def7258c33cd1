"""The GAN on digits: methods and compression, Frechet distance and bytes each way over three seeds; tables and a figure.

Runs of the recipe `digits_gan`, in the reference driver with real messages, two at a time: about ten minutes
on two cores. Steps of the methods without Adam's scale are the largest that did not diverge on seed 0 among 0.02, 0.05, 0.1,
0.15, 0.3, 0.5 and 1.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import json
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from saddlebag.algorithms import Record, simulate
from saddlebag.launch.build import build_method, build_problem, resolve
from saddlebag.launch.recipe.recipe import load_recipe
from saddlebag.launch.results.house import in_style, look, name_beside, tidy
from saddlebag.launch.results.shown import grid
from saddlebag.proto.codec import LoopbackWire

RECIPE = Path(__file__).parents[1] / "launch" / "recipes" / "digits_gan.toml"
GRID = '{name="grid", step=0.25, block=128}'
FULL = ('method.up={name="identity"}', 'method.down={name="identity"}')
ADAM = ("method.name=compressed_adamw", "method.beta1=0.5", "method.beta2=0.9")
EXTRA = ("method.name=compressed_extra_adam",)
BARE = ("problem.penalty=0", *FULL)
MASHA = 'method={name="masha1", step_size=0.02, up={name="rand_k", fraction=0.1}, down={name="identity"}}'
RUNS: dict[str, tuple[str, ...]] = {
    "Adam": (*ADAM, *FULL),
    "optimistic Adam": FULL,
    "Extra Adam": (*EXTRA, *FULL),
    "Adam, compressed": ADAM,
    "optimistic Adam, compressed": (),
    "Extra Adam, compressed": EXTRA,
    "no penalty: Adam": (*ADAM, *BARE),
    "no penalty: Adam, beta1 = 0": (*ADAM, *BARE, "method.beta1=0"),
    "no penalty: optimistic Adam, beta1 = 0.5": (*BARE, "method.beta1=0.5"),
    "no penalty: optimistic Adam": BARE,
    "no penalty: Extra Adam": (*EXTRA, *BARE),
    "gradient descent-ascent": ('method={name="compressed_sgd", step_size=0.5, momentum=0.0}', *FULL),
    "OGDA": ('method={name="ogda", step_size=0.15}',),
    "innovations, compressed": (f'method={{name="innovations", step_size=0.15, up={GRID}, down={GRID}}}',),
    "MASHA1, whole batches, Rand-10 % up": ("problem.batch_size=0", MASHA),
}
DRAWN = ("Adam", "optimistic Adam", "optimistic Adam, compressed", "OGDA")
SHOWN = ("optimistic Adam", "optimistic Adam, compressed")


@dataclasses.dataclass(frozen=True)
class Run:
    """What is left of a run."""

    history: tuple[Record, ...]
    reason: str
    up_bytes: float
    down_bytes: float
    samples: Any
    real: Any
    floor: float

    @property
    def frechet(self) -> float:
        """At its end; infinite if it diverged."""
        return self.history[-1].merits["frechet"] if self.reason == "max_iterations" else float("inf")


def run(sets: tuple[str, ...], seed: int) -> Run:
    import torch

    torch.set_num_threads(1)
    recipe = load_recipe(RECIPE, [*sets, f"seed={seed}", f"problem.seed={seed}"])
    problem: Any = build_problem(recipe)
    method = build_method(resolve(recipe, problem), problem)
    found = simulate(problem, method, seed=seed, stop=recipe.stop, wire=LoopbackWire())
    pictures = problem.pictures(found.replica.z_D)
    floor = problem.judge.frechet(np.concatenate([rows for (rows,) in problem.data]))
    up, down = (size / problem.num_workers for size in (found.up_bytes, found.down_bytes))
    return Run(found.history, found.reason, up, down, pictures["samples"], pictures["real"], floor)


def line(name: str, found: list[Run]) -> str:
    ends = [one.frechet for one in found]
    sizes = " | ".join(f"{np.mean([getattr(one, way) for one in found]) / 1e6:,.1f}" for way in ("up_bytes", "down_bytes"))
    lost = sum(not np.isfinite(end) for end in ends)
    merit = f"diverges ({lost} of {len(ends)})" if lost else f"{np.mean(ends):.2f} ({min(ends):.2f}-{max(ends):.2f})"
    return f"| {name} | {merit} | {sizes} |"


def draw(runs: dict[str, list[Run]], out: Path) -> None:
    """Frechet distance against bytes on the left; samples of two runs and real pictures on the right."""
    with in_style():
        _draw(runs, out)


def _draw(runs: dict[str, list[Run]], out: Path) -> None:
    figure = Figure(figsize=(14, 4.3), layout="constrained")
    ax, *panels = figure.subplots(1, 4, width_ratios=(1.7, 1, 1, 1))
    ends = []
    for number, name in enumerate(DRAWN):
        for one in runs[name]:  # seeds look alike; the last one bears the name
            size = [(record.up_bytes + record.down_bytes) / 4e6 for record in one.history]
            merit = [record.merits["frechet"] for record in one.history]
            ax.plot(size, merit, **look(number), alpha=0.8)
        ends.append((name, look(number)["color"], (size[-1], merit[-1])))
    floor = runs[DRAWN[0]][0].floor
    tidy(ax, floor)
    ax.set(xscale="log", yscale="log", xlabel="MB up and down, each worker", ylabel="Frechet distance to held-out pictures")
    name_beside(ax, [*ends, ("training pictures", "#777777", (ax.get_xlim()[1], floor))])
    shown = [runs[name][0].samples for name in SHOWN]
    for panel, title, pictures_NHW in zip(panels, (*SHOWN, "held out"), (*shown, runs[SHOWN[0]][0].real), strict=True):
        panel.imshow(grid(pictures_NHW[:36]), cmap="gray", vmin=0, vmax=1)
        panel.set_title(title, fontsize=10)
        panel.axis("off")
    figure.savefig(out, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--out", type=Path, help="write the figure there")
    parser.add_argument("--json", type=Path, help="write the ends there")
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS), metavar="NAME", help="these rows")
    parser.add_argument(
        "--set", dest="sets", action="append", default=[], metavar="KEY=VALUE", help="override a key of every run"
    )
    arguments = parser.parse_args()
    if arguments.out and not set(DRAWN) <= set(arguments.only):
        parser.error("--out draws rows that --only leaves out")
    print("| | Frechet distance, mean (least-most) | MB up, worker | MB down |\n|---|---|---|---|")
    spawn, runs = multiprocessing.get_context("spawn"), {}
    with concurrent.futures.ProcessPoolExecutor(arguments.jobs, mp_context=spawn) as pool:
        waiting = {
            name: [pool.submit(run, (*RUNS[name], *arguments.sets), seed) for seed in range(arguments.seeds)]
            for name in arguments.only
        }
        for name, each in waiting.items():
            runs[name] = [one.result() for one in each]
            print(line(name, runs[name]), flush=True)
    print(f"\ntraining pictures: {runs[arguments.only[0]][0].floor:.2f}")
    if arguments.out:
        draw(runs, arguments.out)
    if arguments.json:
        ends = {name: [one.frechet for one in found] for name, found in runs.items()}
        arguments.json.write_text(json.dumps(ends, indent=2) + "\n")


if __name__ == "__main__":
    main()
