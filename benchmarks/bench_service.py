"""The groupwise prediction service: predictions per second with 4 client processes, beside a bare gRPC echo.

Both answer requests of the same size with replies of the same size, on one stream for each client with one request under
way at a time, and from the same kind of server (grpc.aio, one process). Each contender runs as a server and its clients.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import grpc.aio
import numpy as np
from harness import (
    LOOPBACK,
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

from saddlebag.algorithms.groupwise import AdaNormalHedge, Groupwise, Ridge, SquaredLoss
from saddlebag.client.groupwise import GroupwiseClient
from saddlebag.proto.endpoint import ServerSecurity
from saddlebag.proto.groupwise import join_rows
from saddlebag.proto.v1 import groupwise_pb2 as pb
from saddlebag.server.groupwise.core import GroupwiseCore, ServiceSettings
from saddlebag.server.groupwise.service import GroupwiseService
from saddlebag.server.groupwise.shell import GroupwiseShell

NAMES = {"service": "the service, no journal", "journal": "the service, journal on disk", "echo": "bare gRPC echo"}
ECHO = "/echo/Stream"
WARM_UP_S = 1.0


def rows_of(args: argparse.Namespace, rank: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(rank)
    member_NG = rng.random((args.batch, args.groups)) < args.awake / args.groups
    member_NG[:, 0] = True
    return rng.random((args.batch, args.features)), member_NG


# -- servers -------------------------------------------------------------------------------------------------------------


def core_of(args: argparse.Namespace, max_pending: int = 100_000) -> GroupwiseCore:
    algorithm = Groupwise(
        learner=Ridge(dimension=args.features),
        mixer=AdaNormalHedge(),
        loss=SquaredLoss(),
        interval=(0.0, 1.0),
        always_on=0,
        compiled=args.compiled,
    )
    names = (tuple(f"{kind}{n}" for n in range(count)) for kind, count in (("x", args.features), ("g", args.groups)))
    features, groups = names
    return GroupwiseCore(algorithm, ServiceSettings(features=features, groups=groups, max_pending=max_pending))


async def serve_groupwise(args: argparse.Namespace, directory: Path | None) -> None:
    service = GroupwiseService(core_of(args), directory)
    shell = GroupwiseShell(service)
    say(await shell.start(f"{LOOPBACK}:0", ServerSecurity()))
    running = asyncio.create_task(shell.run())
    await gathered(args)
    shell.stop()
    await running


async def serve_echo(args: argparse.Namespace) -> None:
    reply = pb.StreamReply(predict=pb.PredictReply(first_ticket=1, predictions=bytes(8 * args.batch))).SerializeToString()

    async def stream(requests: Any, context: Any) -> Any:
        async for _ in requests:
            yield reply

    server = grpc.aio.server()
    handler = grpc.stream_stream_rpc_method_handler(stream)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo", {"Stream": handler}),))
    say(server.add_insecure_port(f"{LOOPBACK}:0"))
    await server.start()
    await gathered(args)
    await server.stop(0.5)


async def gathered(args: argparse.Namespace) -> None:
    """Wait for the clients' latencies in the folder, and print the sums as the parent wants them."""
    folder = Path(args.folder)
    while len(list(folder.glob("*.npy"))) < args.clients:
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.2)
    took_s = [np.load(path) for path in sorted(folder.glob("*.npy"))]
    all_s = np.sort(np.concatenate(took_s))
    rate = sum(len(each) / each.sum() for each in took_s)
    say(
        {
            "rows_per_s": args.batch * rate,
            "p50_ms": 1e3 * float(np.quantile(all_s, 0.5)),
            "p99_ms": 1e3 * float(np.quantile(all_s, 0.99)),
        }
    )


# -- clients -------------------------------------------------------------------------------------------------------------


def ask_groupwise(args: argparse.Namespace) -> Any:
    client = GroupwiseClient(f"{LOOPBACK}:{args.port}")
    x_ND, member_NG = rows_of(args, args.rank)
    with client, client.stream() as stream:
        while True:
            stream.send_rows(x_ND, member_NG)
            answer = stream.receive()
            yield len(answer.value_N)  # type: ignore[union-attr]


