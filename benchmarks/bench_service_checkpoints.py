"""The prediction service with a million waiting tickets: what calls wait for while a checkpoint is written, and a restart.

One client asks for predictions, one row after the other. Half a second long one checkpoint follows the other, then as
long there is none, and so on: both kinds of calls see the same machine. Two contenders:

    beside    checkpoints as they are: the page that grows, and pages that have become full
    whole     each checkpoint writes every page again, as the first one in another folder would

In service checkpoints come every 4,096 calls. Then the service is started again from its folder, and `--labels` of the waiting
tickets get their label.

    python benchmarks/bench_service_checkpoints.py [--waiting 1000000]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import resource
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from bench_service import ask_groupwise, core_of, rows_of
from harness import (
    LOOPBACK,
    Row,
    add_output_options,
    add_role_options,
    cast_and_serve,
    column,
    interleaved,
    progress,
    save,
    say,
    show,
    spread,
    verdict,
)

from saddlebag.proto.endpoint import ServerSecurity
from saddlebag.server.groupwise.service import GroupwiseService
from saddlebag.server.groupwise.shell import GroupwiseShell

NAMES = {"beside": "the growing page", "whole": "every page"}
FILL_ROWS = 4096
WARM_UP_S = 1.0
TURN_S = 0.5
NEVER = 10**12


async def serve(args: argparse.Namespace, folder: Path) -> None:
    """Fill a service, and serve it until the clients are done."""
    core = core_of(args, max_pending=2 * args.waiting + 1_000_000)
    fill = argparse.Namespace(**{**vars(args), "batch": FILL_ROWS})
    x_ND, member_NG = rows_of(fill, 99)
    while core.tickets.pending < args.waiting:
        core.predict(x_ND, member_NG)
    begin = time.perf_counter()
    service = GroupwiseService(core, folder, checkpoint_every=NEVER)
    first_s = time.perf_counter() - begin
    assert service.records is not None
    records, written = service.records, [0]
    save_one = records.store.save

    def counted(*rest: object) -> None:
        if args.contender == "whole":
            records.store._digests.clear()
        save_one(*rest)  # type: ignore[arg-type]
        written[0] += 1

    records.store.save = counted  # type: ignore[method-assign]
    gc.collect()
    gc.freeze()
    shell = GroupwiseShell(service)
    say(await shell.start(f"{LOOPBACK}:0", ServerSecurity()))
    running = asyncio.create_task(shell.run())
    result = await measured(args, service)
    result |= {"checkpoints": written[0], "first_s": first_s}
    shell.stop()
    await running
    result["memory_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    say({**result, **(restart(args, folder) if args.contender == "beside" else {})})


async def measured(args: argparse.Namespace, service: GroupwiseService) -> Row:
    """Turn checkpoints on and off until the client is done; returns the quantiles of both kinds of calls."""
    assert service.records is not None
    found, turns, lasted_s = Path(args.folder) / "0.npy", [], TURN_S
    while not found.exists():
        for on in (False, True):
            begin = time.monotonic()
            turns.append((begin, on))
            service.records._every = 1 if on else NEVER
            await asyncio.sleep(TURN_S if on else lasted_s)
            service.records._every = NEVER
            while service.records.writing:  # a checkpoint belongs to the turn in which it began
                await asyncio.sleep(0.01)
            lasted_s = time.monotonic() - begin if on else lasted_s
    start_N, took_N = np.load(found)
    begin_T = np.array([begin for begin, _ in turns])
    turn_N = np.searchsorted(begin_T, start_N) - 1
    settled_N = (turn_N >= 0) & (start_N - begin_T[turn_N] > 0.05)
    on_N = np.array([on for _, on in turns])[turn_N]
    result: Row = {}
    for name, chosen_N in (("on", settled_N & on_N), ("off", settled_N & ~on_N)):
        for quantile in (50, 99):
            result[f"{name}_p{quantile}_ms"] = (
                1e3 * float(np.percentile(took_N[chosen_N], quantile)) if chosen_N.any() else float("nan")
            )
    return result


def restart(args: argparse.Namespace, folder: Path) -> Row:
    """Start again from the folder; then give labels."""
    begin = time.perf_counter()
    core = core_of(args, max_pending=2 * args.waiting + 1_000_000)
    GroupwiseService(core, folder, checkpoint_every=NEVER)
    restart_s = time.perf_counter() - begin
    open_N, begin = np.arange(min(args.labels, args.waiting), dtype=np.uint64), time.perf_counter()
    for at in range(0, len(open_N), FILL_ROWS):
        part = open_N[at : at + FILL_ROWS]
        assert (core.feedback(part, np.full(len(part), 0.5)) == 1).all()
    return {"restart_s": restart_s, "label_us": 1e6 * (time.perf_counter() - begin) / len(open_N)}


def ask(args: argparse.Namespace) -> None:
    calls = ask_groupwise(args)
    took_s: list[tuple[float, float]] = []
    begin = time.monotonic()
    while (now := time.monotonic()) < begin + WARM_UP_S + args.seconds:
        next(calls)
        if now > begin + WARM_UP_S:
            took_s.append((now, time.monotonic() - now))
    calls.close()
    temporary = Path(args.folder) / f"{args.rank}.tmp"
    with temporary.open("wb") as file:
        np.save(file, np.array(took_s).T)
    temporary.rename(temporary.with_suffix(".npy"))


def measure(args: argparse.Namespace, contender: str) -> Row:
    with TemporaryDirectory(dir=args.disk) as folder:
        options = ["--contender", contender, "--folder", folder]
        for name in ("batch", "groups", "features", "awake", "seconds", "waiting", "labels"):
            options += [f"--{name}", str(getattr(args, name))]
        command = [sys.executable, __file__, *options]

        def client(rank: int, port: int) -> list[str]:
            return [*command, "--role", "client", "--rank", str(rank), "--port", str(port)]

        return cast_and_serve([*command, "--role", "server"], client, 1, 600.0 + 3 * args.seconds)


def report(rows: list[Row], args: argparse.Namespace) -> None:
    fields = ("off_p50_ms", "on_p50_ms", "off_p99_ms", "on_p99_ms", "checkpoints", "memory_gb")
    lines = [[name, *(spread(column(rows, key, field)) for field in fields)] for key, name in NAMES.items()]
    title = f"{args.waiting:,} waiting tickets, batches of {args.batch}, {args.groups} groups, d = {args.features}"
    header = ("a checkpoint writes", "p50 ms without", "during", "p99 ms without", "during", "checkpoints", "memory GB")
    show(title, header, lines, markdown=args.markdown)
    goals = []
    for key in NAMES:
        pairs = zip(column(rows, key, "on_p99_ms"), column(rows, key, "off_p99_ms"), strict=True)
        found = [on / off for on, off in pairs]
        goals.append([f"p99 during : without, {NAMES[key]}", spread(found), "<= 2", verdict(found, 2.0, at_least=False)])
    show("Goals", ("", "median (range)", "goal", ""), goals, markdown=args.markdown)
    again = [spread([float(row[field]) for row in rows if field in row]) for field in ("first_s", "restart_s", "label_us")]
    show("Restart", ("first checkpoint s", "restart s", "a label us"), [again], markdown=args.markdown)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--waiting", type=int, default=1_000_000, help="tickets that wait for their label")
    parser.add_argument("--labels", type=int, default=100_000, help="how many of them get it in the end")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--groups", type=int, default=12)
    parser.add_argument("--awake", type=int, default=4, help="groups of a row, in the mean")
    parser.add_argument("--features", type=int, default=25)
    parser.set_defaults(compiled=True)  # as `core_of` wants to know
    parser.add_argument("--seconds", type=float, default=20.0, help="of one contender in one repetition")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--disk", default=None, help="folder for the service's files; else a temporary one")
    add_output_options(parser)
    add_role_options(parser, "--folder")
    args = parser.parse_args()
    if args.role == "client":
        ask(args)
    elif args.role == "server":
        asyncio.run(serve(args, Path(args.folder) / "state"))
    else:
        rows: list[Row] = []
        for repetition, contender in interleaved(list(NAMES), args.repetitions):
            row = measure(args, contender)
            rows.append({"contender": contender, "repetition": repetition, **row})
            told = f"p99 {row['off_p99_ms']:.2f} ms without, {row['on_p99_ms']:.2f} during {row['checkpoints']} checkpoints"
            progress(f"{contender}: {told}")
        report(rows, args)
        save(args.json, rows)


if __name__ == "__main__":
    main()
