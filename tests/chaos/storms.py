"""A server and its workers in one process, over gRPC on loopback, under churn, idle connections and floods of resets.

python tests/chaos/storms.py churn --minutes 5                  ten workers die and come back, some without their state
python tests/chaos/storms.py flood --connections 10000 --resets 20000   strangers hold connections, others break them off

Churn: memory stays flat, digests are equal at every synchronisation, at the end bytes are the sum of kinds, and replicas are
one. Flood: the run ends as the undisturbed one.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import resource
import socket
import statistics
import struct
import tempfile
import time
from pathlib import Path
from typing import Any

from saddlebag.algorithms import Judge, Stop, digest, make_method, simulate
from saddlebag.algorithms.problems import BilinearGame
from saddlebag.client.core import WorkerCore
from saddlebag.client.shell import WorkerShell
from saddlebag.compression import make_compressor
from saddlebag.proto.checkpoint import WORKER_KEEPS, CheckpointStore
from saddlebag.proto.codec import LoopbackWire
from saddlebag.proto.endpoint import ClientSecurity, ServerSecurity
from saddlebag.server.core import ServerCore
from saddlebag.server.effects import ServerSettings
from saddlebag.server.shell import ServerShell

SEED, EVERY = 7, 20
CALM_S = 5.0  # nobody dies at the end: a worker that comes to a run that is over finds no server
MEMORY_MIB = 24.0
"""What a process may grow by once it has warmed up, allocator and connections included; a round's vectors are kilobytes."""


def game(workers: int) -> tuple[BilinearGame, Any]:
    """A small problem, and MASHA1 with compression both ways."""
    problem = BilinearGame(n=50, num_workers=workers, regularisation=0.2)
    ways = {"up": make_compressor("rand_k", fraction=0.25), "down": make_compressor("natural")}
    return problem, make_method("masha1", problem, step_size=0.05, probability=0.05, **ways)


def resident_mib() -> float:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / (1 << 20)


class Fleet:
    """One server, and workers that can be ended and begun again."""

    def __init__(self, workers: int, judge: Judge, problem: Any, method: Any, folder: Path, **settings: Any) -> None:
        self.problem, self.method, self._folder = problem, method, folder
        self.settings = ServerSettings(num_workers=workers, seed=SEED, checkpoint_every=EVERY, **settings)
        self.core = ServerCore(method, judge, problem.start(), self.settings, time.monotonic())
        self.ends: list[float] = []  # when rounds with an evaluation ended
        seen: dict[str, Any] = {"observe": lambda record: self.ends.append(time.monotonic())}
        self.server = ServerShell(self.core, store=CheckpointStore(folder, "server"), **seen)
        self.shells: dict[int, WorkerShell] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self.place = ""

    async def open(self) -> None:
        self.place = f"127.0.0.1:{await self.server.start('127.0.0.1:0', ServerSecurity())}"

    def begin(self, rank: int, *, with_state: bool) -> None:
        """Start a worker, from its newest checkpoint or from nothing."""
        core = WorkerCore(self.method, self.problem.operator(rank), self.problem.start(), worker=rank, seed=SEED)
        store = CheckpointStore(self._folder, f"worker-{rank}", keep=WORKER_KEEPS)
        if not with_state:
            store.forget_after(-1)
        elif (saved := store.newest(lambda text: None)) is not None:
            core.restore(*saved)
        self.shells[rank] = WorkerShell(core, recipe="{}", store=store, lease_s=self.settings.lease_s)
        self._tasks[rank] = asyncio.create_task(self.shells[rank].run(self.place, ClientSecurity()))

    async def end(self, rank: int) -> bool:
        """End a worker in the midst of whatever it does; False where it had ended."""
        task = self._tasks[rank]
        if task.done():
            return False
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return True

    async def ended(self) -> None:
        """Wait for the run's end."""
        await self.server.run()
        await asyncio.gather(*self._tasks.values())

    def adds_up(self) -> None:
        for way in (self.core.ledger.up, self.core.ledger.down):
            kinds = way.payload + way.framing + way.control + way.repeated
            assert way.transport == kinds, f"{way.transport} bytes were counted, {kinds} by kind"


async def _churn(seconds: float, seed: int, workers: int, folder: Path) -> str:
    rng = random.Random(seed)
    problem, method = game(workers)
    judge = Judge(problem, Stop(max_seconds=seconds + CALM_S, every=EVERY))
    fleet = Fleet(workers, judge, problem, method, folder, on_lost="drop", lease_s=2.0)
    await fleet.open()
    for rank in range(workers):
        fleet.begin(rank, with_state=True)
    serving = asyncio.create_task(fleet.ended())
    begin, deaths, memory = time.monotonic(), 0, []
    while time.monotonic() - begin < seconds and not serving.done():
        await asyncio.sleep(rng.expovariate(2.0))
        rank = rng.randrange(workers)
        if await fleet.end(rank):
            deaths += 1
            await asyncio.sleep(rng.choice([0.0, 0.0, 0.3, 2.5]))
            fleet.begin(rank, with_state=rng.random() < 0.8)
        memory.append(resident_mib())
    await serving
    ledger = fleet.core.ledger
    fleet.adds_up()
    assert ledger.digest_mismatches == 0, f"{ledger.digest_mismatches} replicas differed at a synchronisation"
    assert {digest(shell._core.replica) for shell in fleet.shells.values()} == {digest(fleet.core.replica)}
    fifth = max(1, len(memory) // 5)
    early, late = statistics.median(memory[fifth : 2 * fifth] or memory), statistics.median(memory[-fifth:])
    assert late - early < MEMORY_MIB, f"memory grew from {early:.0f} to {late:.0f} MiB"
    return (
        f"churn: {deaths} deaths, {fleet.core.round:,} rounds and {ledger.epochs} epochs in {time.monotonic() - begin:.0f} s; "
        f"{ledger.rejoins} rejoins, no digest differed, bytes add up; memory {early:.0f} to {late:.0f} MiB"
    )


def churn(seconds: float, seed: int = 0, workers: int = 10) -> str:
    """Workers die and come back for so long; what was seen, in a line.

    Raises:
        AssertionError: a promise is broken.
    """
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_churn(seconds, seed, workers, Path(folder)))


