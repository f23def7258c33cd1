"""Merit against total bytes on the reference game: OGDA, MASHA1, MASHA2 and innovations, all with automatic steps.

    python benchmarks/plot_total_bytes.py [--output docs/innovations.png]

Prints the bytes of each worker in both directions until the relative error is 1e-6, and draws the way there.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from saddlebag.algorithms import Stop, make_method, simulate
from saddlebag.algorithms.problems import BilinearGame
from saddlebag.compression import Grid, Natural, TopK
from saddlebag.launch.results.house import MARKERS, in_style, look, name_beside, tidy
from saddlebag.proto.codec import LoopbackWire

CURVES: dict[str, tuple[str, dict[str, Any]]] = {
    "OGDA, uncompressed": ("ogda", {}),
    "MASHA2, Top-10 %": ("masha2", {"up": TopK(fraction=0.1), "down": TopK(fraction=0.1), "probability": 0.11375}),
    "MASHA1, natural": ("masha1", {"up": Natural(), "down": Natural(), "probability": 9 / 64}),
    "MASHA1, natural, sync_grid": (
        "masha1",
        {"up": Natural(), "down": Natural(), "probability": 9 / 64, "sync_grid": 0.5},
    ),
    "MASHA2, grids, sync_grid": (
        "masha2",
        {"up": Grid(), "down": Grid(step=0.5), "probability": 0.15, "sync_grid": 0.5},
    ),
    "innovations, grids": ("innovations", {"up": Grid(), "down": Grid(step=0.5)}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent.parent / "docs" / "innovations.png")
    parser.add_argument("--iterations", type=int, default=20_000, help="at most")
    args = parser.parse_args()
    game = BilinearGame()
    drawn: dict[str, tuple[list[float], list[float]]] = {}
    for label, (name, params) in CURVES.items():
        method = make_method(name, game, step_size="auto", **params)
        stop = Stop(merit=1e-6, max_iterations=args.iterations, every=5)
        end = simulate(game, method, seed=0, stop=stop, wire=LoopbackWire())
        kilobytes = [(r.up_bytes + r.down_bytes) / game.num_workers / 1e3 for r in end.history]
        drawn[label] = kilobytes, [r.merits["relative_error"] for r in end.history]
        print(f"{label:28} {end.reason:8} {end.replica.iteration:6d} iterations {kilobytes[-1]:8.1f} kB", flush=True)
    draw(drawn, args.output)


def draw(drawn: dict[str, tuple[list[float], list[float]]], out: Path) -> None:
    """Error against bytes, a line for each method."""
    with in_style():
        figure = Figure(figsize=(9, 5), layout="constrained")
        axes, ends = figure.subplots(), []
        for number, (label, (kilobytes, errors)) in enumerate(drawn.items()):
            seen = look(number)
            axes.loglog(kilobytes, errors, **seen)
            axes.loglog(kilobytes[-1:], errors[-1:], MARKERS[number % len(MARKERS)], color=seen["color"])
            ends.append((label, seen["color"], (kilobytes[-1], errors[-1])))
        axes.set(
            xlabel="kB of each worker, both directions", ylabel="relative error", title="Bilinear game, D = 100, 10 workers"
        )
        tidy(axes, 1e-6)
        name_beside(axes, ends)
        figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main()
