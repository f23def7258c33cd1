"""What quantising layer by layer saves over one scale for all: bytes at equal error, on operators of our networks.

    python benchmarks/study_layers.py [PATH/sst2] [--iterations 0 100 400] [--error 0.05]

The GAN on digits, and with a path the ALBERT of `albert_sst2`, at points of a run of the recipe (uncompressed). A worker's
value is encoded by `dithering` (norm max, s levels): with one scale for all coordinates; with a scale for each tensor and one
s; with an s for each tensor, chosen for the least bytes at that error (by a multiplier); and in blocks of 128. Bytes are
lengths of encoded messages, at an E|Q(x) - x|^2 of `--error` times |x|^2, between whole numbers of levels along the logarithms.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms import Message, Stop, simulate
from saddlebag.compression import Draws, make_compressor
from saddlebag.launch.build import build_method, build_problem, resolve
from saddlebag.launch.recipe.recipe import load_recipe
from saddlebag.proto.codec import LoopbackWire, encode

if TYPE_CHECKING:
    from collections.abc import Iterator

LEVELS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024, 2048)
FULL = ('method.up={name="identity"}', 'method.down={name="identity"}')
SHORT = ("problem.vocabulary=2048", "problem.length=32", "problem.attack=none", "problem.eps=0")
Cost = tuple[float, float]  # error, bytes


def cost(x_D: Any, levels: int, block: int | None = None) -> Cost:
    """E|Q(x) - x|^2, exactly, and the length of a message."""
    keys: dict[str, Any] = {"levels": levels, "norm": "max", **({"block": block} if block else {})}
    payload = make_compressor("dithering", **keys).encode(x_D, Draws(0, 0))
    pieces = encode(Message((payload,)))
    size = block or len(x_D)
    error = 0.0
    for begin in range(0, len(x_D), size):
        part = x_D[begin : begin + size]
        scale = np.abs(part).max() / levels
        if scale > 0:
            rest = np.abs(part) / scale % 1.0
            error += float(np.sum(rest * (1 - rest))) * scale**2
    return error, float(sum(memoryview(piece).nbytes for piece in pieces))


def at_error(found: list[Cost], error: float) -> float:
    """Bytes at an error, between the points of a curve on logarithmic axes."""
    curve = sorted(found)
    errors, sizes = (np.log([max(point[place], 1e-300) for point in curve]) for place in (0, 1))
    return float(np.exp(np.interp(np.log(error), errors, sizes)))


def chosen(layers: list[list[Cost]]) -> list[Cost]:
    """Sums over layers, each at the levels of least error plus a multiplier times bytes, for many multipliers."""
    curve = []
    for multiplier in np.logspace(-16, 4, 400):
        best = [min(layer, key=lambda point: point[0] + multiplier * point[1]) for layer in layers]
        curve.append((sum(error for error, _ in best), sum(size for _, size in best)))
    return curve


def rows(x_D: Any, tensors: Any, error: float) -> dict[str, float]:
    """Bytes by way at the relative error."""
    target, begin, layers = error * float(x_D @ x_D), 0, []
    for tensor in tensors:
        part = x_D[begin : begin + tensor.size]
        begin += tensor.size
        if np.any(part):
            layers.append([cost(part, levels) for levels in LEVELS])
    alike = [(sum(layer[n][0] for layer in layers), sum(layer[n][1] for layer in layers)) for n in range(len(LEVELS))]
    return {
        "one scale": at_error([cost(x_D, levels) for levels in LEVELS], target),
        "by layer": at_error(alike, target),
        "by layer, own levels": at_error(chosen(layers), target),
        "blocks of 128": at_error([cost(x_D, levels, 128) for levels in LEVELS], target),
    }


def points(name: str, sets: tuple[str, ...], iterations: list[int]) -> Iterator[tuple[int, Any, Any]]:
    """(iteration, a worker's value there, the tensors) along a run."""
    recipe = load_recipe(name, [*sets, *FULL])
    problem: Any = build_problem(recipe)
    for count in iterations:
        z_D = problem.start()
        if count:
            method = build_method(resolve(recipe, problem), problem)
            stop = Stop(max_iterations=count, every=count)
            z_D = simulate(problem, method, seed=0, stop=stop, wire=LoopbackWire()).replica.z_D
        yield count, problem.operator(0)(z_D, Draws(0, count, 0)), problem.tensors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sst2", nargs="?", help="the path of SST-2's folder")
    parser.add_argument("--iterations", nargs="+", type=int, default=[0, 100, 400])
    parser.add_argument("--error", nargs="+", type=float, default=[0.3, 0.05, 0.01])
    arguments = parser.parse_args()
    problems: list[tuple[str, tuple[str, ...]]] = [("digits_gan", ())]
    if arguments.sst2:
        problems.append(("albert_sst2", (*SHORT, f"data.source={arguments.sst2}")))
    print("| network | iteration | error | one scale, kB | by layer | ratio | own levels | ratio | blocks of 128 | ratio |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, sets in problems:
        for count, x_D, tensors in points(name, sets, arguments.iterations):
            for error in arguments.error:
                first, *others = rows(x_D, tensors, error).values()
                cells = " | ".join(f"{size / 1e3:.1f} | {first / size:.2f}" for size in others)
                print(f"| {name} | {count} | {error:g} | {first / 1e3:.1f} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
