"""`innovations` beside its rivals, each at its best: python benchmarks/rivals.py --out FILE [--problems ...] [--data-dir PATH].

Every rival has the same budget: up to three quantisers (or synchronisation rates) times the same geometric grid of steps, tried
from the largest down until steps are half of the best; the fewest bytes in both directions, of each worker, are kept for each
target by itself, so that no rival is held to a setting that suits another target. Bytes are lengths of encoded messages. What
is called automatic has no cell to choose from. The file is written after every rival; what it holds already is not run again.

Targets are relative errors; of the matrix game, which is merely monotone, duality gaps as fractions of the first.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saddlebag.algorithms import Stop, make_method, simulate
from saddlebag.algorithms.agreed.common_part import CommonPart, common_part
from saddlebag.algorithms.methods.diana_sgda import DianaReplica, DianaSgda, memory_rate
from saddlebag.algorithms.problems import PROBLEMS, BilinearGame
from saddlebag.algorithms.problems.estimate import estimate_constants, with_constants
from saddlebag.algorithms.wrapped import Wrapped
from saddlebag.compression import Grid, Natural, RandK, TopK, make_compressor
from saddlebag.launch.build import build_problem
from saddlebag.launch.data.rows import load_data
from saddlebag.launch.recipe.recipe import load_recipe
from saddlebag.proto.codec import LoopbackWire

if TYPE_CHECKING:
    from saddlebag.algorithms import Problem
    from saddlebag.algorithms.simulate import Record

STEPS = [6.0, 4.2, 3.0, 2.1, 1.5, 1.0, 0.7, 0.5, 0.35, 0.25, 0.18, 0.12, 0.08, 0.05]  # multiples of 1 / L
TARGETS = (1e-3, 1e-6, 1e-9)
GAPS = (1e-1, 3e-2, 1e-2)
RECIPES = Path(__file__).parents[1] / "launch" / "recipes"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShiftedOgda(DianaSgda):
    """The optimistic step on DIANA's estimates, a rival that is no method of the package: z+ = z - gamma (2 g - g_before)."""

    def init_replica(self, z_D: Any) -> Any:
        return Shifted(**vars(super().init_replica(z_D)), estimate_D=0.0 * z_D)

    def replay(self, replica: Any, down: Any, draws: Any) -> Any:
        innovation_D = down.parts[0].dense()
        estimate_D = replica.memory_D + innovation_D
        before_D = replica.estimate_D if replica.iteration else estimate_D
        z_D = self.prox(replica.z_D - self.step_size * (2.0 * estimate_D - before_D), self.step_size)
        memory_D = replica.memory_D + memory_rate(self.down, len(z_D)) * innovation_D
        return Shifted(z_D, memory_D, replica.iteration + 1, estimate_D)


@dataclasses.dataclass(frozen=True, eq=False)
class Shifted(DianaReplica):
    """DIANA's replica and the estimate of the round before."""

    estimate_D: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Knowing(Wrapped):
    """A rival that is told what the operators have in common, as `innovations` is: it compresses the rest of each."""

    common: CommonPart

    def worker_step(self, replica: Any, own: Any, operator: Any, draws: Any) -> Any:
        return super().worker_step(replica, own, lambda z_D, draws: operator(z_D, draws) - self.common(z_D), draws)

    def replay(self, replica: Any, down: Any, draws: Any) -> Any:
        inner: Any = self.method
        common_D = self.common(replica.z_D)
        stepped = dataclasses.replace(inner, prox=lambda v_D, gamma: inner.prox(v_D - gamma * common_D, gamma))
        return stepped.replay(replica, down, draws)


@dataclasses.dataclass(frozen=True)
class Variant:
    """A method with its quantisers; `fixed` where its step is not tuned, `told` where it knows the common part."""

    name: str
    method: str
    params: dict[str, Any]
    fixed: str | None = None
    told: bool = False


def both(compressor: Any) -> dict[str, Any]:
    return {"up": compressor, "down": compressor}


def dithering(levels: int) -> Any:
    return make_compressor("dithering", levels=levels, norm="max")


def ef21(told: bool, **compressors: Any) -> tuple[Variant, ...]:
    given = {"momentum": 0.0, "memory": "innovations"}
    return tuple(Variant(name, "compressed_sgd", {**both(each), **given}, told=told) for name, each in compressors.items())


def masha(kind: str, compressor: Any) -> tuple[Variant, ...]:
    given = {**both(compressor), "sync_grid": 0.5}
    return tuple(Variant(f"p = {p}", kind, {**given, "probability": p}) for p in (0.05, 0.15, 0.4))


