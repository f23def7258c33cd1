"""A server and workers with vectors above 2 GiB, through frames, checkpoints, kill -9 and resumption, to the same digest.

    python benchmarks/bench_billion.py                                   # a million coordinates: seconds
    python benchmarks/bench_billion.py --dimension 1000000000            # a machine of 24 GB, 40 GB of disk, see --folder
    python benchmarks/bench_billion.py --dimension 550000000 --code grid # a byte a coordinate on the wire

One server process, with local steps and an average outside (`diloco` with sparse messages: 10 bytes a coordinate), or AdamW
(18), and workers that hold no vector: they replay two recorded messages by turns, drawn from their rank. The server is
killed as soon as it has a checkpoint behind it and rounds after that, is started again, and resumes. A second run of the same,
undisturbed, has to end on the same digest. What is reported is what each life of the server took at most.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from harness import (
    LOOPBACK,
    ONE_THREAD,
    Row,
    add_output_options,
    add_role_options,
    free_port,
    memory,
    progress,
    save,
    say,
    show,
)

from saddlebag.algorithms import Message, Verdict, digest
from saddlebag.algorithms.optimizers.narrow_local import NarrowLocalRounds
from saddlebag.algorithms.optimizers.narrow_optimizer import NarrowOptimizer
from saddlebag.algorithms.optimizers.rules import Adam
from saddlebag.client.core import WorkerCore
from saddlebag.client.shell import WorkerShell
from saddlebag.compression import Concat, Draws, Grid, NearestInt8, Sparse, TopK, runs_of
from saddlebag.compression.combinators.compose import compose
from saddlebag.launch.drivers.process import tune_process
from saddlebag.proto.checkpoint import CheckpointStore, write_atomically
from saddlebag.proto.codec import encode
from saddlebag.proto.endpoint import ClientSecurity, ServerSecurity
from saddlebag.server.core import ServerCore
from saddlebag.server.effects import ServerSettings
from saddlebag.server.shell import ServerShell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from saddlebag.compression import Payload, Vector
    from saddlebag.server.effects import Effect

SEED, LEASE_S, WAIT_S = 0, 600.0, 3600.0
RUN = 1 << 22  # coordinates that are drawn, and of a grid encoded, at a time
STATES = {"average": 10, "adamw": 18}
"""Bytes a coordinate of the server's states."""


def method_of(args: argparse.Namespace) -> Any:
    """What the server carries."""
    few: Any = Grid(step=0.5) if args.code == "grid" else compose(sparsifier=TopK(fraction=args.fraction), values=NearestInt8())
    if args.method == "adamw":
        return NarrowOptimizer(rule=Adam(), step_size=1e-3, up=few, down=few)
    return NarrowLocalRounds(step_size=1.0, up=few, down=few)


def start(d: int) -> Vector:
    """Small numbers everywhere, so that every page is there, float32 (D,)."""
    z_D = np.empty(d, np.float32)
    for here in runs_of(d, RUN):
        z_D[here] = np.random.default_rng((SEED, here.start)).standard_normal(here.stop - here.start, np.float32)
        z_D[here] *= 0.02
    return z_D


# -- workers -------------------------------------------------------------------------------------------------------------


