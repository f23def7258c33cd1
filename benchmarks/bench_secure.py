"""Secure aggregation beside the clear run: bytes and time of a round, on the common grid at 4 and 8 bits.

    python benchmarks/bench_secure.py [--clients 100] [--active 10] [--dimension 100000] [--repetitions 5] [--json FILE]

The first table is of messages, all members and the server in one process: the levels of `active` of `clients` members are
coded and summed in the clear, or masked, summed and unmasked by `saddlebag.proto.secure`. Bytes are of one member, up and down,
the recompressed downlink included; CPU is of the whole round. "dropped" loses a fifth of the members before their vectors.
Those who do not take part cost nothing either way. The clear levels are coded by their frequencies, masked ones cannot be:
"packed" is beside levels of as many bits each. The second table is of runs of `active` workers over gRPC on loopback, all in
one process, so that times add up which would pass beside each other elsewhere; bytes are all that crossed.

Asked: at most 1.3 times the bytes and 2 times the time of the clear round.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import os
import time
from typing import Any

import numpy as np
from bench_dense import FixedVectors
from harness import add_output_options, interleaved, progress, save, show, spread

from saddlebag.algorithms import Judge, Message, Stop, digest, make_method
from saddlebag.algorithms.agreed.common_grid import CommonGrid
from saddlebag.client.core import WorkerCore
from saddlebag.client.securing import Securing
from saddlebag.client.shell import WorkerShell
from saddlebag.compression import Compressor, Draws, NearestInt4, NearestInt8, Sum
from saddlebag.proto.codec import decode, encode
from saddlebag.proto.endpoint import ClientSecurity, ServerSecurity
from saddlebag.proto.secure.aggregation import Aggregation
from saddlebag.proto.secure.member import Member
from saddlebag.proto.secure.messages import Step, round_context
from saddlebag.proto.secure.primitives import KeyPair
from saddlebag.proto.secure.ring import Ring
from saddlebag.server.core import ServerCore
from saddlebag.server.effects import ServerSettings
from saddlebag.server.secure.core import SecureCore
from saddlebag.server.shell import ServerShell

BITS: dict[int, Compressor] = {4: NearestInt4(), 8: NearestInt8()}
WAYS = ("clear", "secure", "dropped")


@functools.cache
def _sealing(rank: int) -> KeyPair:
    """Of a worker's process, in all of its rounds."""
    return KeyPair.new(os.urandom)


