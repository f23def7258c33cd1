"""A rehearsed round against a real one: processes in network namespaces behind `tc tbf`, and what the model says of them.

Every worker sends a vector and takes the mean, float32 or Top-k both ways, through the real shells; links are so thin that
they decide. In the first cases the workers' links are the bottleneck, in the next the server's; the model's one constant was
fitted to these. `--held-out` runs others, with other dimensions, numbers of workers, links and a compressor. Needs root and
iproute2.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from typing import Any

import numpy as np
from bench_dense import FixedVectors, vector
from bench_round import Exchange
from harness import Meter, Row, add_output_options, add_role_options, cast_and_serve, progress, save, say, show, spread, verdict
from namespaces import namespaces
from shells import serve, work

from saddlebag.algorithms import Message
from saddlebag.compression import Compressor, Draws, Identity, TopK
from saddlebag.launch.rehearsal.costs import Recording, RoundCost
from saddlebag.launch.rehearsal.fleet import Plan, rehearse
from saddlebag.launch.rehearsal.links import Links, Spread
from saddlebag.proto.codec import encode
from saddlebag.proto.frames import frames_of

WARM_UP, GOAL = 2, 0.2
LATENCY_S = 1e-4  # of a switch inside one kernel


@dataclasses.dataclass(frozen=True)
class Case:
    """So many workers, the links in Mbit/s, the dimension, and the share of coordinates that travels."""

    workers: int
    worker_mbit: float
    server_mbit: float
    dimension: int = 1 << 17
    share: float = 1.0

    @property
    def compressor(self) -> Compressor:
        return Identity() if self.share == 1.0 else TopK(fraction=self.share)


CASES = [Case(count, 8.0, server) for server in (1000.0, 16.0) for count in (4, 8, 16)]
HELD_OUT = [
    Case(6, 20.0, 1000.0, 600_000),
    Case(6, 20.0, 30.0, 600_000),
    Case(12, 3.0, 1000.0, 2_000_000, 0.05),
    Case(12, 3.0, 9.0, 2_000_000, 0.05),
    Case(5, 30.0, 20.0, 1_000_000, 0.2),
]


def message_bytes(case: Case, rank: int | None) -> int:
    """Of a worker's uplink, or of the downlink."""
    ranks = range(case.workers) if rank is None else (rank,)
    x_D = np.mean([vector(each, case.dimension) for each in ranks], axis=0)
    payload = case.compressor.encode(x_D, Draws(0, 0))
    return sum(map(len, frames_of(encode(Message((payload,))), epoch=0, round_=0, sender=1)))


def predicted(case: Case, rounds: int) -> float:
    """Seconds of a round, in the median."""
    d, up, down = case.dimension, message_bytes(case, 0), message_bytes(case, None)
    cost = RoundCost(True, up, down, up, down)
    links = Links(
        up=Spread(1e6 * case.worker_mbit / 8),
        down=Spread(1e6 * case.worker_mbit / 8),
        latency=Spread(LATENCY_S),
        server=1e6 * case.server_mbit / 8,
    )
    given: dict[str, Any] = {"workers": case.workers, "rounds": rounds, "seed": 0, "drop": False, "every": 0, "save_s": 0.0}
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
    case = Case(args.workers, 0.0, 0.0, args.dimension, args.share)
    problem: Any = FixedVectors(case.dimension, case.workers)
    method: Any = Exchange(case.compressor, [])
    if args.role == "worker":
        work(problem, method, args.rank, args.port, args.host)
        return
    meter = Meter(args.rounds, WARM_UP)
    serve(problem, method, args.workers, meter, args.host)
    say(meter.result())


def measure(case: Case, args: argparse.Namespace) -> Row:
    with namespaces(case.workers + 1, rate_mbit=case.worker_mbit, first_mbit=case.server_mbit) as nodes:
        base = [sys.executable, __file__, "--workers", str(case.workers), "--dimension", str(case.dimension)]
        base += ["--share", str(case.share), "--rounds", str(args.rounds), "--host", nodes[0].address, "--role"]

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
    parser.add_argument("--held-out", action="store_true", help="cases to which nothing was fitted")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--workers", type=int, help="only the cases of so many")
    parser.add_argument("--timeout-s", type=float, default=400.0, help="of one case")
    add_output_options(parser)
    add_role_options(parser, "--host", numbers=("--dimension",))
    parser.add_argument("--share", type=float, default=1.0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.role:
        play(args)
        return
    rows: list[Row] = []
    for case in HELD_OUT if args.held_out else CASES:
        if args.workers in (None, case.workers):
            real_s, said_s = measure(case, args)["p50_ms"] / 1e3, predicted(case, 20)
            rows.append({**dataclasses.asdict(case), "real_s": real_s, "rehearsed_s": said_s, "ratio": said_s / real_s})
            progress(f"{case}: {real_s:.2f} s, rehearsed {said_s:.2f} s")
    header = ("d", "share", "workers", "Mbit/s of each", "of the server", "a round, s", "rehearsed, s", "rehearsed : real")
    keys = ("dimension", "share", "workers", "worker_mbit", "server_mbit", "real_s", "rehearsed_s", "ratio")
    lines = [[f"{row[key]:,.10g}" if key in keys[:5] else f"{row[key]:.2f}" for key in keys] for row in rows]
    show("Rounds, rehearsed and real", header, lines, markdown=args.markdown)
    off = [max(abs(row["ratio"] - 1) for row in rows)]
    goals = [["farthest from 1", spread(off), f"<= {GOAL}", verdict(off, GOAL, at_least=False)]]
    show("Goals", ("quantity", "value", "goal", ""), goals, markdown=args.markdown)
    save(args.json, rows)


if __name__ == "__main__":
    main()
