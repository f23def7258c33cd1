"""A rehearsed round against a real one: processes in network namespaces behind `tc tbf`, and what the model says of them.

Every worker sends a float32 vector and takes the mean, through the real shells; links are so thin that they decide. In the
first cases the workers' links are the bottleneck, in the others the server's. Needs root and iproute2.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from typing import Any

import numpy as np
from bench_dense import DenseMean, FixedVectors, vector
from harness import Meter, Row, add_output_options, add_role_options, cast_and_serve, progress, save, say, show, spread, verdict
from namespaces import namespaces
from shells import serve, work

from saddlebag.algorithms import Message
from saddlebag.compression import Dense
from saddlebag.launch.rehearsal.costs import Recording, RoundCost
from saddlebag.launch.rehearsal.fleet import Plan, rehearse
from saddlebag.launch.rehearsal.links import Links, Spread
from saddlebag.proto.codec import encode
from saddlebag.proto.frames import frames_of

WARM_UP, GOAL = 2, 0.2
LATENCY_S = 1e-4  # of a switch inside one kernel


@dataclasses.dataclass(frozen=True)
class Case:
    """So many workers, and the links in Mbit/s."""

    workers: int
    worker_mbit: float
    server_mbit: float


CASES = [Case(count, 8.0, server) for server in (1000.0, 16.0) for count in (4, 8, 16)]


def predicted(case: Case, d: int, rounds: int) -> float:
    """Seconds of a round, in the median."""
    size = sum(map(len, frames_of(encode(Message((Dense(vector(0, d)),))), epoch=0, round_=0, sender=1)))
    cost = RoundCost(True, size, size, 4 * d, 4 * d)
    links = Links(
        up=Spread(1e6 * case.worker_mbit / 8),
        down=Spread(1e6 * case.worker_mbit / 8),
        latency=Spread(LATENCY_S),
        server=1e6 * case.server_mbit / 8,
    )
    given: dict[str, Any] = {"workers": case.workers, "rounds": rounds, "seed": 0, "drop": False, "every": 0}
    costs: dict[str, Any] = {
        "frame_s": 5e-4,
        "round_s": 1e-3,
        "step_s": 1e-3,
        "snapshot_bytes": 8 * d,
        "join_bytes": (500, 500),
    }
    found = rehearse(Plan(**given, **costs), links, Recording((cost,), 1e-3, None, b""))
    return float(np.median(found.round_s[1:]))


def play(args: argparse.Namespace) -> None:
    problem: Any = FixedVectors(args.dimension, args.workers)
    method: Any = DenseMean([])
    if args.role == "worker":
        work(problem, method, args.rank, args.port, args.host)
        return
    meter = Meter(args.rounds, WARM_UP)
    serve(problem, method, args.workers, meter, args.host)
    say(meter.result())


def measure(case: Case, args: argparse.Namespace) -> Row:
    with namespaces(case.workers + 1, rate_mbit=case.worker_mbit, first_mbit=case.server_mbit) as nodes:
        base = [sys.executable, __file__, "--workers", str(case.workers), "--dimension", str(args.dimension)]
        base += ["--rounds", str(args.rounds), "--host", nodes[0].address, "--role"]

        def inside(number: int, *rest: str) -> list[str]:
            return ["ip", "netns", "exec", nodes[number].name, *base, *rest]

        return cast_and_serve(
            inside(0, "server"),
            lambda rank, port: inside(rank + 1, "worker", "--rank", str(rank), "--port", str(port)),
            case.workers,
            args.timeout_s,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dimension", type=int, default=1 << 17)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--workers", type=int, help="only the cases of so many")
    parser.add_argument("--timeout-s", type=float, default=400.0, help="of one case")
    add_output_options(parser)
    add_role_options(parser, "--host")
    args = parser.parse_args()
    if args.role:
        play(args)
        return
    rows: list[Row] = []
    for case in CASES:
        if args.workers in (None, case.workers):
            real_s, said_s = measure(case, args)["p50_ms"] / 1e3, predicted(case, args.dimension, 20)
            rows.append({**dataclasses.asdict(case), "real_s": real_s, "rehearsed_s": said_s, "ratio": said_s / real_s})
            progress(f"{case}: {real_s:.2f} s, rehearsed {said_s:.2f} s")
    header = ("workers", "Mbit/s of each", "of the server", "a round, s", "rehearsed, s", "rehearsed : real")
    keys = ("workers", "worker_mbit", "server_mbit", "real_s", "rehearsed_s", "ratio")
    lines = [[f"{row[key]:g}" if key in keys[:3] else f"{row[key]:.2f}" for key in keys] for row in rows]
    show(f"Rounds of {4e-6 * args.dimension:.2g} MB each way", header, lines, markdown=args.markdown)
    off = [max(abs(row["ratio"] - 1) for row in rows)]
    goals = [["farthest from 1", spread(off), f"<= {GOAL}", verdict(off, GOAL, at_least=False)]]
    show("Goals", ("quantity", "value", "goal", ""), goals, markdown=args.markdown)
    save(args.json, rows)


if __name__ == "__main__":
    main()