def recorded(args: argparse.Namespace, which: int) -> bytes:
    """A worker's message: a coordinate of each of k equal runs, or blocks of a grid, with values that are drawn."""
    d = args.dimension
    if args.code == "grid":
        blocks: list[Payload] = []
        for number, here in enumerate(runs_of(d, RUN)):
            rng = np.random.default_rng((args.rank, which, number))
            blocks.append(
                Grid(step=0.5).encode(1e-3 * rng.standard_normal(here.stop - here.start, np.float32), Draws(SEED, which, 0))
            )
        return b"".join(encode(Message((Concat(tuple(blocks)) if len(blocks) > 1 else blocks[0],))))
    k = max(1, round(args.fraction * d))
    rng = np.random.default_rng((args.rank, which))
    index_K = np.arange(k) * d // k
    index_K += rng.integers(0, max(1, d // k), k)
    value: Any = NearestInt8().encode(1e-3 * rng.standard_normal(k, np.float32), Draws(SEED, which, 0))
    return b"".join(encode(Message((Sparse(d, index_K, value),))))


@dataclasses.dataclass(frozen=True)
class Nowhere:
    """A point that takes no memory."""

    z_D: Vector
    iteration: int = 0


@dataclasses.dataclass(frozen=True)
class Deaf:
    """A method's worker that neither computes nor moves."""

    dimension: int

    def init_replica(self, z_D: Vector) -> Nowhere:
        return Nowhere(z_D)

    def init_worker(self, replica: Nowhere) -> Nowhere:
        return replica

    def downlink_sizes(self, replica: Nowhere, draws: Draws) -> tuple[int, ...]:
        return (self.dimension,)

    def replay(self, replica: Nowhere, down: Message, draws: Draws) -> Nowhere:
        if down.parts[0].dimension != self.dimension:
            raise SystemExit("a downlink has another dimension")
        return replica


class Replayer(WorkerCore):
    """A worker's half that says what was recorded."""

    messages: list[bytes]

    def step(self) -> tuple[list[Any], int | None]:
        self._next = self._own
        return [self.messages[self.round % len(self.messages)]], None

    def restore(self, arrays: Any, meta: Any) -> None:
        self.round, self.epoch, self._next = meta["round"], meta["epoch"], None


class Anywhere:
    """A store that holds every boundary up to the present one, for nothing is needed there."""

    def __init__(self, core: Replayer) -> None:
        self._core = core

    def rounds(self) -> list[int]:
        return [*range(self._core.round + 1)]

    def facts(self, round_: int) -> dict[str, Any]:
        return {"epoch": self._core.epoch, "round": round_}

    def load(self, round_: int) -> tuple[dict[str, Any], dict[str, Any]]:
        return {}, self.facts(round_)

    def forget_after(self, round_: int) -> None:
        """Nothing is kept."""

    def save(self, round_: int, arrays: Any, meta: Any) -> None:
        """Nothing is kept."""


def work(args: argparse.Namespace) -> None:
    tune_process()
    method: Any = Deaf(args.dimension)
    core = Replayer(
        method, lambda z_D, draws: z_D, np.broadcast_to(np.float32(0), (args.dimension,)), worker=args.rank, seed=SEED
    )
    core.messages = [recorded(args, which) for which in range(2)]
    store: Any = Anywhere(core)
    shell = WorkerShell(core, recipe="{}", store=store, give_up_s=WAIT_S, lease_s=LEASE_S, progress_s=LEASE_S)
    asyncio.run(shell.run(f"{LOOPBACK}:{args.port}", ClientSecurity()))


# -- the server ----------------------------------------------------------------------------------------------------------


class Watched(ServerCore):
    """Says how far it is."""

    told: Path

    def finish_round(self, now: float, announce: Callable[[], object] = lambda: None) -> list[Effect]:
        effects = super().finish_round(now, announce)
        write_atomically(self.told, json.dumps({"round": self.round, "cpu_s": time.process_time()}).encode())
        return effects


class Slow(CheckpointStore):
    """Says how long it takes."""

    seconds = 0.0

    def save(self, round_: int, arrays: Any, meta: Any) -> None:
        begin = time.perf_counter()
        super().save(round_, arrays, meta)
        self.seconds += time.perf_counter() - begin


def serve(args: argparse.Namespace) -> None:
    tune_process()
    begin, folder, last = time.perf_counter(), Path(args.folder), args.rounds

    def judge(rounds: int, before: Any, after: Any, spent: Any) -> Verdict:
        return Verdict(None, "max_rounds" if rounds == last else None)

    settings = {"lease_s": LEASE_S, "progress_s": LEASE_S, "checkpoint_every": args.every}
    store = Slow(folder / "checkpoints", "server")
    core = Watched(
        method_of(args),
        judge,
        np.zeros(args.dimension, np.float32) if store.rounds() else start(args.dimension),  # untouched memory is none
        ServerSettings(num_workers=args.workers, seed=SEED, **settings),
        time.monotonic(),
    )
    core.told = folder / "told.json"
    if store.rounds():
        core.forget()
        found = store.newest(print)
        assert found is not None, "there is one"
        core.restore(*found, time.monotonic())
        del found
    ready = {"round": core.round, "start_s": time.perf_counter() - begin, "start_peak": memory()["VmHWM"]}

    async def run() -> None:
        shell = ServerShell(core, store=store)
        say(await shell.start(f"{LOOPBACK}:{args.port}", ServerSecurity()))
        await shell.run()

    asyncio.run(run())
    up = core.ledger.up.payload / core.round / args.workers
    cost = {"cpu_s": time.process_time(), "saving_s": store.seconds, "peak": memory()["VmHWM"], "up_bytes": up}
    say({**ready, **cost, "rounds": core.round - ready["round"], "digest": f"{digest(core.replica):016x}"})


# -- both ----------------------------------------------------------------------------------------------------------------


def child(role: str, args: argparse.Namespace, port: int, folder: Path, rank: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "--role", role, "--rank", str(rank), "--port", str(port), "--folder", str(folder)]
    for name in ("dimension", "workers", "rounds", "every", "fraction", "code", "method"):
        command += [f"--{name}", str(getattr(args, name))]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **ONE_THREAD})


def told(folder: Path) -> int:
    """The boundary at which the server stands."""
    try:
        return int(json.loads((folder / "told.json").read_text())["round"])
    except FileNotFoundError:
        return 0


