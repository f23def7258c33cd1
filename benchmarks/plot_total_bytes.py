"""Merit against total bytes on the reference game: OGDA, MASHA1, MASHA2 and innovations, all with automatic steps.

    python benchmarks/plot_total_bytes.py [--output docs/innovations.png]

Prints the bytes of each worker in both directions until the relative error is 1e-6, and draws the way there.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib as mpl

from saddlebag.algorithms import Stop, make_method, simulate
from saddlebag.algorithms.problems import BilinearGame
from saddlebag.compression import Grid, Natural, TopK
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
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    game = BilinearGame()
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    for label, (name, params) in CURVES.items():
        method = make_method(name, game, step_size="auto", **params)
        stop = Stop(merit=1e-6, max_iterations=args.iterations, every=5)
        end = simulate(game, method, seed=0, stop=stop, wire=LoopbackWire())
        kilobytes = [(r.up_bytes + r.down_bytes) / game.num_workers / 1e3 for r in end.history]
        axes.loglog(kilobytes, [r.merits["relative_error"] for r in end.history], label=label)
        print(f"{label:28} {end.reason:8} {end.replica.iteration:6d} iterations {kilobytes[-1]:8.1f} kB", flush=True)
    axes.set(xlabel="kB of each worker, both directions", ylabel="relative error", title="Bilinear game, D = 100, 10 workers")
    axes.legend()
    figure.savefig(args.output, dpi=110)


if __name__ == "__main__":
    main()
