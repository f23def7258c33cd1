"""Saddlebag against DistributedDataParallel on two nodes with a thin wire between them: wall time to the same loss.

Two nodes are two network namespaces, each with a torchrun of its own and a core of its own; `tc tbf` limits their links. Both
train the same ALBERT for masked words from the same start on the same batches with AdamW of the same numbers: DDP over gloo
(float32, and with PyTorch's float16 and PowerSGD hooks), Saddlebag with `compressed_adamw` over gRPC, its server on the first
node. The clock of both stops while the model is judged, and starts when the first step ends.

    python benchmarks/bench_thin_wire.py --text PATH             # WikiText's folder, or any file of text
    python benchmarks/bench_thin_wire.py --text PATH --apart     # the server on a third machine, behind a link of its own

Needs root, iproute2 and the extra `transformers`.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import ONE_THREAD, Row, add_output_options, interleaved, progress, save
from namespaces import Namespace, namespaces
from thin_wire_tables import DDP, draw, show_steps, show_times

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parent.parent
PORT, MASTER_PORT = 7777, 7778
TOP_K = '{{name="compose", sparsifier={{name="top_k", fraction={}}}, values={{name="nearest_int8"}}}}'
CONTENDERS: dict[str, Any] = {
    DDP: "none",
    "DDP, float16 hook": "fp16",
    "DDP, PowerSGD hook, rank 4": "power_sgd",
    **{
        f"Saddlebag, Top-{share} %": [f"method.{way}={TOP_K.format(share / 100)}" for way in ("up", "down")] for share in (1, 3)
    },
}
RECIPE = """
title = "Two nodes on a thin wire"
workers = 2

[problem]
name = "albert_mlm"
size = "tiny"
batch_size = {batch}
judged = 128

[data]
source = "{text}"

[method]
name = "compressed_adamw"
step_size = {step_size}
warmup = 20
total = {total}
schedule = "linear"
weight_decay = 0.01
up = {{ name = "identity" }}
down = {{ name = "identity" }}

[stop]
max_iterations = {steps}
every = {every}

[server]
lease_s = 120.0

[checkpoint]
every = 0
"""
_START_S = 120.0


@dataclasses.dataclass(frozen=True)
class Bench:
    """Where a run's files lie and how long it may take."""

    folder: Path
    recipe: Path
    timeout_s: float
    apart: bool

    def start(self, node: Namespace, core: int, command: Sequence[str], log: str) -> subprocess.Popen[Any]:
        """A process on a core of its own."""
        environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "eth0"}
        with (self.folder / log).open("wb") as file:
            return node.popen(["taskset", "-c", str(core), *command], stdout=file, stderr=file, env=environment, cwd=ROOT)

    def wait(self, children: Sequence[subprocess.Popen[Any]], logs: Sequence[str]) -> None:
        """Wait for all; the first that fails ends the benchmark."""
        deadline = time.monotonic() + self.timeout_s
        while any(child.poll() is None for child in children) and not any(child.returncode for child in children):
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
        if failed := [log for child, log in zip(children, logs, strict=True) if child.poll() != 0]:
            for child in children:
                if child.poll() is None:
                    child.kill()
                child.wait()
            words = "\n".join(f"--- {log}\n{(self.folder / log).read_text()[-2000:]}" for log in failed)
            raise SystemExit(f"did not end well:\n{words}")


def torchrun(script: Sequence[str], *options: str) -> list[str]:
    return [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "1", *options, *script]


def run_ddp(bench: Bench, nodes: Sequence[Namespace], hook: str) -> Row:
    """One job of DDP over both nodes."""
    out, logs = bench.folder / "ddp.json", ["ddp-0.log", "ddp-1.log"]
    script = [str(ROOT / "benchmarks" / "contender_ddp.py"), str(bench.recipe), "--hook", hook, "--out", str(out)]
    children = []
    for number, (node, log) in enumerate(zip(nodes, logs, strict=False)):
        options = ["--nnodes", "2", "--node-rank", str(number), "--master-addr", nodes[0].address]
        command = torchrun(script, *options, "--master-port", str(MASTER_PORT))
        children.append(bench.start(node, number, command, log))
    bench.wait(children, logs)
    result: Row = json.loads(out.read_text())
    last, steps = result["history"][-1], result["steps"] - 1
    exchange_s = result["backward_s"] + result["forward_s"] - result["compute_s"]
    return {
        "history": [point(line, line["tx"]) for line in result["history"]],
        "step_s": last["seconds"] / steps,
        "compute_s": result["compute_s"],
        "compress_s": 0.0,
        "exchange_s": exchange_s,
        "apply_s": result["optimizer_s"],
        "wire_bytes": (last["tx"] + last["rx"]) / steps,
    }


