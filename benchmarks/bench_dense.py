"""Dense float32 vectors both ways: every worker sends d values, all receive the mean. Saddlebag's shells against raw TCP.

Rates are bytes moved (up and down, all workers) per second of a round, timed from one end of a round on the server to the
next. Both contenders check a part of the mean.
"""

from __future__ import annotations

import dataclasses
import socket
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from harness import (
    LOOPBACK,
    Meter,
    Row,
    add_role_options,
    cast_and_serve,
    column,
    interleaved,
    numbers_parser,
    progress,
    ratios,
    save,
    say,
    show,
    spread,
    verdict,
)
from shells import serve, work

from saddlebag.algorithms import Message, Operator, ReplicaState
from saddlebag.compression import Dense, Draws, Identity, Mean, Vector

if TYPE_CHECKING:
    import argparse

NAMES = {"saddlebag": "Saddlebag, shells", "raw": "raw TCP"}
SMALL, MIDDLE, LARGE = 1_000_000, 10_000_000, 64_000_000
ROUNDS = {SMALL: 60, MIDDLE: 10, LARGE: 3}
WARM_UP = 2
CHUNK = 1 << 18  # values: 1 MiB stays in the cache between recv_into and the addition
CHECKED = 1000  # leading coordinates of the mean that are compared


def vector(rank: int, d: int) -> Vector:
    return np.random.default_rng(rank).standard_normal(d, np.float32)


def check(mean_D: Vector, workers: int) -> None:
    expected_K = np.mean([vector(rank, CHECKED) for rank in range(workers)], axis=0)
    if not np.allclose(mean_D[:CHECKED], expected_K, rtol=1e-4, atol=1e-6):
        raise SystemExit("the mean is wrong")


# -- through the shells --------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Still:
    """A replica that does not move."""

    z_D: Vector
    iteration: int = 0


@dataclasses.dataclass(frozen=True)
class Nothing:
    """No own state."""


class Unmoving:
    """What methods have in common that exchange vectors and move nobody."""

    def init_replica(self, z_D: Vector) -> Still:
        return Still(z_D)

    def init_worker(self, replica: Still) -> Nothing:
        return Nothing()

    init_server = init_worker

    def uplink_sizes(self, replica: ReplicaState, draws: Draws) -> tuple[int, ...]:
        return (len(replica.z_D),)

    downlink_sizes = uplink_sizes

    def synchronises(self, replica: Still, draws: Draws) -> bool:
        return False

    def replay(self, replica: Still, down: Message, draws: Draws) -> Still:
        return replica


@dataclasses.dataclass(frozen=True)
class DenseMean(Unmoving):
    """The worker sends its operator's value as it is; the server sends the mean as float32; nobody moves."""

    means: list[Vector]  # the head of the latest mean, for the check

    def worker_step(self, replica: Still, own: Nothing, operator: Operator, draws: Draws) -> tuple[Nothing, Message]:
        return own, Message((Dense(operator(replica.z_D, draws)),))

    def server_step(self, replica: Still, own: Nothing, means: tuple[Mean, ...], draws: Draws) -> tuple[Nothing, Message]:
        payload = means[0].compress(Identity(), draws)
        assert isinstance(payload, Dense)
        self.means[:] = [payload.value_D[:CHECKED].copy()]
        return own, Message((payload,))


class FixedVectors:
    """The problem whose operators return one vector each."""

    name, unconstrained, constants = "fixed", True, None

    def __init__(self, d: int, workers: int) -> None:
        self.dimension, self.num_workers = d, workers

    def start(self) -> Vector:
        return np.zeros(self.dimension)  # never written, so it takes no memory

    def operator(self, worker: int) -> Operator:
        value_D = vector(worker, self.dimension)
        return lambda z_D, draws: value_D

    def prox(self, v_D: Vector, step_size: float) -> Vector:
        return v_D

    def merits(self, z_D: Vector) -> dict[str, float]:
        return {"none": 1.0}


# -- raw TCP: blocking sockets, preallocated buffers ---------------------------------------------------------------------


def receive(connection: socket.socket, value_D: Vector) -> None:
    """Fill an array."""
    view = memoryview(value_D).cast("B")
    while view:
        count = connection.recv_into(view)
        if not count:
            raise SystemExit("a peer has left")
        view = view[count:]


def serve_raw(d: int, workers: int, meter: Meter) -> None:
    listener = socket.create_server((LOOPBACK, 0), backlog=workers)
    say(listener.getsockname()[1])
    connections = [listener.accept()[0] for _ in range(workers)]
    for connection in connections:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sum_D, chunk = np.empty(d, np.float32), np.empty(CHUNK, np.float32)
    for _ in range(meter.total):
        receive(connections[0], sum_D)
        for connection in connections[1:]:
            for start in range(0, d, CHUNK):
                piece = chunk[: min(CHUNK, d - start)]
                receive(connection, piece)
                sum_D[start : start + CHUNK] += piece
        sum_D /= workers
        for connection in connections:
            connection.sendall(sum_D)
        meter.tick()
    check(sum_D, workers)