class Round:
    """One round of the members' vectors: bell-shaped, within a third of the grid's range but for a few entries."""

    def __init__(self, bits: int, active: int, dimension: int, seed: int) -> None:
        self.up, self.draws = BITS[bits], Draws(seed, 0)
        self.grid, rng = CommonGrid.reaching(3.0, self.up), np.random.default_rng(seed)
        self.payloads = [self.grid.encode(rng.normal(size=dimension), self.draws) for _ in range(active)]
        self.size, self.active, self.seed = dimension, active, seed

    def downlink(self, mean_D: Any) -> int:
        """Bytes of the recompressed mean."""
        return sum(map(len, encode(Message((self.up.encode(mean_D, self.draws),)))))

    def clear(self) -> dict[str, Any]:
        total, up = Sum(self.size), 0
        for payload in self.payloads:
            data = b"".join(encode(Message((payload,))))
            up += len(data)
            total.add(decode(data, (self.size,), self.draws).parts[0])
        mean_D = total.mean(self.active).dense()
        return {"up": up / self.active, "down": self.downlink(mean_D), "mean": mean_D}

    def secure(self, lost: int = 0) -> dict[str, Any]:
        ranks = range(self.active)
        ring = Ring(self.size, self.grid.largest_level, self.active, round_context("{}", 0, self.seed))
        threshold = self.active // 2 + 1
        members = {rank: Member(rank, threshold=threshold, ring=ring, sealing=_sealing(rank)) for rank in ranks}
        server, told = Aggregation(ranks, threshold=threshold, ring=ring), dict.fromkeys(ranks, b"")
        up = down = 0
        for step in Step:
            for rank in server.expected if step is not Step.MASKED else server.expected[lost:]:
                member = members[rank]
                match step:
                    case Step.KEYS:
                        said = member.keys()
                    case Step.SHARES:
                        said = member.shares(told[rank])
                    case Step.MASKED:
                        said = member.masked(told[rank], self.payloads[rank].level_D)
                    case _:
                        said = member.unmask(told[rank])
                up += len(said)
                server.take(step, rank, said)
            told = server.close()
            down += sum(map(len, told.values()))
        arrived = len(server.arrived)
        mean_D = server.levels().astype(np.float64) * self.grid.scale / arrived
        return {"up": up / self.active, "down": down / self.active + self.downlink(mean_D), "mean": mean_D}

    def run(self, way: str) -> dict[str, Any]:
        begin = time.process_time()
        done = self.clear() if way == "clear" else self.secure(self.active // 5 if way == "dropped" else 0)
        return {**done, "cpu_ms": 1e3 * (time.process_time() - begin)}


class Run:
    """A run of `compressed_sgd` on vectors that do not change, over gRPC on loopback in this process."""

    def __init__(self, bits: int, workers: int, dimension: int, rounds: int, *, secure: bool) -> None:
        problem, up = FixedVectors(dimension, workers), BITS[bits]
        keys: dict[str, Any] = {"common_range": 3.0, "momentum": 0.0}
        self.method = make_method("compressed_sgd", problem, step_size=1e-3, up=up, down=up, **keys)
        threshold = workers // 2 + 1 if secure else 0
        settings = ServerSettings(num_workers=workers, seed=1, secure=threshold, lease_s=60.0)
        judge = Judge(problem, Stop(max_rounds=rounds, every=rounds))
        kind = SecureCore if secure else ServerCore
        self.core = kind(self.method, judge, problem.start(), settings, time.monotonic())
        self.shell = ServerShell(self.core)
        masks = Securing(threshold=threshold, num_workers=workers, recipe="{}") if secure else None
        cores = [WorkerCore(self.method, problem.operator(r), problem.start, worker=r, seed=1) for r in range(workers)]
        self.workers = [WorkerShell(core, recipe="{}", securing=masks) for core in cores]

    async def serve(self) -> None:
        port = await self.shell.start("127.0.0.1:0", ServerSecurity())
        serving = asyncio.create_task(self.shell.run())
        await asyncio.gather(*(worker.run(f"127.0.0.1:{port}", ClientSecurity()) for worker in self.workers))
        await serving

    def measure(self) -> dict[str, Any]:
        """Seconds and bytes of a round, of one worker; joining and leaving count."""
        begin, began = time.perf_counter(), time.process_time()
        asyncio.run(self.serve())
        shared = self.core.round * len(self.workers)
        ledger = self.core.ledger
        return {
            "round_ms": 1e3 * (time.perf_counter() - begin) / self.core.round,
            "cpu_ms": 1e3 * (time.process_time() - began) / self.core.round,
            "up": ledger.up.transport / shared,
            "down": ledger.down.transport / shared,
            "digest": digest(self.core.replica),
        }


def of_messages(options: argparse.Namespace) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    cases = [(bits, way) for bits in BITS for way in WAYS]
    for repetition, (bits, way) in interleaved(cases, options.repetitions):
        progress(f"messages: {bits} bits, {way}, {repetition}")
        round_ = Round(bits, options.active, options.dimension, repetition)
        found = round_.run(way)
        if way == "secure":
            assert np.array_equal(found["mean"], round_.clear()["mean"]), "the bits of the clear round"
        del found["mean"]
        rows.append({"bits": bits, "contender": way, "clients": options.clients, "active": options.active, **found})
    return rows


def of_runs(options: argparse.Namespace) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    cases = [(bits, secure) for bits in BITS for secure in (False, True)]
    for repetition, (bits, secure) in interleaved(cases, options.repetitions):
        progress(f"runs: {bits} bits, {'secure' if secure else 'clear'}, {repetition}")
        found = Run(bits, options.active, options.dimension, options.rounds, secure=secure).measure()
        rows.append({"bits": bits, "contender": "run, secure" if secure else "run, clear", **found})
    assert all(len({row["digest"] for row in rows if row["bits"] == bits}) == 1 for bits in BITS), "the bits of the clear run"
    return rows


def lines_of(rows: list[dict[str, Any]], clock: str, options: argparse.Namespace) -> list[list[str]]:
    """A line for each contender, beside the first one of its bits."""
    lines = []
    for bits in BITS:
        ways = sorted({row["contender"] for row in rows}, key=lambda way: ("clear" not in way, "dropped" in way))
        mine = {way: [row for row in rows if (row["bits"], row["contender"]) == (bits, way)] for way in ways}
        clear = mine[ways[0]]
        for way in ways:
            both, base = (rows_[0]["up"] + rows_[0]["down"] for rows_ in (mine[way], clear))
            times = [one[clock] / two[clock] for one, two in zip(mine[way], clear, strict=True)]
            lines.append(
                [
                    f"{bits} bits, {way}",
                    *(f"{mine[way][0][key] / 1e3:,.1f}" for key in ("up", "down")),
                    f"{both / base:.2f}",
                    f"{both / (options.dimension * bits / 4):.2f}",
                    spread([row[clock] for row in mine[way]]),
                    spread(times),
                ]
            )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clients", type=int, default=100, help="of the federation")
    parser.add_argument("--active", type=int, default=10)
    parser.add_argument("--dimension", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=20, help="of a run over gRPC")
    parser.add_argument("--repetitions", type=int, default=3)
    add_output_options(parser)
    options = parser.parse_args()
    messages, runs = of_messages(options), of_runs(options)
    title = f"{options.active} of {options.clients} clients, d = {options.dimension:,}; asked: 1.3 times the bytes, 2 the time"
    header = ["round", "kB up", "kB down", "bytes / clear", "bytes / packed"]
    for rows, clock, name in ((messages, "cpu_ms", "CPU"), (runs, "cpu_ms", "CPU"), (runs, "round_ms", "round")):
        lines = lines_of(rows, clock, options)
        show(title, [*header, f"{name} ms", f"{name} / clear"], lines, markdown=options.markdown)
    save(options.json, [*messages, *runs])


if __name__ == "__main__":
    main()
