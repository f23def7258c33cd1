"""Rounds of a server that is the bottleneck: one against several shards, each a process that replays recorded messages.

The uplinks of all workers, Top-k and 8-bit values of vectors that are drawn, are recorded as frames before the clock starts:
those of the whole for one server, those of its slice for a shard. What is timed is all that a server's core does with them,
from checksums to its own replay of AdamW, without gRPC; of several shards the slowest counts. Shards run beside each other,
as on one machine, whose memory they share, and one after the other, as each on a machine of its own. A core that is not idle
spoils times of rounds, and CPU time less.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from bench_dense import FixedVectors
from harness import (
    ONE_THREAD,
    Meter,
    Row,
    add_role_options,
    column,
    environment,
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

from saddlebag.algorithms import Message, Verdict, compressed_adamw
from saddlebag.algorithms.slicing import SliceOfProblem, cut, sliced
from saddlebag.compression import Draws, NearestInt8, TopK
from saddlebag.compression.combinators.compose import compose
from saddlebag.proto.codec import encode
from saddlebag.proto.frames import frames_of
from saddlebag.proto.handshake import JoinAsk
from saddlebag.server.core import ServerCore
from saddlebag.server.effects import RoundReady, ServerSettings

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

WARM_UP, SEED = 2, 0
LARGE, GOAL = 1_000_000, 1.7


def recorded(method: Any, d: int, workers: int, rounds: int) -> Iterator[list[list[bytes]]]:
    """For each round the frames of every worker; three vectors a worker, over and over."""
    messages = []
    for rank in range(workers):
        rng = np.random.default_rng(rank)
        payloads = [method.up.encode(rng.standard_normal(d, np.float32), Draws(SEED, 0, rank)) for _ in range(3)]
        messages.append([b"".join(encode(Message((payload,)))) for payload in payloads])
    for round_ in range(rounds):
        here: dict[str, Any] = {"epoch": 0, "round_": round_}
        yield [list(frames_of([each[round_ % 3]], sender=rank + 1, **here)) for rank, each in enumerate(messages)]


def onwards(rounds: int, before: Any, after: Any, spent: Any) -> Verdict:
    """The run goes on."""
    del rounds, before, after, spent
    return Verdict(None, None)


def play(args: argparse.Namespace) -> None:
    """One shard: records, says that it is ready, and replays when it is told to."""
    problem: Any = FixedVectors(args.dimension, args.workers)
    few: Any = compose(sparsifier=TopK(fraction=args.fraction), values=NearestInt8())
    whole = compressed_adamw(problem, up=few, down=few, step_size=1e-3)
    here = cut(problem, args.shards)[args.rank]
    method, part = sliced(whole, here, problem.dimension), SliceOfProblem(problem, here)
    meter = Meter(args.rounds, WARM_UP)
    rounds = list(recorded(method, part.dimension, args.workers, meter.total))
    settings = ServerSettings(num_workers=args.workers, seed=SEED, shards=args.shards)
    core = ServerCore(method, onwards, part.start(), settings, 0.0)
    for rank in range(args.workers):
        core.join(JoinAsk(worker=rank, recipe="{}", dimension=part.dimension), f"{rank}", 0.0)
    say(0)
    sys.stdin.readline()
    for uplinks in rounds:
        for rank, frames in enumerate(uplinks):
            effects = list(itertools.chain.from_iterable(core.frame(rank, frame, 0.0) for frame in frames))
        if not any(isinstance(effect, RoundReady) for effect in effects):
            raise SystemExit("a round is not complete")
        core.finish_round(0.0)
        uplinks.clear()
        meter.tick()
    if not np.isfinite(core.replica.z_D).all() or not core.replica.z_D.any():
        raise SystemExit("the server has not moved")
    say({**meter.result(), "up_bytes": core.ledger.up.payload / meter.total})


def measure(shards: int, apart: bool, args: argparse.Namespace) -> Row:
    """All shards of one contender; times are those of the slowest."""
    base = [sys.executable, __file__, "--role", "server", "--shards", str(shards), "--workers", str(args.workers)]
    base += ["--dimension", str(args.dimension), "--fraction", str(args.fraction), "--rounds", str(args.rounds)]
    commands = [[*base, "--rank", str(rank)] for rank in range(shards)]
    groups = [[command] for command in commands] if apart else [commands]
    found = [row for group in groups for row in together(group, args.timeout_s)]
    row = {key: max(each[key] for each in found) for key in ("round_ms", "server_cpu_ms", "server_peak_bytes")}
    return {**row, "all_cpu_ms": sum(each["server_cpu_ms"] for each in found)}


def together(commands: list[list[str]], timeout_s: float) -> list[Row]:
    """What shards measure that begin together."""
    ways: dict[str, Any] = {
        "stdin": subprocess.PIPE,
        "stdout": subprocess.PIPE,
        "text": True,
        "env": {**os.environ, **ONE_THREAD},
    }
    children: list[Any] = [subprocess.Popen(command, **ways) for command in commands]
    try:
        for child in children:
            if not child.stdout.readline():
                raise SystemExit("a shard ended at once, see above")
        for child in children:
            child.stdin.write("go\n")
            child.stdin.flush()
        said = [child.communicate(timeout=timeout_s)[0] for child in children]
    finally:
        for child in children:
            child.kill()
            child.wait()
    if not all(said):
        raise SystemExit("a shard has failed, see above")
    return [json.loads(each) for each in said]


def contenders(args: argparse.Namespace) -> dict[str, tuple[int, bool]]:
    """Name -> shards, and whether each is on a machine of its own."""
    many = args.against
    return {"S = 1": (1, True), f"S = {many}, one machine": (many, False), f"S = {many}, a machine each": (many, True)}


def report(rows: list[Row], args: argparse.Namespace) -> None:
    lines = []
    for name in contenders(args):
        mine = [column(rows, name, key) for key in ("round_ms", "server_cpu_ms", "all_cpu_ms")]
        peak = [value / 1e6 for value in column(rows, name, "server_peak_bytes")]
        lines.append([name, *(spread(each, 1) for each in mine), spread(peak, 0)])
    header = ("servers", "round ms", "CPU ms of the slowest", "CPU ms of all", "peak MB of the largest")
    title = f"d = {args.dimension / 1e6:g}M, M = {args.workers}, Top-{100 * args.fraction:g} % of 8 bits: median (range)"
    show(title, header, lines, markdown=args.markdown)
    goals, (one, *others) = [], contenders(args)
    for name, (what, key) in itertools.product(others, (("round", "round_ms"), ("CPU time of the slowest", "server_cpu_ms"))):
        found = ratios(rows, key, one, name)
        aimed = (f">= {GOAL}", verdict(found, GOAL, at_least=True)) if args.dimension >= LARGE else ("-", "no goal")
        goals.append([f"{what}, {one} : {name}", spread(found), *aimed])
    show("Goals", ("quantity", "median (range)", "goal", ""), goals, markdown=args.markdown)


def main() -> None:
    sizes = {"dimension": 10_000_000, "workers": 16, "fraction": 0.01, "rounds": 10, "repetitions": 5, "timeout_s": 300.0}
    parser = numbers_parser(__doc__, **sizes)
    parser.add_argument("--against", type=int, default=2, help="shards, beside one server")
    add_role_options(parser, numbers=("--shards",))
    args = parser.parse_args()
    if args.role:
        play(args)
        return
    rows: list[Row] = []
    for repetition, name in interleaved([*contenders(args)], args.repetitions):
        row = measure(*contenders(args)[name], args)
        rows.append({"contender": name, "repetition": repetition, "dimension": args.dimension, **row})
        progress(f"{name}: {row['round_ms']:.1f} ms, {row['server_cpu_ms']:.1f} ms of CPU; {environment()['load']}")
    report(rows, args)
    save(args.json, rows)


if __name__ == "__main__":
    main()
