"""Deterministic simulation of faults: real cores under a clock, a network and disks that a seed drives, on all processors.

python benchmarks/chaos.py --minutes 5 --seed 0     runs of 120 planned faults each, by consecutive seeds, while there is time
python benchmarks/chaos.py --minutes 300 --faults 2000000 --seed 0    the long form: ends at whichever comes first
python benchmarks/chaos.py --replay 1234            one run again, and its shortest script if it fails

What is counted are faults that found something to happen to. States are hashes of what server, workers and network are at:
rounds relative to the server's, checkpoints held, messages on their way, without vectors and times. A failure ends with a
program that repeats it. See docs/reliability.md.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import gc
import itertools
import os
import sys
import time
from collections import Counter
from typing import Any

from saddlebag.launch.cores import available_cores
from saddlebag.launch.rehearsal.scenarios import scenario_of
from saddlebag.launch.rehearsal.search import as_code, replay, shrunk, trial

CHUNK, COUNT = 10, 120  # seeds of a task, planned faults of a run


def settle() -> None:
    """What a process has imported outlives it: the collector need not look at it again, and seldom at the rest.

    15 % of the time went there; a run's own objects go with their counts.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def chunk(start: int) -> dict[str, Any]:
    """The runs of some consecutive seeds."""
    faults: Counter[str] = Counter()
    states: set[int] = set()
    failures: list[tuple[int, str]] = []
    events = rounds = 0
    seconds = 0.0
    for seed in range(start, start + CHUNK):
        found = trial(seed, count=COUNT)
        faults += found.faults
        states |= found.states
        events, rounds, seconds = events + found.events, rounds + found.rounds, seconds + found.seconds
        if found.failure:
            failures.append((seed, found.failure))
    return {
        "faults": faults,
        "states": states,
        "failures": failures,
        "sums": Counter(events=events, rounds=rounds, s=int(seconds)),
    }


def explain(seed: int) -> str:
    """A failing run, and the shortest script that fails."""
    scenario, script = scenario_of(seed, count=COUNT)
    if not (failure := replay(scenario, seed, script).failure):
        return f"seed {seed}: every promise holds"
    kept = shrunk(scenario, seed, script)
    return f"seed {seed}: {failure}\nfrom {len(script)} faults to {len(kept)}:\n{as_code(scenario, seed, kept)}"


def search(minutes: float, most: float, seed: int, processes: int) -> int:
    """Runs until the time is over or so many faults have happened; returns how many runs failed."""
    begin = time.monotonic()
    faults: Counter[str] = Counter()
    sums: Counter[str] = Counter()
    states: set[int] = set()
    failures: list[tuple[int, str]] = []
    marks: list[tuple[float, int, int, int]] = []  # time, faults, states, failures
    with concurrent.futures.ProcessPoolExecutor(processes, initializer=settle) as pool:
        starts = itertools.count(seed, CHUNK)
        running = {pool.submit(chunk, next(starts)) for _ in range(2 * processes)}
        while running:
            done, running = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
            for each in done:
                found = each.result()
                faults += found["faults"]
                sums += found["sums"]
                states |= found["states"]
                failures += found["failures"]
                for broken, failure in found["failures"]:
                    print(f"seed {broken}: {failure}", file=sys.stderr, flush=True)
                if time.monotonic() - begin < 60 * minutes and faults.total() < most:
                    running.add(pool.submit(chunk, next(starts)))
            before = marks[-1][0] if marks else 0.0
            marks.append((time.monotonic() - begin, faults.total(), len(states), len(failures)))
            if marks[-1][0] // 60 > before // 60:
                print("{:,.0f} s: {:,} faults, {:,} states, {} failures".format(*marks[-1]), file=sys.stderr, flush=True)
    elapsed = time.monotonic() - begin
    half = next(mark for mark in marks if mark[1] >= faults.total() / 2)
    ended = next(starts)
    print(f"seeds {seed} to {ended - 1}: {faults.total():,} faults in {elapsed:.0f} s on {processes} processes")
    print(f"  {60 * faults.total() / elapsed:,.0f} a minute; {sums['rounds']:,} rounds, {sums['events']:,} events")
    print(f"  distinct states: {len(states):,}, of which {len(states) - half[2]:,} in the second half of the faults")
    print(f"  failures: {len(failures)}, of which {len(failures) - half[3]} in the second half")
    print("  " + ", ".join(f"{kind} {number:,}" for kind, number in faults.most_common()))
    kinds: dict[str, int] = {}
    for number, failure in sorted(failures):
        kinds.setdefault(failure.partition(":")[0], number)
    for number in kinds.values():
        print(explain(number))
    return len(failures)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--faults", type=float, default=float("inf"), help="end when so many have happened")
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--processes", type=int, default=available_cores())
    parser.add_argument("--replay", type=int, metavar="SEED", help="only this run")
    asked = parser.parse_args()
    if asked.replay is not None:
        print(explain(asked.replay))
        return 0
    return 1 if search(asked.minutes, asked.faults, asked.seed, asked.processes) else 0


if __name__ == "__main__":
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    raise SystemExit(main())
