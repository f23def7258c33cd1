"""What methods with local steps need on a game with unlike workers, in exchanges and bytes.

    python benchmarks/bench_local.py [--smoke]

Every method runs at all points of a small grid of its own; the fewest exchanges to the target are shown, and the fewest bytes.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from typing import TYPE_CHECKING, Any

import saddlebag as sb

if TYPE_CHECKING:
    from collections.abc import Iterator

GRIDS: dict[str, dict[str, list[Any]]] = {
    "ogda": {"step_size": ["0.25/L", "0.35/L", "0.5/L", "0.57/L"]},
    "local_sgda": {"step_size": [0.01, 0.03, 0.1], "local_steps": [1, 4]},
    "fed_gda_gt": {"step_size": [0.18, 0.12, 0.08, 0.05, 0.02], "local_steps": [8, 16, 32]},
    "prox_skip_vip": {"step_size": [0.02, 0.05, 0.1], "probability": [0.02, 0.05, 0.1, 0.2]},
    "compressed_fed_gda_gt": {"step_size": [0.18, 0.12, 0.08, 0.05, 0.02], "local_steps": [16, 32], "both": [0.5, 0.25]},
    "innovations": {"step_size": ["0.25/L", "0.35/L", "0.5/L"], "both": [1.0, 0.5, 0.25]},
}
"""By method; "both" is the step of a grid each way."""


def settings(name: str) -> Iterator[dict[str, Any]]:
    """The points of a method's grid, as its arguments."""
    for values in itertools.product(*GRIDS[name].values()):
        given = dict(zip(GRIDS[name], values, strict=True))
        step = given.pop("both", None)
        both = {} if step is None else {way: {"name": "grid", "step": step} for way in ("up", "down")}
        yield {**given, **both}


def reached(game: Any, name: str, target: float, most: int) -> list[tuple[int, float, dict[str, Any]]]:
    """Exchanges, bytes of each worker in both directions, and with what, of the points that get there."""
    found = []
    for given in settings(name):
        run = sb.simulate(game, sb.make_method(name, game, **given), stop=sb.Stop(merit=target, max_rounds=most))
        if run.reason == "merit":
            found.append((run.rounds, (run.up_bytes + run.down_bytes) / game.num_workers, given))
    return found


def main() -> int:
    """Print a line for each method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a smaller game and target: does it run at all")
    smoke = parser.parse_args().smoke
    size: dict[str, Any] = {"n": 4, "workers": 2} if smoke else {"n": 20, "workers": 8}
    game = sb.make_problem("bilinear", regularisation=0.1, heterogeneity=0.5, **size)
    target, most = (1e-1, 300) if smoke else (1e-6, 6000)
    for name in GRIDS:
        found = reached(game, name, target, most)
        if not found:
            print(f"{name:22} does not get there", flush=True)
            continue
        rounds, _, how = min(found, key=lambda each: each[0])
        _, least, cheap = min(found, key=lambda each: each[1])
        print(f"{name:22} {rounds:6,} exchanges with {how}; {least / 1000:8,.2f} kB with {cheap}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
