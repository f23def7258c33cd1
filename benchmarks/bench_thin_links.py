"""Programs on thin links: DDP and its hooks, torchft, hivemind and the methods of `saddlebag.join`, loss against the clock.

Each machine is a network namespace behind links of `--rates` Mbit/s (`tc tbf` both ways); a server, torchft's lighthouse and
hivemind's first peer live on the first program's. All train the character model of `examples/link_gpt/`, smaller, from one
start on the same batches with one schedule (`contender_loop.py`); bytes are those of the interfaces.

    python benchmarks/bench_thin_links.py --text input.txt.xz  # 10 and 100 Mbit/s, 2 and 4 programs
    python benchmarks/bench_thin_links.py --smoke              # on loopback, tiny, without root: does it run at all

Needs root and iproute2. Rivals are run where they can be imported: `pip install torchft==0.2.0 hivemind==1.1.12`.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import contender_loop as loop
from harness import ONE_THREAD, Row, add_output_options, free_port, interleaved, progress, save, show
from namespaces import namespaces, unavailable
from thin_wire_tables import at, seconds_to

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Start = Callable[..., subprocess.Popen[Any]]

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PORT = 7810
GRID = {"name": "grid", "step": 0.5, "block": 128}


def torchft(period: int, outer: Sequence[float] | None, **more: Any) -> Row:
    return {"kind": "torchft", "period": period, "outer": outer, **more}


def hivemind(period: int, values: str, *, delay: bool, matchmaking_s: float = 1.0) -> Row:
    return {"kind": "hivemind", "period": period, "values": values, "delay": delay, "matchmaking_s": matchmaking_s}


def link(period: int, name: str, muon: float | None = None, **table: Any) -> Row:
    return {"kind": "link", "period": period, "method": {"name": name, **table}, "muon": muon}


def both(table: Row) -> Row:
    return {"up": table, "down": table}


CONTENDERS: dict[str, Row] = {
    "DDP, float32": {"kind": "ddp", "hook": "none"},
    "DDP, float16 hook": {"kind": "ddp", "hook": "fp16"},
    "DDP, PowerSGD hook, rank 1": {"kind": "ddp", "hook": "power_sgd", "rank": 1},
    "DDP, PowerSGD hook, rank 4": {"kind": "ddp", "hook": "power_sgd", "rank": 4},
    "torchft LocalSGD, H = 32": torchft(32, None),
    "torchft DiLoCo, H = 8": torchft(8, (0.7, 0.6)),
    "torchft DiLoCo, H = 32": torchft(32, (0.7, 0.6)),
    "torchft DiLoCo, Muon, H = 8": torchft(8, (0.7, 0.6), muon=0.02),
    "torchft DiLoCo, Muon, H = 32": torchft(32, (0.7, 0.6), muon=0.02),
    "hivemind, local updates, H = 32": hivemind(32, "32 bits", delay=False),
    "hivemind, local updates, delayed, H = 32": hivemind(32, "32 bits", delay=True),
    "local_average, grid, H = 32": link(32, "local_average", **both(GRID)),
    "diloco, grid, H = 8": link(8, "diloco", **both(GRID), step_size=0.7, momentum=0.6),
    "diloco, grid, H = 32": link(32, "diloco", **both(GRID), step_size=0.7, momentum=0.6),
    "sparse_loco, H = 8": link(8, "sparse_loco"),
    "muloco, grid, H = 8": link(8, "muloco", 0.02, **both(GRID), step_size=0.7, momentum=0.6),
    "muloco, grid, H = 32": link(32, "muloco", 0.02, **both(GRID), step_size=1.0, momentum=0.0),
}
"""With the numbers that `tune_thin_links.py` found; the steps of AdamW and Muon inside are one for all."""
MODULES = {"torchft": "torchft", "hivemind": "hivemind"}


def missing(way: Row) -> str | None:
    """Why a contender cannot be run here."""
    name = MODULES.get(way["kind"])
    return f"{name} is not installed" if name and importlib.util.find_spec(name) is None else None


@contextlib.contextmanager
def machines(count: int, rate_mbit: float, *, loopback: bool) -> Iterator[tuple[list[str], list[Start], int]]:
    """Addresses, how a process is started on each, and a port that is free on the first."""
    if loopback:
        yield ["127.0.0.1"] * count, [subprocess.Popen] * count, free_port()
        return
    with namespaces(count, rate_mbit=rate_mbit or None) as nodes:
        yield [node.address for node in nodes], [node.popen for node in nodes], PORT


def run(way: Row, given: argparse.Namespace, rate_mbit: float, workers: int, seed: int) -> Row:
    """One contender: its programs' histories."""
    with (
        tempfile.TemporaryDirectory() as name,
        machines(workers, rate_mbit, loopback=given.loopback) as (addresses, starts, port),
        contextlib.ExitStack() as stack,
    ):
        folder, text = Path(name), str(given.text.resolve())
        interface = "lo" if given.loopback else "eth0"
        job = {
            "way": way,
            "counted": not given.loopback,
            "addresses": addresses,
            "port": port,
            "text": text,
            "model": given.model,
            "seed": seed,
        }
        (folder / "job.json").write_text(json.dumps({**job, "steps": given.steps, "every": given.every, "rate": given.rate}))
        environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": interface}
        children: list[subprocess.Popen[Any]] = []
        stack.callback(ended, children)

        def begin(start: Start, command: Sequence[Any], log: str) -> None:
            with (folder / log).open("wb") as file:
                words = [sys.executable, *map(str, command)]
                children.append(start(words, stdout=file, stderr=file, env=environment, cwd=ROOT))

        if way["kind"] == "link":
            serve = ["-m", "saddlebag", "host", "--workers", workers, "--out", folder / "server"]
            serve += ["--address", f"{addresses[0]}:{port}", *([] if given.loopback else ["--insecure"])]
            begin(starts[0], serve, "server.log")
        for rank, start in enumerate(starts):
            begin(start, [HERE / "contender_loop.py", "--job", folder / "job.json", "--rank", rank], f"program-{rank}.log")
        awaited(children, folder, given.timeout)
        return summary([json.loads((folder / f"result-{rank}.json").read_text()) for rank in range(workers)], given)