def ask_echo(args: argparse.Namespace) -> Any:
    import queue

    features, groups = join_rows(*rows_of(args, args.rank))
    request = pb.StreamRequest(predict=pb.PredictRequest(features=features, groups=groups)).SerializeToString()
    waiting: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    with grpc.insecure_channel(f"{LOOPBACK}:{args.port}") as channel:
        replies = channel.stream_stream(ECHO)(iter(waiting.get, None))
        while True:
            waiting.put(request)
            yield len(next(replies))


def ask(args: argparse.Namespace) -> None:
    calls = ask_echo(args) if args.contender == "echo" else ask_groupwise(args)
    took_s: list[float] = []
    begin = time.perf_counter()
    while (now := time.perf_counter()) < begin + WARM_UP_S + args.seconds:
        next(calls)
        if now > begin + WARM_UP_S:
            took_s.append(time.perf_counter() - now)
    calls.close()
    temporary = Path(args.folder) / f"{args.rank}.tmp"
    with temporary.open("wb") as file:
        np.save(file, np.array(took_s))
    temporary.rename(temporary.with_suffix(".npy"))


# -- all of them ---------------------------------------------------------------------------------------------------------


def measure(args: argparse.Namespace, contender: str) -> Row:
    with TemporaryDirectory() as folder:
        options = ["--contender", contender, "--folder", folder]
        for name in ("clients", "batch", "groups", "features", "awake", "seconds"):
            options += [f"--{name}", str(getattr(args, name))]
        options += [] if args.compiled else ["--plain"]
        command = [sys.executable, __file__, *options]

        def client(rank: int, port: int) -> list[str]:
            return [*command, "--role", "client", "--rank", str(rank), "--port", str(port)]

        return cast_and_serve([*command, "--role", "server"], client, args.clients, 60.0 + 3 * args.seconds)


def report(rows: list[Row], args: argparse.Namespace) -> None:
    lines = [
        [
            name,
            spread([v / 1e3 for v in column(rows, key, "rows_per_s")], 1),
            *(spread(column(rows, key, q)) for q in ("p50_ms", "p99_ms")),
        ]
        for key, name in NAMES.items()
    ]
    title = f"{args.clients} clients, batches of {args.batch}, {args.groups} groups ({args.awake} awake), d = {args.features}"
    show(title, ("server", "thousand predictions/s", "p50 ms", "p99 ms"), lines, markdown=args.markdown)
    goals = []
    for key, goal in (("service", 0.6), ("journal", 0.5)):
        found = ratios(rows, "rows_per_s", key, "echo")
        goals.append([f"{NAMES[key]} : echo", spread(found), f">= {goal:g}", verdict(found, goal, at_least=True)])
    show("Goals", ("predictions per second", "median (range)", "goal", ""), goals, markdown=args.markdown)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--groups", type=int, default=12)
    parser.add_argument("--awake", type=int, default=4, help="groups of a row, in the mean")
    parser.add_argument("--features", type=int, default=25)
    parser.add_argument("--plain", dest="compiled", action="store_false", help="without the compiled loops of the extra fast")
    parser.add_argument("--seconds", type=float, default=4.0, help="of one contender in one repetition")
    parser.add_argument("--repetitions", type=int, default=3)
    add_output_options(parser)
    add_role_options(parser, "--folder")
    args = parser.parse_args()
    if args.role == "client":
        ask(args)
    elif args.role == "server":
        journal = Path(args.folder) / "journal" if args.contender == "journal" else None
        asyncio.run(serve_echo(args) if args.contender == "echo" else serve_groupwise(args, journal))
    else:
        rows: list[Row] = []
        for repetition, contender in interleaved(list(NAMES), args.repetitions):
            row = measure(args, contender)
            rows.append({"contender": contender, "repetition": repetition, **row})
            progress(f"{contender}: {row['rows_per_s']:,.0f} predictions/s")
        report(rows, args)
        save(args.json, rows)


if __name__ == "__main__":
    main()
