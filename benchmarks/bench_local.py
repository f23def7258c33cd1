"""Exchanges that methods with local steps need on a game with unlike workers: python benchmarks/bench_local.py [--smoke].

Every method runs at all points of a small grid of its own; the fewest exchanges of full vectors to the target are shown.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from typing import Any

import saddlebag as sb

GRIDS: dict[str, dict[str, list[Any]]] = {
    "ogda": {"step_size": ["0.25/L", "0.35/L", "0.5/L", "0.57/L"]},
    "local_sgda": {"step_size": [0.01, 0.03, 0.1], "local_steps": [1, 4]},
    "fed_gda_gt": {"step_size": [0.18, 0.12, 0.08, 0.05, 0.02], "local_steps": [8, 16, 32]},
    "prox_skip_vip": {"step_size": [0.02, 0.05, 0.1], "probability": [0.02, 0.05, 0.1, 0.2]},
}


def fewest(game: Any, name: str, target: float, most: int) -> tuple[int, dict[str, Any]] | None:
    """The fewest exchanges of a method, and with what; None where no point of the grid gets there."""
    found = []
    for values in itertools.product(*GRIDS[name].values()):
        given = dict(zip(GRIDS[name], values, strict=True))
        run = sb.simulate(game, sb.make_method(name, game, **given), stop=sb.Stop(merit=target, max_rounds=most))
        if run.reason == "merit":
            found.append((run.rounds, given))
    return min(found, key=lambda each: each[0]) if found else None


def main() -> int:
    """Print a line for each method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a smaller game and target: does it run at all")
    smoke = parser.parse_args().smoke
    size: dict[str, Any] = {"n": 4, "workers": 2} if smoke else {"n": 20, "workers": 8}
    game = sb.make_problem("bilinear", regularisation=0.1, heterogeneity=0.5, **size)
    target, most = (1e-1, 300) if smoke else (1e-6, 6000)
    for name in GRIDS:
        best = fewest(game, name, target, most)
        print(f"{name:14} {f'{best[0]:6,} exchanges with {best[1]}' if best else 'does not get there'}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