PAIRS = ((1.0, 0.5), (0.5, 0.5), (0.5, 0.25))
RIVALS: dict[str, tuple[Variant, ...]] = {
    "innovations, automatic": (Variant("grids set themselves", "innovations", {}, fixed="auto", told=True),),
    "innovations, best fixed grids": tuple(
        Variant(f"{u}/{d}", "innovations", {"up": Grid(step=u), "down": Grid(step=d)}, fixed="auto", told=True)
        for u, d in PAIRS
    ),
    "OGDA, float32": (Variant("float32", "ogda", {}),),
    "OGDA, 16-bit increments": (Variant("bfloat16", "innovations", both(make_compressor("cast"))),),
    "OGDA, 8-bit deltas": (Variant("nearest_int8", "innovations", both(make_compressor("nearest_int8"))),),
    "OGDA, 7-level deltas": (
        Variant("one scale", "innovations", both(Grid(step=1 / 3))),
        Variant("blocks of 256", "innovations", both(Grid(step=1 / 3, block=256))),
    ),
    "OGDA, DIANA shifts": tuple(Variant(f"max norm, s = {s}", "shifted", both(dithering(s))) for s in (1, 2, 4)),
    "DIANA-SGDA, dithering": tuple(Variant(f"max norm, s = {s}", "diana_sgda", both(dithering(s))) for s in (1, 2, 4)),
    "DIANA-SGDA, natural": (Variant("natural", "diana_sgda", both(Natural())),),
    "EF21-SGDA": ef21(False, top_10=TopK(fraction=0.1), top_30=TopK(fraction=0.3), grid_0_5=Grid(step=0.5)),
    "EF21-SGDA, common part": ef21(
        True, grid_0_5=Grid(step=0.5), fitted=Grid(step=0.5, fit=1.0), dead_zone=Grid(step=0.5, fit=1.0, dead=0.65)
    ),
    "DIANA-SGDA, common part": tuple(
        Variant(f"max norm, s = {s}", "diana_sgda", both(dithering(s)), told=True) for s in (1, 2, 4)
    ),
    "MASHA1 natural, sync_grid": masha("masha1", Natural()),
    "MASHA1 rand 10 %, sync_grid": masha("masha1", RandK(fraction=0.1)),
    "MASHA2 top 10 %, sync_grid": masha("masha2", TopK(fraction=0.1)),
    "MASHA2 grid 0.5, sync_grid": masha("masha2", Grid(step=0.5)),
}
PROBLEM_NAMES = ("game", "game 2000", "breast_cancer", "a9a", "mushrooms", "matrix game", "group-robust Adult")
LIMITS = {
    "game": 4000,
    "matrix game": 600,
    "group-robust Adult": 4000,
    "mushrooms": 500,
    "a9a": 500,
}  # iterations; 1500 otherwise


def build(name: str, data_dir: Path | None) -> Problem:
    """The problem; some need files of `data_dir`."""
    match name:
        case "game":
            return BilinearGame()
        case "game 2000":
            return BilinearGame(n=1000, num_workers=4, regularisation=0.1)
        case "breast_cancer":
            return PROBLEMS["robust_logistic"](load_data("breast_cancer"), num_workers=4)
        case "matrix game":
            return PROBLEMS["matrix_game"](None, rows=100, columns=100, num_workers=4)
        case _ if data_dir is None:
            raise SystemExit(f"{name} needs --data-dir")
        case "group-robust Adult":
            recipe = load_recipe(RECIPES / "group_robust_adult.toml", [f"data.source={data_dir / 'adult' / 'adult.data.xz'}"])
            return build_problem(recipe)
        case _:
            width = 123 if name == "a9a" else None
            data = load_data("libsvm", path=data_dir / name / f"{name}.xz", num_features=width)
            return PROBLEMS["robust_logistic"](data, num_workers=8)


class Cut(Exception):
    """A run has sent more than the best one needs."""


def bytes_to(
    problem: Problem, built: Any, targets: tuple[float, ...], *, limit: int, budget: float, seed: int = 0
) -> list[list[float] | None]:
    """(bytes up, bytes down, iterations) of each worker at each target; None where a run did not get there."""
    merit, start = next(iter(problem.merits(problem.start()).items()))
    scale = 1.0 if merit == "relative_error" else start
    found: list[list[float] | None] = [None] * len(targets)

    def observe(record: Record) -> None:
        value = next(iter(record.merits.values()))
        sent = [record.up_bytes / problem.num_workers, record.down_bytes / problem.num_workers, float(record.iteration)]
        for place, target in enumerate(targets):
            if found[place] is None and value <= target * scale:
                found[place] = sent
        if sent[0] + sent[1] > budget:
            raise Cut

    stop = Stop(merit=targets[-1] * scale, max_iterations=limit, every=5 if limit > 2000 else 2)
    with contextlib.suppress(Cut):
        simulate(problem, built, seed=seed, stop=stop, wire=LoopbackWire(), observe=observe, keep_history=False)
    return found


