"""ALBERT-tiny on text: curves uncompressed and compressed, one direction and both, side by side; adversarial training.

    python benchmarks/study_albert.py mlm PATH/wikitext2 --json mlm.json      masked words: loss on held-out text
    python benchmarks/study_albert.py sst2 PATH/sst2 --json sst2.json         sentiment: error on held-out sentences
    python benchmarks/study_albert.py adversarial PATH/sst2                   sentiment: what training does to resist attack
    python benchmarks/study_albert.py plot mlm.json sst2.json --out docs/albert.png

The recipes of launch/recipes with a small vocabulary and short rows, which learn more than words' frequencies within minutes:
two workers of 32 rows of 32 tokens. Reference driver, real messages, two runs at a time with one thread each.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import functools
import json
import multiprocessing
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms import simulate
from saddlebag.launch.build import build_method, build_problem, resolve
from saddlebag.launch.recipe.recipe import load_recipe
from saddlebag.proto.codec import LoopbackWire

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

RECIPES = Path(__file__).parents[1] / "launch" / "recipes"
SMALL = ("workers=2", "problem.vocabulary=2048", "problem.length=32", "problem.batch_size=32")
NONE = '{name="identity"}'
GRID = "grid 0.25 in blocks of 128"
COMPRESSORS = {
    "8 bits in blocks": '{name="nearest_int8"}',
    "4 bits in blocks": '{name="nearest_int4"}',
    GRID: '{name="grid", step=0.25, block=128}',
    "Top-5 % in 8 bits": '{name="compose", sparsifier={name="top_k", fraction=0.05}, values={name="nearest_int8"}}',
    "Rand-5 %": '{name="unscaled_rand_k", fraction=0.05}',
}
POWER_SGD = "PowerSGD, rank 4, both ways"
BOTH = ("up", "down")
NOTHING = "none"
DRAWN = (NOTHING, *(f"{name}, both ways" for name in COMPRESSORS), POWER_SGD)
TITLES = ("masked words of WikiText-2", "sentiment, SST-2")


@dataclasses.dataclass(frozen=True)
class Task:
    """A recipe as the study runs it."""

    recipe: str
    sets: tuple[str, ...]
    iterations: int


TASKS = {
    "mlm": Task("albert_wikitext2", ("method.step_size=1.5e-3",), 240),
    "sst2": Task("albert_sst2", ("problem.attack=none", "problem.eps=0", "method.step_size=1e-3"), 240),
    "adversarial": Task("albert_sst2", ("problem.eps=0.05", "method.step_size=2e-3", "stop.every=240"), 240),
}


def through(table: str, ways: Sequence[str] = BOTH) -> tuple[str, ...]:
    """The overrides for this compressor in these directions and none in the others."""
    return tuple(f"method.{way}={table if way in ways else NONE}" for way in BOTH)


def compressed(*, both_alone: bool = False) -> dict[str, tuple[str, ...]]:
    """The overrides of each curve of `mlm` and, in both directions alone, of `sst2`."""
    curves = {NOTHING: through(NONE)}
    for name, table in COMPRESSORS.items():
        if not both_alone:
            curves[f"{name}, up"] = through(table, ["up"])
        curves[f"{name}, both ways"] = through(table)
    return curves | {POWER_SGD: ("method={name='power_sgd', rank=4}",)}


def adversarial() -> dict[str, tuple[str, ...]]:
    """The overrides of each row of `adversarial`."""
    ways = {
        "plain": ("problem.attack=none",),
        "FreeLB": ("problem.attack=freelb",),
        "free": ("problem.attack=free", "problem.replays=3"),
    }
    grid = COMPRESSORS[GRID]
    return {
        f"{name}, {kind}": (*sets, *through(table))
        for name, sets in ways.items()
        for kind, table in (("uncompressed", NONE), ("grid both ways", grid))
    }


def run(task: Task, data: Path, sets: tuple[str, ...], seed: int) -> dict[str, Any]:
    """One run: merits on the way, bytes of a worker and CPU seconds in a step."""
    steps = task.iterations
    length = (f"stop.max_iterations={steps}", f"stop.every={max(1, steps // 10)}", f"seed={seed}", f"problem.seed={seed}")
    optimizer = (f"method.warmup={steps // 7}", f"method.total={steps}", "method.schedule=linear", "method.weight_decay=0.01")
    source = f"data.source={data.resolve()}"
    recipe = load_recipe(RECIPES / f"{task.recipe}.toml", (*SMALL, source, *length, *sets, *task.sets, *optimizer))
    problem = build_problem(recipe)
    method = build_method(resolve(recipe, problem), problem)
    begin = time.process_time()
    found = simulate(problem, method, seed=seed, stop=recipe.stop, wire=LoopbackWire())
    seconds = (time.process_time() - begin) / steps
    return {
        "seed": seed,
        "dimension": problem.dimension,
        "merits": {record.iteration: dict(record.merits) for record in found.history},
        "up": found.up_bytes / recipe.workers / steps,
        "down": found.down_bytes / recipe.workers / steps,
        "cpu_s": seconds,
        "frequencies": frequency_loss(problem) if task.recipe == "albert_wikitext2" else None,
        "embedding": embedding_size(problem.module(found.replica.z_D)["model"]),
    }


def frequency_loss(problem: Any) -> float:
    """The loss on held-out text of a guess by frequency alone: what a model must beat to have looked at the other words."""
    count_V = np.ones(problem.vocabulary.size)
    for (rows_NT,) in problem.data:
        count_V += np.bincount(rows_NT[:, 1:-1].ravel(), minlength=len(count_V))
    return float(-np.log(count_V / count_V.sum())[problem.evaluate.rows_NT[:, 1:-1]].mean())


def embedding_size(model: Any) -> float:
    """The mean l2 norm of a piece's embedding: a radius means little beside large ones."""
    weight_VE = model.get_input_embeddings().weight.detach().numpy()
    return float(np.linalg.norm(weight_VE, axis=1).mean())


