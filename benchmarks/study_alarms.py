"""False alarms of groupwise alarms over many streams of which all hypotheses hold: at most the declared rate, at any time.

    python benchmarks/study_alarms.py --streams 1000 --rounds 2000

A stream has three groups, intervals that miss a tenth of the labels, probabilities that are right, losses equal to the single
model's on average, and four features that do not drift. After every round somebody looks. Told is, for each kind and for
all, the share of streams with any alarm on any group, beside the declared rate, and how many rounds it takes after a drift.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import multiprocessing
from typing import Any

import numpy as np

from saddlebag.algorithms.groupwise import Seen, Watch, cell_edges
from saddlebag.algorithms.groupwise.watch.watch import KINDS

GROUPS = 3


def round_of(rng: np.random.Generator, drifted: str = "") -> Seen:
    """A round of which all hypotheses hold, but for the kind that has drifted, on group 1."""
    awake_G = np.array([1.0, rng.random() < 0.6, rng.random() < 0.3], float)
    on = drifted if awake_G[1] else ""
    p = rng.choice([0.1, 0.35, 0.7])
    second = rng.random() < (0.5 if on == "features" else 0.3)
    return Seen(
        awake_G=awake_G,
        x_D=np.array([rng.normal(), second, rng.integers(4), 1.0], float),
        p=float(p),
        y=float(rng.random() < (p + 0.2 if on == "calibration" else p)),
        excess=0.2 * rng.normal() + (0.05 if on == "worse" else 0.0),
        missed_M=np.array([rng.random() < (0.2 if on == "coverage" else 0.1)]),
    )


def stream(seed: int, rounds: int, rate: float, drifted: str = "", after: int = 0) -> Any:
    """The first alarms of a stream, (kinds, groups); with a drift on group 1 after so many rounds."""
    rng = np.random.default_rng(seed)
    table_ND = np.array([round_of(rng).x_D for _ in range(200)])
    watch = Watch(rate=rate, targets=(0.9,), edges=cell_edges(table_ND))
    state = watch.init(GROUPS)
    for t in range(rounds):
        watch.see(state, round_of(rng, drifted if t >= after else ""))
    return state.first_KG


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(args.processes, mp_context=context) as pool:
        jobs = [pool.submit(stream, seed, args.rounds, args.rate) for seed in range(args.streams)]
        first_RKG = np.stack([job.result() for job in jobs])
        half = args.rounds // 2
        late = {kind: pool.submit(stream, 1, args.rounds, args.rate, kind, half) for kind in KINDS}
        found = {kind: float(job.result()[KINDS.index(kind), 1]) for kind, job in late.items()}
    told = {
        "streams": args.streams,
        "rounds": args.rounds,
        "rate": args.rate,
        "false": float(first_RKG.any(axis=(1, 2)).mean()),
        "false_by_kind": {kind: float(first_RKG[:, k].any(axis=1).mean()) for k, kind in enumerate(KINDS)},
        "rounds_after_drift": {kind: first - half if first else None for kind, first in found.items()},
    }
    if args.json:
        print(json.dumps(told))
        return
    print(f"{args.streams} streams of {args.rounds} rounds without drift, declared rate {args.rate:g}")
    print(f"any alarm at any time: {told['false']:.4f} of the streams")
    for kind in KINDS:
        share, rounds = told["false_by_kind"][kind], told["rounds_after_drift"][kind]
        after = (
            f"a drift is found after {rounds:.0f} rounds" if rounds else f"a drift is not found in {args.rounds - half} rounds"
        )
        print(f"  {kind:12} {share:.4f}; {after}")


if __name__ == "__main__":
    main()