def work_raw(d: int, rank: int, port: int, rounds: int) -> None:
    value_D, mean_D = vector(rank, d), np.empty(d, np.float32)
    with socket.create_connection((LOOPBACK, port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(rounds):
            connection.sendall(value_D)
            receive(connection, mean_D)


# -- one process of a contender ------------------------------------------------------------------------------------------


def play(args: argparse.Namespace) -> None:
    d, meter = args.dimension, Meter(args.rounds, WARM_UP)
    problem: Any = FixedVectors(d, args.workers)
    method: Any = DenseMean([])
    match args.role, args.contender:
        case "worker", "raw":
            work_raw(d, args.rank, args.port, meter.total)
        case "worker", _:
            work(problem, method, args.rank, args.port)
        case _, "raw":
            serve_raw(d, args.workers, meter)
            say(meter.result())
        case _:
            serve(problem, method, args.workers, meter)
            check(method.means[0], args.workers)
            say(meter.result())


def measure(contender: str, workers: int, d: int, rounds: int, timeout_s: float) -> Row:
    base = [sys.executable, __file__, "--contender", contender, "--workers", str(workers), "--dimension", str(d)]
    base += ["--rounds", str(rounds), "--role"]
    row = cast_and_serve(
        [*base, "server"], lambda rank, port: [*base, "worker", "--rank", str(rank), "--port", str(port)], workers, timeout_s
    )
    moved_gb = workers * 2 * 4 * d / 1e9
    return {**row, "gb_per_s": moved_gb * row["rounds_per_s"], "cpu_s_per_gb": row["cpu_ms"] / 1e3 / moved_gb}


# -- all of them ---------------------------------------------------------------------------------------------------------


def memory_limit(d: int, workers: int) -> int:
    """The accumulator (float64 sums), 4 MiB for each worker, 200 MB."""
    return 8 * d + workers * (4 << 20) + 200_000_000


def report(rows: list[Row], dimensions: list[int], workers: int, *, markdown: bool) -> None:
    lines, goals = [], []
    of = {d: [row for row in rows if row["dimension"] == d] for d in dimensions}
    for d in dimensions:
        for contender, name in NAMES.items():
            values = {
                key: column(of[d], contender, key) for key in ("gb_per_s", "round_ms", "cpu_s_per_gb", "server_peak_bytes")
            }
            peak_mb = [value / 1e6 for value in values.pop("server_peak_bytes")]
            lines.append([f"{d / 1e6:g}M", name, *(spread(each) for each in values.values()), spread(peak_mb, 0)])
    header = ("d", "contender", "GB/s", "round ms", "CPU s/GB", "server peak MB")
    show(f"Dense float32 both ways, M = {workers}: median (range)", header, lines, markdown=markdown)
    for d in dimensions:
        found = ratios(of[d], "gb_per_s", "saddlebag", "raw")
        goal = (">= 0.45", verdict(found, 0.45, at_least=True)) if d == MIDDLE else ("-", "no goal")
        goals.append([f"d = {d / 1e6:g}M: rate, Saddlebag : raw TCP", spread(found), *goal])
    if SMALL in of and LARGE in of:
        for contender, name in NAMES.items():
            small, large = (column(of[d], contender, "gb_per_s") for d in (SMALL, LARGE))
            found = [b / a for a, b in zip(small, large, strict=True)]
            goal = (">= 0.8", verdict(found, 0.8, at_least=True)) if contender == "saddlebag" else ("-", "no goal")
            goals.append([f"rate at 256 MB : rate at 4 MB, {name}", spread(found), *goal])
    for d in dimensions:
        peak = [value / 1e6 for value in column(of[d], "saddlebag", "server_peak_bytes")]
        limit = memory_limit(d, workers) / 1e6
        goals.append(
            [
                f"d = {d / 1e6:g}M: server peak MB, Saddlebag",
                spread(peak, 0),
                f"<= {limit:.0f}",
                verdict(peak, limit, at_least=False),
            ]
        )
    show("Goals", ("quantity", "median (range)", "goal", ""), goals, markdown=markdown)


def main() -> None:
    parser = numbers_parser(__doc__, workers=4, repetitions=3, timeout_s=180.0)
    parser.add_argument("--dimensions", type=int, nargs="+", default=[SMALL, MIDDLE, LARGE])
    parser.add_argument("--rounds", type=int, help="instead of a number that fits each dimension")
    add_role_options(parser, numbers=("--dimension",))
    args = parser.parse_args()
    if args.role:
        play(args)
        return
    rows: list[Row] = []
    for repetition, (contender, d) in interleaved([(name, d) for d in args.dimensions for name in NAMES], args.repetitions):
        rounds = args.rounds or ROUNDS.get(d, max(3, 100_000_000 // d))
        row = measure(contender, args.workers, d, rounds, args.timeout_s)
        rows.append({"contender": contender, "repetition": repetition, "workers": args.workers, "dimension": d, **row})
        progress(f"d={d} {contender}: {row['gb_per_s']:.2f} GB/s, server peak {row['server_peak_bytes'] / 1e6:.0f} MB")
    report(rows, args.dimensions, args.workers, markdown=args.markdown)
    save(args.json, rows)


if __name__ == "__main__":
    main()