def _rapid_resets(place: tuple[str, int], calls: int) -> int:
    """One connection on which calls are begun and reset at once, as HTTP/2's frames; how many were written."""

    def frame(kind: int, flags: int, stream: int, data: bytes = b"") -> bytes:
        return len(data).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + data

    def text(first: int, value: bytes) -> bytes:
        return bytes((first, len(value))) + value

    path = b"/saddlebag.proto.v1.ParameterServer/Join"
    head = b"\x83\x86" + text(0x44, path) + text(0x41, b"localhost") + text(0x5F, b"application/grpc")
    written = 0
    with contextlib.suppress(OSError), socket.create_connection(place, timeout=10) as line:
        line.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0))
        for number in range(calls):
            stream = 2 * number + 1
            line.sendall(frame(1, 4, stream, head) + frame(3, 0, stream, (8).to_bytes(4, "big")))
            written += 1
    return written


def _storm(place: tuple[str, int], connections: int, resets: int, idle: list[socket.socket]) -> dict[str, int]:
    """Idle connections that stay in `idle`, connections that are reset, and calls that are reset."""
    refused = broken = 0
    for number in range(connections):
        try:
            line = socket.create_connection(place, timeout=10)
        except OSError:
            refused += 1
            continue
        if number % 3 == 0:  # a third says how HTTP/2 begins, and then nothing more
            with contextlib.suppress(OSError):
                line.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        idle.append(line)
    for number in range(resets):
        with contextlib.suppress(OSError), socket.create_connection(place, timeout=10) as line:
            if number % 2:
                line.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            broken += 1
    calls = sum(_rapid_resets(place, 1000) for _ in range(max(1, resets // 1000)))
    return {"idle": len(idle), "refused": refused, "reset connections": broken, "reset calls": calls}


async def _flood(connections: int, resets: int, rounds: int, folder: Path) -> str:
    problem, method = game(4)
    stop = Stop(max_rounds=rounds, every=EVERY)
    expected = simulate(problem, method, seed=SEED, stop=stop, wire=LoopbackWire())
    fleet = Fleet(4, Judge(problem, stop), problem, method, folder)
    await fleet.open()
    for rank in range(4):
        fleet.begin(rank, with_state=True)
    serving = asyncio.create_task(fleet.ended())
    while not fleet.ends:
        await asyncio.sleep(0.05)
    before, idle = resident_mib(), list[socket.socket]()
    host, _, port = fleet.place.rpartition(":")
    try:
        begun, at = time.monotonic(), fleet.core.round
        found = await asyncio.to_thread(_storm, (host, int(port)), connections, resets, idle)
        seconds, passed = time.monotonic() - begun, fleet.core.round - at
        grown, over = resident_mib() - before, serving.done()
        await serving
    finally:
        for line in idle:
            line.close()
    assert digest(fleet.core.replica) == digest(expected.replica), "another trajectory"
    assert fleet.core.ledger.epochs == 1
    fleet.adds_up()
    gap = max(b - a for a, b in zip(fleet.ends, fleet.ends[1:], strict=False))
    return (
        f"flood: {found} in {seconds:.0f} s, {passed:,} rounds meanwhile{' (the run had ended)' if over else ''}, "
        f"{EVERY} rounds took {gap:.1f} s at most; same digest, one epoch; memory grew by {grown:.0f} MiB"
    )


def flood(connections: int, resets: int, rounds: int) -> str:
    """Strangers at the port of a run; what was seen, in a line.

    Raises:
        AssertionError: the run did not end as the undisturbed one.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * connections + 500  # both ends are in this process
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, needed)), hard))
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_flood(min(connections, (min(hard, needed) - 500) // 2), resets, rounds, Path(folder)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    churning = kinds.add_parser("churn")
    churning.add_argument("--minutes", type=float, default=5.0)
    churning.add_argument("--seed", type=int, default=0)
    flooding = kinds.add_parser("flood")
    flooding.add_argument("--connections", type=int, default=10_000)
    flooding.add_argument("--resets", type=int, default=20_000)
    flooding.add_argument("--rounds", type=int, default=20_000)
    asked = parser.parse_args()
    print(
        churn(60 * asked.minutes, asked.seed) if asked.kind == "churn" else flood(asked.connections, asked.resets, asked.rounds)
    )


if __name__ == "__main__":
    main()
