"""One round of a large model: Top-k up and down against dense float32 both ways, through the same server and worker shells.

Every worker has another vector (a window of one file, so that many workers fit in memory), compresses it, and receives the
compressed mean; nobody moves. Both contenders check a part of the mean. A round lasts from one end on the server to the next.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from bench_dense import FixedVectors, Nothing, Still, Unmoving
from harness import (
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

from saddlebag.algorithms import Message, Operator
from saddlebag.compression import Compressor, Dense, Draws, Identity, Mean, Payload, Sparse, TopK, Vector
from saddlebag.compression.compressors.sparsifiers.top_k import top_k_index

if TYPE_CHECKING:
    import argparse

NAMES = {"sparse": "Top-k both ways", "dense": "dense float32 both ways"}
WARM_UP = 2
SHIFT = 4099  # values between the windows of two workers
LARGE = 10_000_000  # values from which there is a goal
CHECKED = 200  # coordinates of the mean that are compared
GOAL, MEMORY_FACTOR, MEMORY_REST = 10.0, 1.25, 200_000_000


@dataclasses.dataclass(frozen=True)
class Exchange(Unmoving):
    """The worker sends its compressed vector, the server the compressed mean; nobody moves."""

    compressor: Compressor
    downlink: list[Payload]  # the latest, for the check

    def worker_step(self, replica: Still, own: Nothing, operator: Operator, draws: Draws) -> tuple[Nothing, Message]:
        value_D = operator(replica.z_D, draws)
        if isinstance(self.compressor, Identity):  # float32 already: spared a copy, and the memory for it
            return own, Message((Dense(value_D),))
        return own, Message((self.compressor.encode(value_D, draws),))

    def server_step(self, replica: Still, own: Nothing, means: tuple[Mean, ...], draws: Draws) -> tuple[Nothing, Message]:
        self.downlink[:] = [means[0].compress(self.compressor, draws)]
        return own, Message((self.downlink[0],))


class Windows(FixedVectors):
    """The problem whose operators return windows of a file."""

    def __init__(self, d: int, workers: int, path: str) -> None:
        super().__init__(d, workers)
        self._path = path

    def operator(self, worker: int) -> Operator:
        window_D = np.memmap(self._path, np.float32, "r", offset=4 * SHIFT * worker, shape=(self.dimension,))
        value_D: Vector = np.asarray(window_D)
        return lambda z_D, draws: value_D


def check(payload: Payload, problem: Windows, k: int) -> None:
    """The first values sent down are the means of what the workers sent of these coordinates."""
    sparse = isinstance(payload, Sparse)
    index_K = payload.index_K[:CHECKED] if isinstance(payload, Sparse) else np.arange(CHECKED)
    values = payload.value if isinstance(payload, Sparse) else payload
    assert isinstance(values, Dense)
    found_K = values.value_D[:CHECKED]
    sum_K = np.zeros(len(index_K))
    for rank in range(problem.num_workers):
        value_D = problem.operator(rank)(np.empty(0), Draws(0, 0))
        sent_K = np.isin(index_K, top_k_index(value_D, k)) if sparse else np.ones(len(index_K), bool)
        sum_K += np.where(sent_K, value_D[index_K], 0.0)
    if not np.array_equal(found_K, (sum_K / problem.num_workers).astype(np.float32)):
        raise SystemExit("the mean is wrong")


def write_vectors(path: Path, d: int, workers: int) -> None:
    rng, left = np.random.default_rng(0), d + SHIFT * workers
    with path.open("wb") as file:
        while left:
            count = min(left, 1 << 22)
            rng.standard_normal(count, np.float32).tofile(file)
            left -= count


# -- one process of a contender ------------------------------------------------------------------------------------------


def play(args: argparse.Namespace) -> None:
    d, meter = args.dimension, Meter(args.rounds, WARM_UP)
    problem: Any = Windows(d, args.workers, args.vectors)
    k = max(1, round(args.fraction * d))
    compressor: Any = TopK(k=k) if args.contender == "sparse" else Identity()
    method: Any = Exchange(compressor, [])
    if args.role == "worker":
        work(problem, method, args.rank, args.port)
        return
    ledger = serve(problem, method, args.workers, meter).ledger
    result = meter.result()
    rounds = meter.total
    result |= {"up_bytes": ledger.up.payload / rounds / args.workers, "down_bytes": ledger.down.payload / rounds / args.workers}
    check(method.downlink[0], problem, k)
    say(result)


def measure(contender: str, args: argparse.Namespace, path: Path) -> Row:
    base = [sys.executable, __file__, "--contender", contender, "--workers", str(args.workers), "--vectors", str(path)]
    base += ["--dimension", str(args.dimension), "--fraction", str(args.fraction)]
    base += ["--rounds", str(args.rounds if contender == "sparse" else args.dense_rounds), "--role"]
    return cast_and_serve(
        [*base, "server"],
        lambda rank, port: [*base, "worker", "--rank", str(rank), "--port", str(port)],
        args.workers,
        args.timeout_s,
    )


# -- all of them ---------------------------------------------------------------------------------------------------------


def report(rows: list[Row], args: argparse.Namespace) -> None:
    d, workers = args.dimension, args.workers
    lines = []
    for contender, name in NAMES.items():
        mine = {key: column(rows, contender, key) for key in ("round_ms", "cpu_ms", "server_cpu_ms")}
        megabytes = {
            key: [v / 1e6 for v in column(rows, contender, key)] for key in ("up_bytes", "down_bytes", "server_peak_bytes")
        }
        lines.append([name, *(spread(each, 0) for each in mine.values()), *(spread(each) for each in megabytes.values())])
    header = ("contender", "round ms", "CPU ms", "of it server", "MB up", "MB down", "server peak MB")
    title = f"One round, d = {d / 1e6:g}M, M = {workers}, k = {100 * args.fraction:g} %: median (range)"
    show(title, header, lines, markdown=args.markdown)
    found = ratios(rows, "round_ms", "dense", "sparse") if column(rows, "dense", "round_ms") else []
    goal = (f">= {GOAL:g}", verdict(found, GOAL, at_least=True)) if d >= LARGE else ("-", "no goal")
    goals = [["round time, dense : Top-k", spread(found), *goal]]
    peak = [value / 1e6 for value in column(rows, "sparse", "server_peak_bytes")]
    messages = workers * max(column(rows, "sparse", "up_bytes"), default=0.0)
    limit = (MEMORY_FACTOR * (8 * d + messages) + MEMORY_REST) / 1e6
    goals.append(["server peak MB, Top-k", spread(peak, 0), f"<= {limit:.0f}", verdict(peak, limit, at_least=False)])
    show("Goals", ("quantity", "median (range)", "goal", ""), goals, markdown=args.markdown)


def main() -> None:
    sizes = {"dimension": 10_000_000, "workers": 16, "fraction": 0.01, "rounds": 8, "repetitions": 3, "timeout_s": 300.0}
    parser = numbers_parser(__doc__, **sizes, dense_rounds=3)
    parser.add_argument("--only", choices=NAMES, help="one contender")
    add_role_options(parser, "--vectors")
    args = parser.parse_args()
    if args.role:
        play(args)
        return
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vectors"
        write_vectors(path, args.dimension, args.workers)
        for repetition, contender in interleaved([args.only] if args.only else list(NAMES), args.repetitions):
            row = measure(contender, args, path)
            rows.append(
                {"contender": contender, "repetition": repetition, "workers": args.workers, "dimension": args.dimension, **row}
            )
            progress(f"{contender}: {row['round_ms']:.0f} ms, server peak {row['server_peak_bytes'] / 1e6:.0f} MB")
    report(rows, args)
    save(args.json, rows)


if __name__ == "__main__":
    main()