def run_saddlebag(bench: Bench, nodes: Sequence[Namespace], sets: Sequence[str]) -> Row:
    """A server, and a torchrun on each node."""
    out, options = bench.folder / "server", [word for text in sets for word in ("--set", text)]
    place, remote = nodes[2] if bench.apart else nodes[0], nodes[1]
    address = f"{place.address}:{PORT}"
    before = (remote.transmitted_bytes(), remote.received_bytes())
    cli = [sys.executable, "-m", "saddlebag"]
    serve = [*cli, "server", str(bench.recipe), *options, "--address", address, "--insecure", "--out", str(out)]
    logs, children = ["server.log", "node-0.log", "node-1.log"], [bench.start(place, 0, serve, "server.log")]
    await_line(bench.folder / "server.log", "serving", children[0])
    for number in range(2):
        script = ["-m", "saddlebag", "node", str(bench.recipe), *options, "--server", address, "--worker", str(number)]
        command = torchrun([*script, "--out", str(bench.folder / f"node-{number}")], "--standalone")
        children.append(bench.start(nodes[number], number, command, logs[1 + number]))
    bench.wait(children, logs)
    result = json.loads((out / "result.json").read_text())
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    history = [{**line, "seconds": line["elapsed_s"] - line["evaluate_s"] - result["start_s"]} for line in lines]
    phases = json.loads((bench.folder / "node-1" / "worker-1.json").read_text())
    phases["exchange_s"] -= result["evaluate_s"]  # workers wait for the judge there
    steps = result["rounds"]
    wire_bytes = remote.transmitted_bytes() + remote.received_bytes() - sum(before)
    return {
        "history": [point(line, line["up_bytes"] / 2) for line in history],
        "step_s": history[-1]["seconds"] / (steps - 1),
        **{f"{name}_s": phases[f"{name}_s"] / phases["rounds"] for name in ("compute", "compress", "exchange", "apply")},
        "server_s": result["server_s"] / steps,
        "wire_bytes": wire_bytes / steps,
        "ledger_bytes": (phases["up_bytes"] + phases["down_bytes"]) / steps,
    }


def point(line: Row, up_bytes: float) -> Row:
    return {"iteration": line["iteration"], "seconds": line["seconds"], "up_bytes": up_bytes, "loss": line["merits"]["loss"]}


def await_line(path: Path, word: str, child: subprocess.Popen[Any]) -> None:
    """Wait until a log says a word."""
    deadline = time.monotonic() + _START_S
    while word not in path.read_text():
        if child.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"the server did not start:\n{path.read_text()[-2000:]}")
        time.sleep(0.1)


@contextlib.contextmanager
def prepared(options: argparse.Namespace, steps: int) -> Iterator[Bench]:
    """A folder with the recipe."""
    numbers = {"batch": options.batch, "text": options.text.resolve(), "step_size": options.step_size, "every": options.every}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "recipe.toml").write_text(RECIPE.format(**numbers, steps=steps, total=options.steps))
        yield Bench(folder, folder / "recipe.toml", 300.0 + 3.0 * steps, options.apart)


def measure(options: argparse.Namespace, name: str, rate_mbit: float, steps: int) -> Row:
    """One contender at one rate of the links; 0 for no limit."""
    way: Any = CONTENDERS[name]
    count = 3 if options.apart else 2
    with prepared(options, steps) as bench, namespaces(count, rate_mbit=rate_mbit or None) as nodes:
        row = run_ddp(bench, nodes, way) if isinstance(way, str) else run_saddlebag(bench, nodes, way)
    progress(f"{name} at {rate_mbit:g} Mbit/s: {1e3 * row['step_s']:.0f} ms a step, loss {row['history'][-1]['loss']:.4f}")
    return {"contender": name, "rate_mbit": rate_mbit, **row}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True, metavar="PATH")
    parser.add_argument(
        "--rates", type=lambda text: [float(word) for word in text.split(",")], default=[100.0, 0.0], help="Mbit/s"
    )
    parser.add_argument("--steps", type=int, default=100, help="at the first rate")
    parser.add_argument("--short", type=int, default=24, help="steps at the other rates")
    parser.add_argument("--every", type=int, default=10, help="steps between evaluations")
    parser.add_argument("--batch", type=int, default=8, help="rows of 64 tokens on each node")
    parser.add_argument("--step-size", type=float, default=2e-3)
    parser.add_argument("--only", action="append", help="part of a contender's name")
    parser.add_argument("--apart", action="store_true", help="the server on a machine of its own")
    parser.add_argument("--plot", type=Path)
    add_output_options(parser)
    options = parser.parse_args()
    names = [name for name in CONTENDERS if not options.only or any(part in name for part in options.only)]
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # or nobody would remove the namespaces
    rows = []
    for number, rate in enumerate(options.rates):
        for _, name in interleaved(names, 1):
            rows.append(measure(options, name, rate, options.short if number else options.steps))
            save(options.json, rows)
    main_rows = [row for row in rows if row["rate_mbit"] == options.rates[0]]
    show_steps(rows, names, markdown=options.markdown)
    show_times(main_rows, names, markdown=options.markdown)
    if options.plot:
        draw(main_rows, options.plot)


if __name__ == "__main__":
    main()
