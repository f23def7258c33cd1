"""Tiny rounds: MASHA1 on the bilinear game through Saddlebag, unary gRPC, Flower's legacy path, and in process.

All contenders but Flower (a dense mean) run the same halves of the same method with the same codec and end on the same
bits, which is checked. A round is timed from one end of a round on the server to the next.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from harness import (
    LOOPBACK,
    Meter,
    Row,
    add_output_options,
    add_role_options,
    cast_and_serve,
    column,
    interleaved,
    progress,
    ratios,
    save,
    say,
    show,
    spread,
    verdict,
)
from shells import SEED, serve, work

from saddlebag.algorithms import AnyMethod, Message, Problem, Stop, digest, form_means, masha1, simulate
from saddlebag.algorithms.problems import BilinearGame
from saddlebag.compression import SERVER, Draws, Identity, RandK
from saddlebag.launch.drivers.process import tune_process
from saddlebag.proto.codec import LoopbackWire, decode, encode

FLOWER = Path(__file__).with_name("contender_flower.py")
NAMES = {
    "saddlebag": "Saddlebag, shells",
    "unary": "unary gRPC",
    "flower": "Flower, legacy gRPC",
    "simulate": "in process",
}
FLOWER_SHARE = 0.2  # of --rounds: it is slow
WARM_UP = 100
SCENARIOS = ((10, 100), (4, 1000))  # workers, dimension
CALL = "bench.Unary"


def game(workers: int, dimension: int) -> tuple[Problem, AnyMethod]:
    problem = BilinearGame(n=dimension // 2, num_workers=workers)
    return problem, masha1(problem, up=RandK(fraction=0.1), down=Identity(), step_size=0.3)


# -- unary gRPC: the obvious implementation ------------------------------------------------------------------------------


class Barrier:
    """One call for each worker and round; all are answered when the last has arrived."""

    def __init__(self, problem: Problem, method: AnyMethod, meter: Meter) -> None:
        self.method, self.meter, self.workers = method, meter, problem.num_workers
        self.replica = method.init_replica(problem.start())
        self.own = method.init_server(self.replica)
        self.over = asyncio.Event()
        self.round = 0
        self.open()

    def open(self) -> None:
        self.draws = Draws(SEED, self.round, SERVER)
        self.sizes = self.method.uplink_sizes(self.replica, self.draws)
        self.arrived: dict[int, Message] = {}
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def exchange(self, request: bytes, context: Any) -> bytes:
        worker, answer = request[0], self.answer
        self.arrived[worker] = decode(memoryview(request)[1:], self.sizes, self.draws.of(worker))
        if len(self.arrived) == self.workers:
            self.finish()
        return await answer

    def finish(self) -> None:
        means = form_means(self.sizes, (self.arrived[worker] for worker in range(self.workers)), self.workers)
        self.own, down = self.method.server_step(self.replica, self.own, means, self.draws)
        data, answer = b"".join(encode(down)), self.answer
        self.replica = self.method.replay(self.replica, down, self.draws)
        self.round += 1
        self.open()
        answer.set_result(data)
        self.meter.tick()
        if self.round == self.meter.total:
            self.over.set()


async def serve_unary(problem: Problem, method: AnyMethod, meter: Meter) -> str:
    barrier = Barrier(problem, method, meter)
    server = grpc.aio.server()
    handlers = {"Exchange": grpc.unary_unary_rpc_method_handler(barrier.exchange)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(CALL, handlers),))
    port = server.add_insecure_port(f"{LOOPBACK}:0")
    await server.start()
    say(port)
    await barrier.over.wait()
    await server.stop(grace=5.0)
    return f"{digest(barrier.replica):016x}"


def work_unary(problem: Problem, method: AnyMethod, rank: int, port: int, rounds: int) -> None:
    operator, replica = problem.operator(rank), method.init_replica(problem.start())
    own = method.init_worker(replica)
    with grpc.insecure_channel(f"{LOOPBACK}:{port}") as channel:
        exchange = channel.unary_unary(f"/{CALL}/Exchange")
        for round_ in range(rounds):
            draws = Draws(SEED, round_, SERVER)
            own, message = method.worker_step(replica, own, operator, draws.of(rank))
            reply = exchange(b"".join((bytes((rank,)), *encode(message))), wait_for_ready=True)
            down = decode(reply, method.downlink_sizes(replica, draws), draws)
            replica = method.replay(replica, down, draws)


# -- in process ----------------------------------------------------------------------------------------------------------


class TickingWire(LoopbackWire):
    """Ends a round with each downlink."""

    def __init__(self, meter: Meter, workers: int) -> None:
        self._meter, self._messages, self._carried = meter, workers + 1, 0

    def carry(self, message: Message, sizes: tuple[int, ...], draws: Draws) -> tuple[Message, int]:
        self._carried += 1
        if self._carried % self._messages == 0:
            self._meter.tick()
        return super().carry(message, sizes, draws)


# -- one process of a contender ------------------------------------------------------------------------------------------


def play(args: argparse.Namespace) -> None:
    problem, method = game(args.workers, args.dimension)
    meter = Meter(args.rounds, WARM_UP)
    if args.role == "worker":
        if args.contender == "saddlebag":
            work(problem, method, args.rank, args.port)
        else:
            tune_process()
            work_unary(problem, method, args.rank, args.port, meter.total)
        return
    if args.contender == "saddlebag":
        found = f"{digest(serve(problem, method, args.workers, meter).replica):016x}"
    elif args.contender == "unary":
        tune_process()
        found = asyncio.run(serve_unary(problem, method, meter))
    else:
        say(0)
        stop = Stop(max_rounds=meter.total, every=meter.total)
        wire = TickingWire(meter, args.workers)
        outcome = simulate(problem, method, seed=SEED, stop=stop, wire=wire, keep_history=False)
        found = f"{digest(outcome.replica):016x}"
    say({**meter.result(), "digest": found})


def measure(contender: str, workers: int, dimension: int, rounds: int, flower_python: str, timeout_s: float) -> Row:
    if contender == "flower":
        server = [flower_python, str(FLOWER), "server", *map(str, (workers, dimension, rounds, WARM_UP // 5))]
        return cast_and_serve(
            server, lambda rank, port: [flower_python, str(FLOWER), "worker", str(port), str(dimension)], workers, timeout_s
        )
    base = [sys.executable, __file__, "--contender", contender, "--workers", str(workers), "--dimension", str(dimension)]
    base += ["--rounds", str(rounds), "--role"]
    count = 0 if contender == "simulate" else workers
    return cast_and_serve(
        [*base, "server"], lambda rank, port: [*base, "worker", "--rank", str(rank), "--port", str(port)], count, timeout_s
    )


# -- all of them ---------------------------------------------------------------------------------------------------------


def has_flower(python: str) -> bool:
    return subprocess.run([python, "-c", "import flwr"], capture_output=True, check=False).returncode == 0


def compare(args: argparse.Namespace, workers: int, dimension: int, contenders: list[str]) -> list[Row]:
    rows: list[Row] = []
    for repetition, contender in interleaved(contenders, args.repetitions):
        rounds = max(50, int(args.rounds * FLOWER_SHARE)) if contender == "flower" else args.rounds
        row = measure(contender, workers, dimension, rounds, args.flower_python, args.timeout_s)
        rows.append({"contender": contender, "repetition": repetition, "workers": workers, "dimension": dimension, **row})
        progress(f"M={workers} d={dimension} {contender}: {row['rounds_per_s']:.0f} rounds/s, {row['cpu_ms']:.2f} CPU ms/round")
    found = {row["contender"]: row["digest"] for row in rows if "digest" in row}
    if len(set(found.values())) > 1:
        raise SystemExit(f"the contenders did not end on the same bits: {found}")
    return rows


def report(rows: list[Row], workers: int, dimension: int, *, flower: bool, markdown: bool) -> None:
    lines = []
    for contender, name in NAMES.items():
        values = [column(rows, contender, key) for key in ("rounds_per_s", "p50_ms", "p99_ms", "cpu_ms", "server_cpu_ms")]
        if not values[0]:
            reason = "flwr is not installed" if contender == "flower" and not flower else "not run"
            lines.append([name, reason, "", "", "", ""])
            continue
        lines.append([name, spread(values[0], 0), *(spread(each) for each in values[1:])])
    header = ("contender", "rounds/s", "p50 ms", "p99 ms", "CPU ms/round", "of it server")
    show(f"Rounds, M = {workers}, d = {dimension}: median (range)", header, lines, markdown=markdown)
    goals = []
    if dimension <= 100:
        for other, goal in (("unary", 1.7), ("flower", 6.0)):
            found = ratios(rows, "rounds_per_s", "saddlebag", other) if column(rows, other, "rounds_per_s") else []
            goals.append(
                [f"rounds/s, Saddlebag : {NAMES[other]}", spread(found), f">= {goal}", verdict(found, goal, at_least=True)]
            )
    else:
        found = column(rows, "saddlebag", "round_ms")
        goals.append(["ms per round, Saddlebag", spread(found), "< 2", verdict(found, 2.0, at_least=False)])
        found = ratios(rows, "rounds_per_s", "saddlebag", "unary")
        goals.append([f"rounds/s, Saddlebag : {NAMES['unary']}", spread(found), "-", "no goal"])
    show("Goals", ("quantity", "median (range)", "goal", ""), goals, markdown=markdown)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, help="with --dimension: this scenario instead of the two of the goals")
    parser.add_argument("--dimension", type=int)
    parser.add_argument("--rounds", type=int, default=1500)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--flower-python", default=sys.executable, metavar="PATH", help="an interpreter that has flwr")
    parser.add_argument("--timeout-s", type=float, default=120.0, help="of one contender in one repetition")
    add_output_options(parser)
    add_role_options(parser)
    args = parser.parse_args()
    if args.role:
        play(args)
        return
    if (args.workers is None) != (args.dimension is None):
        parser.error("--workers and --dimension go together")
    scenarios = SCENARIOS if args.workers is None else ((args.workers, args.dimension),)
    flower = has_flower(args.flower_python)
    everything: list[Row] = []
    for workers, dimension in scenarios:
        contenders = [name for name in NAMES if name != "flower" or (flower and dimension <= 100)]
        rows = compare(args, workers, dimension, contenders)
        everything += rows
        report(rows, workers, dimension, flower=flower, markdown=args.markdown)
    save(args.json, everything)


if __name__ == "__main__":
    main()