def until_killed(server: subprocess.Popen[str], args: argparse.Namespace, folder: Path) -> Row:
    """Kill -9 a server that stands between two checkpoints, the first of which is on disk; how large it was."""
    assert server.stdout is not None
    server.stdout.readline()
    peak, deadline = 0, time.monotonic() + WAIT_S
    while not args.every < told(folder) < args.rounds:
        peak = max(peak, memory(server.pid).get("VmHWM", 0))
        if server.poll() is not None or time.monotonic() > deadline:
            raise SystemExit("the server has ended, or not come so far")
        time.sleep(0.01)
    server.send_signal(signal.SIGKILL)
    server.wait()
    return {"life": "until kill -9", "rounds": told(folder), "peak": max(peak, memory(server.pid).get("VmHWM", 0))}


def ended(server: subprocess.Popen[str], life: str) -> Row:
    """What a server says that ends well."""
    said, _ = server.communicate(timeout=WAIT_S)
    if server.returncode:
        raise SystemExit(f"the server ended with {server.returncode}")
    return {"life": life, **json.loads(said.strip().splitlines()[-1])}


def play(args: argparse.Namespace, folder: Path, *, killed: bool) -> list[Row]:
    """One run; the lives of its server."""
    folder.mkdir()
    port, rows = free_port(), []
    children = [child("server", args, port, folder)]
    try:
        children += [child("worker", args, port, folder, rank) for rank in range(args.workers)]
        if killed:
            rows.append(until_killed(children[0], args, folder))
            children[0] = child("server", args, port, folder)
        peaks: dict[int, int] = {}
        while children[0].poll() is None:
            peaks |= {each.pid: found for each in children[1:] if (found := memory(each.pid).get("VmHWM"))}
            time.sleep(0.05)
        rows.append(ended(children[0], "resumed" if killed else "undisturbed"))
        rows[-1]["worker_peak"] = max(peaks.values(), default=0)
    finally:
        for each in children:
            each.kill()
            each.wait()
    return rows


def require_room(args: argparse.Namespace) -> None:
    """Refuse what would not fit, before anything is made."""
    need = args.dimension * (STATES[args.method] + (8 if args.code == "grid" else 1)) + (args.workers + 1) * 300_000_000
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if Path("/proc/meminfo").exists():
        fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        available = int(fields["MemAvailable"].split()[0]) << 10
    if need > available:
        raise SystemExit(f"this takes about {need / 1e9:.0f} GB of memory, {available / 1e9:.0f} are available")
    disk = 3 * args.dimension * STATES[args.method]  # two checkpoints, and the one that is written
    if disk > (free := shutil.disk_usage(args.folder or tempfile.gettempdir()).free):
        raise SystemExit(f"this takes about {disk / 1e9:.0f} GB of disk, {free / 1e9:.0f} are free")


def report(rows: Iterable[Row], args: argparse.Namespace) -> None:
    d = args.dimension
    lines = []
    for row in rows:
        known = [f"{row['start_s']:.0f}", f"{row['cpu_s']:.0f}", f"{row['saving_s']:.0f}"] if "start_s" in row else ["-"] * 3
        per = f"{row['peak'] / 1e9:.2f} ({row['peak'] / d:.1f})"
        lines.append([row["life"], str(row["rounds"]), per, *known, row.get("digest", "-")])
    header = ("life of the server", "rounds", "peak GB (bytes a coordinate)", "start s", "CPU s", "saving s", "digest")
    show(f"d = {d / 1e6:g}M, {args.workers} workers, {args.method}, {args.code}", header, lines, markdown=args.markdown)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dimension", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--every", type=int, default=2, help="rounds between checkpoints")
    parser.add_argument("--fraction", type=float, default=0.01)
    parser.add_argument("--code", choices=("top_k", "grid"), default="top_k")
    parser.add_argument("--method", choices=STATES, default="average")
    parser.add_argument("--folder", type=Path, help="for checkpoints; a temporary one otherwise")
    parser.add_argument("--once", action="store_true", help="leave the undisturbed run out")
    add_output_options(parser)
    add_role_options(parser)
    args = parser.parse_args()
    if args.role:
        serve(args) if args.role == "server" else work(args)
        return
    if not 0 < args.every + 1 < args.rounds:
        raise SystemExit("needs --every + 1 < --rounds, for a round between two checkpoints and one after the kill")
    require_room(args)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        for killed in (True,) if args.once else (True, False):
            rows += play(args, folder := Path(name, f"run-{killed}"), killed=killed)
            shutil.rmtree(folder)
            progress(json.dumps(rows[-1]))
    report(rows, args)
    digests = {row["digest"] for row in rows if "digest" in row}
    if len(digests) != 1:
        raise SystemExit(f"the runs end on unlike digests: {digests}")
    progress("the digests are equal" if not args.once else "resumed and ended")
    save(args.json, rows)


if __name__ == "__main__":
    main()