# -- tables ----------------------------------------------------------------------------------------------------------------

Runs = list[dict[str, Any]]


def spread(runs: Runs, value: Callable[[dict[str, Any]], float]) -> str:
    """The mean over the seeds, and least and most."""
    values = [value(run) for run in runs]
    return f"{np.mean(values):.3f}" + (f" ({min(values):.3f}-{max(values):.3f})" if len(values) > 1 else "")


def last(run: dict[str, Any], merit: str) -> float:
    return float(list(run["merits"].values())[-1][merit])


def curve_line(name: str, runs: Runs, full: Runs, merits: Sequence[str]) -> str:
    """A row for a compressor; `full` are the uncompressed runs."""
    shown = [spread(runs, functools.partial(last, merit=merit)) for merit in merits]
    for way in BOTH:
        here, whole = (np.mean([run[way] for run in each]) for each in (runs, full))
        shown.append(f"{here / 1000:,.0f} ({whole / here:.1f} x)")
    return f"| {name} | {' | '.join(shown)} | {np.mean([run['cpu_s'] for run in runs]):.2f} |"


def attack_line(name: str, runs: Runs) -> str:
    """A row for a way to train."""
    clean, robust = (spread(runs, lambda run, key=key: 1 - last(run, key)) for key in ("clean_error", "robust_error"))
    sizes = " | ".join(f"{np.mean([run[way] for run in runs]) / 1000:,.0f}" for way in BOTH)
    cpu_s = np.mean([run["cpu_s"] for run in runs])
    return f"| {name} | {clean} | {robust} | {spread(runs, lambda run: run['embedding'])} | {sizes} | {cpu_s:.2f} |"


def show(name: str, task: str, found: dict[str, Runs]) -> str:
    if task == "adversarial":
        return attack_line(name, found[name])
    return curve_line(name, found[name], found[NOTHING], MERITS[task])


HEADINGS = {
    "mlm": "| compressor | loss | wrong guesses | kB up, worker, step | kB down | CPU s a step |",
    "sst2": "| compressor | loss | wrong | kB up, worker, step | kB down | CPU s a step |",
    "adversarial": "| training | accuracy | under PGD-10 | embedding | kB up, worker, step | kB down | CPU s a step |",
}
MERITS = {"mlm": ("loss", "masked_error"), "sst2": ("loss", "clean_error")}