def made(problem: Problem, variant: Variant, step_size: float | str) -> Any:
    if variant.method == "shifted":
        return ShiftedOgda(step_size=step_size, prox=problem.prox, **variant.params)  # type: ignore[arg-type]
    method: Any = make_method(variant.method, problem, step_size=step_size, **variant.params)
    common = common_part(problem)
    if variant.method == "innovations":
        return method if variant.told else dataclasses.replace(method, common=None)
    return Knowing(method=method, common=common) if variant.told and common is not None else method


def fewest(problem: Problem, label: str, targets: tuple[float, ...], limit: int) -> list[dict[str, Any] | None]:
    """For each target the cell of a rival that needs the fewest bytes."""
    known = problem if problem.constants is not None else with_constants(problem, estimate_constants(problem))
    assert known.constants is not None
    best: list[dict[str, Any] | None] = [None] * len(targets)
    last = float("inf")  # bytes of the best cell at the last target: nobody need send more
    for variant in RIVALS[label]:
        ours, at = float("inf"), 0.0  # the best of this variant, and its step
        for step in STEPS if variant.fixed is None else [0.0]:
            if step and step < at / 2.2:
                break
            built = made(problem, variant, variant.fixed or step / known.constants.lipschitz)
            found = bytes_to(problem, built, targets, limit=limit, budget=last)
            for place, sent in enumerate(found):
                if sent is None:
                    continue
                cell = {
                    "variant": variant.name,
                    "step": step or "auto",
                    "up": sent[0],
                    "down": sent[1],
                    "iterations": int(sent[2]),
                }
                if best[place] is None or sent[0] + sent[1] < best[place]["up"] + best[place]["down"]:  # type: ignore[index]
                    best[place] = cell
            reached = found[-1] or found[-2]
            if reached is not None and reached[0] + reached[1] < ours:
                ours, at = reached[0] + reached[1], step
            if found[-1] is not None:
                last = min(last, found[-1][0] + found[-1][1])
    return best


def fill(name: str, labels: list[str], out: Path, data_dir: Path | None, *, smoke: bool) -> str:
    """Run what the file lacks of a problem."""
    path = out / f"{name.replace(' ', '_')}.json"
    held = json.loads(path.read_text()) if path.is_file() else {}
    problem = BilinearGame(n=2, num_workers=2, regularisation=0.5) if smoke else build(name, data_dir)
    targets, limit = GAPS if name == "matrix game" else TARGETS, LIMITS.get(name, 1500)
    for label in labels:
        kind = RIVALS[label][0].method
        nothing_told = RIVALS[label][0].told and kind != "innovations" and common_part(problem) is None
        if label in held or nothing_told or (kind == "masha2" and not problem.unconstrained):
            continue
        held[label] = fewest(problem, label, targets[:2] if smoke else targets, 60 if smoke else limit)
        path.write_text(json.dumps(held, indent=1) + "\n")
        print(
            f"{name}: {label}: {[cell and round((cell['up'] + cell['down']) / 1e3, 1) for cell in held[label]]} kB", flush=True
        )
    return name


def main() -> int:
    """Fill the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder, a file for each problem")
    parser.add_argument("--problems", default=",".join(PROBLEM_NAMES))
    parser.add_argument("--rivals", help="labels, separated by semicolons; all of them unless given")
    parser.add_argument("--data-dir", type=Path, help="folder with a9a/a9a.xz, mushrooms/mushrooms.xz, adult/adult.data.xz")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--smoke", action="store_true", help="two rivals on a tiny game: does it run at all")
    args = parser.parse_args()
    labels = args.rivals.split(";") if args.rivals else list(RIVALS)
    names = args.problems.split(",")
    if args.smoke:
        labels, names = ["innovations, automatic", "DIANA-SGDA, dithering"], ["game"]
    if unknown := [*(set(labels) - set(RIVALS)), *(set(names) - set(PROBLEM_NAMES))]:
        raise SystemExit(f"unknown: {', '.join(unknown)}; known: {'; '.join(RIVALS)}; {', '.join(PROBLEM_NAMES)}")
    args.out.mkdir(parents=True, exist_ok=True)
    if args.jobs == 1:
        for name in names:
            fill(name, labels, args.out, args.data_dir, smoke=args.smoke)
        return 0
    with ProcessPoolExecutor(args.jobs) as pool:
        for future in [pool.submit(fill, name, labels, args.out, args.data_dir, smoke=args.smoke) for name in names]:
            future.result()
    return 0


if __name__ == "__main__":
    sys.exit(main())