def awaited(children: Sequence[subprocess.Popen[Any]], folder: Path, timeout_s: float) -> None:
    """Wait for all; the first that fails ends this contender."""
    deadline = time.monotonic() + timeout_s
    while None in (codes := [child.poll() for child in children]):
        if any(codes) or time.monotonic() > deadline:
            words = [f"codes {codes}", *(f"--- {log.name}\n{log.read_text()[-2000:]}" for log in sorted(folder.glob("*.log")))]
            raise RuntimeError("did not end well:\n" + "\n".join(words))
        time.sleep(0.05)
    if any(codes):
        raise RuntimeError(f"ended with {codes}")


def ended(children: Sequence[subprocess.Popen[Any]]) -> None:
    for child in children:
        if child.poll() is None:
            child.kill()
        child.wait()


def summary(said: Sequence[Row], given: argparse.Namespace) -> Row:
    """Of what the programs said; the loss is the mean over their models."""
    history = []
    for points in zip(*(each["history"] for each in said), strict=True):
        loss, seconds = (statistics.mean(point[key] for point in points) for key in ("loss", "seconds"))
        history.append({"iteration": points[0]["step"], "loss": loss, "seconds": seconds})
    bytes_ = [sum(each["total"].values()) for each in said]
    return {
        "history": history,
        "step_s": history[-1]["seconds"] / given.steps,
        "bytes": statistics.mean(bytes_) / given.steps,
        "most_bytes": max(bytes_) / given.steps,
        "cpu_s": statistics.mean(each["cpu_s"] for each in said),
    }