ROWS = {"mlm": compressed, "sst2": functools.partial(compressed, both_alone=True), "adversarial": adversarial}


def study(name: str, task: Task, data: Path, seeds: int, only: str, file: Path | None) -> dict[str, Runs]:
    """All runs of a task, two at a time; the table's rows as they come. What `file` holds is not run again."""
    rows = {row: sets for row, sets in ROWS[name]().items() if row == NOTHING or only in row}
    print(HEADINGS[name], "|---" * HEADINGS[name].count(" | ") + "|---|", sep="\n", flush=True)
    found: dict[str, Runs] = json.loads(file.read_text()) if file and file.exists() else {}
    context = multiprocessing.get_context("spawn")  # torch's threads do not outlive a fork
    with concurrent.futures.ProcessPoolExecutor(max_workers=2, mp_context=context) as pool:
        asked = {
            row: [pool.submit(run, task, data, sets, seed) for seed in range(seeds)]
            for row, sets in rows.items()
            if len(found.get(row, ())) < seeds
        }
        for row in rows:
            if row in asked:
                found[row] = [future.result() for future in asked[row]]
                if file:
                    file.write_text(json.dumps(found, indent=1) + "\n")
            print(show(row, name, found), flush=True)
    return found


# -- the plot --------------------------------------------------------------------------------------------------------------


def draw(studies: Sequence[dict[str, Runs]], path: Path) -> None:
    """For each study the loss over iterations and over bytes: nothing compressed, and both directions; means over the seeds."""
    from matplotlib.figure import Figure

    from saddlebag.launch.results.house import in_style, look, name_beside, tidy

    with in_style():
        figure = Figure(figsize=(12, 3.8 * len(studies)), layout="constrained")
        axes = figure.subplots(len(studies), 2, sharey="row", squeeze=False)
        for (left, right), study_, title in zip(axes, studies, TITLES, strict=False):
            ends = []
            for number, name in enumerate(DRAWN):
                runs, seen = study_[name], look(number)
                steps = [int(step) for step in runs[0]["merits"]]
                losses = np.mean([[merits["loss"] for merits in run["merits"].values()] for run in runs], axis=0)
                sizes = [step * (runs[0]["up"] + runs[0]["down"]) / 1e6 for step in steps]
                left.plot(steps, losses, **seen)
                right.plot(sizes, losses, **seen)
                ends.append((name.removesuffix(", both ways"), seen["color"], (sizes[-1], losses[-1])))
            frequencies = study_[NOTHING][0]["frequencies"]
            left.set(xlabel="iteration", ylabel="loss, held out", title=title)
            right.set(xlabel="MB of a worker, both directions", xscale="log")
            for ax in (left, right):
                tidy(ax, frequencies)
            if frequencies:
                ends.append(("frequencies alone", "#777777", (right.get_xlim()[1], frequencies)))
            name_beside(right, ends)
        figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=[*TASKS, "plot"])
    parser.add_argument("paths", nargs="+", type=Path, help="WikiText's or SST-2's folder; for `plot` what --json wrote")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", default="", help="the rows whose names hold this, and the uncompressed one")
    parser.add_argument("--iterations", type=int, help="instead of the task's own number")
    parser.add_argument("--json", type=Path, help="keep every run's numbers here, and begin with what is there")
    parser.add_argument("--out", type=Path, default=Path("albert.png"), help="of `plot`")
    arguments = parser.parse_args()
    if arguments.task == "plot":
        draw([json.loads(path.read_text()) for path in arguments.paths], arguments.out)
        return
    begin = time.monotonic()
    task = TASKS[arguments.task]
    if arguments.iterations:
        task = dataclasses.replace(task, iterations=arguments.iterations)
    found = study(arguments.task, task, arguments.paths[0], arguments.seeds, arguments.only, arguments.json)
    first = next(iter(found.values()))[0]
    if first["frequencies"]:
        print(f"\nloss of the pieces' frequencies alone: {first['frequencies']:.3f}")
    print(
        f"\n{first['dimension']:,} parameters, {task.iterations} iterations, "
        f"{arguments.seeds} seeds, {time.monotonic() - begin:.0f} s"
    )


if __name__ == "__main__":
    main()