def measure(name: str, way: Row, given: argparse.Namespace, rate_mbit: float, workers: int, seed: int) -> Row | None:
    """A line of the table; None where the contender does not run here."""
    if reason := missing(way):
        progress(f"skipped {name}: {reason}")
        return None
    try:
        row = run(way, given, rate_mbit, workers, seed)
    except RuntimeError as error:
        progress(f"failed {name}: {error}")
        return None
    words = f"{1e3 * row['step_s']:.1f} ms and {row['bytes'] / 1e3:.2f} kB a step, loss {row['history'][-1]['loss']:.4f}"
    progress(f"{name}, {workers} programs, {at(rate_mbit)}, seed {seed}: {words}, load {os.getloadavg()[0]:.1f}")
    return {"contender": name, "rate_mbit": rate_mbit, "workers": workers, "seed": seed, "way": way, **row}


def tables(rows: Sequence[Row], names: Sequence[str], *, markdown: bool) -> None:
    """For each rate and number of programs: medians over the seeds, times to the loss that all reach and to a lower one."""
    for rate, workers in sorted({(row["rate_mbit"], row["workers"]) for row in rows}):
        here = [row for row in rows if (row["rate_mbit"], row["workers"]) == (rate, workers)]
        ends = sorted(statistics.median(each["history"][-1]["loss"] for each in here if each["contender"] == name) for name in
                      {row["contender"] for row in here})  # fmt: skip
        targets = [ends[-1] + 0.005, statistics.median(ends)]
        header = ["contender", "ms a step", "kB a step", "busiest machine", "loss", *(f"s to {each:.3f}" for each in targets)]
        lines = []
        for name in names:
            mine = [row for row in here if row["contender"] == name]
            if mine:
                lines.append([name, *line_of(mine, targets)])
        show(f"{workers} programs, {at(rate)}, {len({row['seed'] for row in here})} seeds", header, lines, markdown=markdown)


def line_of(rows: Sequence[Row], targets: Sequence[float]) -> list[str]:
    values = [statistics.median(row[key] for row in rows) for key in ("step_s", "bytes", "most_bytes")]
    losses = [row["history"][-1]["loss"] for row in rows]
    words = [f"{1e3 * values[0]:.0f}", *(f"{value / 1e3:.2f}" for value in values[1:]), f"{statistics.median(losses):.3f}"]
    for target in targets:
        took = [seconds_to(row["history"], target) for row in rows]
        reached = [seconds for seconds in took if seconds is not None]
        words.append(f"{statistics.median(reached):.1f}" if len(reached) == len(rows) else "-")
    return words


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    numbers: dict[str, Any] = {"type": lambda text: [float(word) for word in text.split(",")]}
    parser.add_argument("--text", type=Path, help="a text, plain or .xz")
    parser.add_argument("--rates", default=[10.0, 100.0], help="Mbit/s; 0 for no limit", **numbers)
    parser.add_argument("--workers", default=[2.0, 4.0], **numbers)
    parser.add_argument("--steps", type=int, default=480)
    parser.add_argument("--every", type=int, default=32, help="steps between looks at the model")
    parser.add_argument("--rate", type=float, default=8e-3, help="of AdamW")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds for one contender")
    parser.add_argument("--only", action="append", help="part of a contender's name")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--loopback", action="store_true", help="without namespaces and limits")
    add_output_options(parser)
    given = parser.parse_args()
    given.model = loop.MODEL
    if given.smoke:
        given.loopback, given.steps, given.every, given.rates, given.workers = True, 4, 2, [0.0], [2.0]
        given.model = loop.TINY
        given.only = given.only or ["PowerSGD hook, rank 1", "torchft DiLoCo, H = 32", "hivemind", "sparse_loco"]
    if given.text is None and not given.smoke:
        parser.error("give --text")
    return given


def main() -> int:
    given = parsed()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # or nobody would remove the namespaces
    if not given.loopback and (reason := unavailable()):
        print(reason, file=sys.stderr)
        return 1
    names = [name for name in CONTENDERS if not given.only or any(part in name for part in given.only)]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        if given.text is None:
            given.text = Path(folder) / "text"
            given.text.write_text(loop.TEXT)
        for workers in given.workers:
            for rate in given.rates:
                for seed, name in interleaved(names, given.seeds):
                    if row := measure(name, CONTENDERS[name], given, rate, int(workers), seed):
                        rows.append(row)
                        save(given.json, rows)
    tables(rows, names, markdown=given.markdown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
