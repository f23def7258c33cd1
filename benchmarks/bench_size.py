"""What a parameter costs: slopes of peak resident memory between two sizes of a network, and a step, beside DDP with AdamW.

    python benchmarks/bench_size.py                     # 2.7 and 27.6 million parameters, a few minutes of two idle cores
    python benchmarks/bench_size.py --text PATH         # on a text of your own; else on one that is drawn here

Everybody trains the same ALBERT for masked words on the same batches over loopback, two workers: DDP over gloo with torch's
fused AdamW, one process a rank; Saddlebag as `saddlebag run` runs it, a server that also judges, and two workers. A peak is the
largest resident set of a process; a slope is the difference between both sizes over that of their parameters, so what
interpreters and libraries take drops out. Steps leave the first out. All of them run at one size, then at the other.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from harness import ONE_THREAD, Row, add_output_options, free_port, interleaved, memory, progress, save, show, spread

from saddlebag.launch.drivers.supervisor import run_grpc
from saddlebag.launch.recipe.recipe import load_recipe

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).resolve().parent.parent
SIZES = {"small": "{}", "large": "{hidden = 1472, heads = 16, intermediate = 5888}"}
TOP = '{name="compose", sparsifier={name="top_k", fraction=0.01}, values={name="nearest_int8"}}'
GRID = '{name="grid", step=0.5}'
ADAMW = ["name='compressed_adamw'", "step_size=0.0003", f"up={TOP}", f"down={TOP}"]
LOCAL = ["name='diloco'", "local_steps=2", "local_step_size=0.0003"]
DDP = "DDP, AdamW"
CONTENDERS: dict[str, list[str]] = {
    DDP: [],
    "compressed_adamw, float64": ADAMW,
    "compressed_adamw, float32": [*ADAMW, "precision='float32'"],
    "diloco, grid, float32": [*LOCAL, f"up={GRID}", f"down={GRID}", "precision='float32'"],
    "diloco, Top-1 %, float32": [*LOCAL, f"up={TOP}", f"down={TOP}", "precision='float32'"],
}
GOALS = {"server": {"compressed_adamw, float32": 24.0, "diloco, Top-1 %, float32": 16.0, "diloco, grid, float32": 16.0}}
NODE_ABOVE, STEP_RATIO = 12.0, 1.3  # of a node above a rank of DDP; of a step
RECIPE = """
title = "Size"
workers = 2

[problem]
name = "albert_mlm"
size = {size}
length = {length}
batch_size = {batch}
judged = 2

[data]
source = "{text}"

[method]
name = "compressed_adamw"
step_size = 0.0003
weight_decay = 0.01
up = {{ name = "identity" }}
down = {{ name = "identity" }}

[stop]
max_iterations = {steps}
every = {steps}

[checkpoint]
every = 0
"""
_EVERY_S = 0.02


def draw_text(path: Path, lines: int = 4000) -> Path:
    """Words by Zipf's law, of letters drawn alike."""
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), rng.integers(2, 9))) for _ in range(5000)]
    drawn = np.minimum(rng.zipf(1.2, (lines, 30)), len(words)) - 1
    path.write_text("\n".join(" ".join(words[word] for word in line) for line in drawn.tolist()) + "\n")
    return path


class Peaks:
    """The largest resident set of processes, by name, watched until they end."""

    def __init__(self) -> None:
        self._pids: dict[str, int] = {}
        self.bytes: dict[str, int] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def add(self, pids: dict[str, int]) -> None:
        self._pids.update(pids)

    def _watch(self) -> None:
        while not self._over.wait(_EVERY_S):
            for name, pid in list(self._pids.items()):
                if found := memory(pid).get("VmHWM"):
                    self.bytes[name] = max(self.bytes.get(name, 0), found)

    def end(self) -> dict[str, int]:
        self._over.set()
        self._thread.join()
        return self.bytes


def run_ddp(recipe: Path, folder: Path) -> Row:
    """Two ranks of `contender_ddp.py`."""
    out, port, peaks, ranks = folder / "ddp.json", str(free_port()), Peaks(), []
    for rank in range(2):
        command = [sys.executable, str(ROOT / "benchmarks/contender_ddp.py"), str(recipe), "--out", str(out)]
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        environment = {**os.environ, **place, "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": str(ROOT)}
        ranks.append(subprocess.Popen(command, env=environment, cwd=ROOT))
        peaks.add({f"rank {rank}": ranks[-1].pid})
    failed = [rank.wait() for rank in ranks]
    found = peaks.end()
    if any(failed):
        raise SystemExit("DDP did not end well")
    result = json.loads(out.read_text())
    parts = {name: result[f"{name}_s"] for name in ("forward", "backward", "optimizer")}
    return {"node_bytes": max(found.values()), "server_bytes": 0, "step_s": sum(parts.values()), **parts}


def run_ours(recipe: Path, sets: Iterable[str], folder: Path) -> Row:
    """A server and two workers."""
    job, peaks, out = load_recipe(recipe, [f"method.{text}" for text in sets]), Peaks(), folder / "run"
    result = run_grpc(job.jobs()[0], out, observe=lambda record: None, started=peaks.add)
    found = peaks.end()
    phases = json.loads((out / "worker-1.json").read_text())
    rounds = phases["rounds"]
    parts = {name: phases[f"{name}_s"] / rounds for name in ("compute", "compress", "exchange", "apply")}
    parts["exchange"] -= result["evaluate_s"] / rounds  # workers wait for the judge there
    server = found.pop("server")
    times = {"step_s": sum(parts.values()), "server_s": result["server_s"] / rounds}
    return {"node_bytes": max(found.values()), "server_bytes": server, **times, **parts}


def measure(contender: str, size: str, args: argparse.Namespace, text: Path) -> Row:
    """One contender at one size."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = folder / "recipe.toml"
        numbers = {"size": args.sizes[size], "length": args.length, "batch": args.batch, "steps": args.steps, "text": text}
        recipe.write_text(RECIPE.format(**numbers))
        if contender == DDP:
            return run_ddp(recipe, folder)
        sets = CONTENDERS[contender]
        if contender.startswith("diloco"):  # keys of another method would be refused
            lines = [line for line in recipe.read_text().splitlines() if not line.startswith(("step_size", "weight_decay"))]
            recipe.write_text("\n".join(lines))
        return run_ours(recipe, sets, folder)


def parameters(size: str) -> int:
    """How many parameters an ALBERT of this size has."""
    import tomllib

    from saddlebag.algorithms.networks.texts.albert import make_albert, shape_of

    shape = shape_of(tomllib.loads(f"size = {size}")["size"], 0, 0)
    model: Any = make_albert("AlbertForMaskedLM", shape, pieces=shape.vocabulary, dropout=0.0, seed=0)
    return sum(parameter.numel() for parameter in model.parameters())


def report(rows: list[Row], args: argparse.Namespace) -> None:
    counts = {size: rows[0]["parameters"] if size == "small" else rows[-1]["parameters"] for size in args.sizes}
    more = counts["large"] - counts["small"]
    lines, ddp_slope, ddp_step = [], 0.0, 0.0
    for contender in [name for name in CONTENDERS if any(row["contender"] == name for row in rows)]:  # DDP first
        of = {size: [row for row in rows if row["contender"] == contender and row["size"] == size] for size in args.sizes}
        slopes = {}
        for part in ("node", "server"):
            peaks = {size: float(np.median([row[f"{part}_bytes"] for row in of[size]])) for size in of}
            slopes[part] = (peaks["large"] - peaks["small"]) / more
        steps = [row["step_s"] for row in of["large"]]
        if contender == DDP:
            ddp_slope, ddp_step = slopes["node"], float(np.median(steps))
        ratio = float(np.median(steps)) / ddp_step if ddp_step else float("nan")
        goal = GOALS["server"].get(contender)
        told = "-" if contender == DDP else f"{slopes['server']:.0f}" + (f" (goal {goal:.0f})" if goal else "")
        node = f"{slopes['node']:.0f}" + ("" if contender == DDP else f" (goal {ddp_slope + NODE_ABOVE:.0f})")
        lines.append([contender, node, told, spread([1e3 * step for step in steps], 0), f"{ratio:.2f}"])
    header = ("contender", "bytes a parameter, node", "server", f"ms a step at {counts['large'] / 1e6:.1f}M", "to DDP's")
    show(
        f"{counts['small'] / 1e6:.1f} and {counts['large'] / 1e6:.1f} million parameters", header, lines, markdown=args.markdown
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, help="a text file, or WikiText's folder")
    parser.add_argument("--batch", type=int, default=8, help="rows of a worker in a step")
    parser.add_argument("--length", type=int, default=64, help="tokens of a row")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--large", default=SIZES["large"], help="the larger size, a table of TOML")
    parser.add_argument("--only", nargs="+", help="contenders whose names hold one of these words")
    parser.add_argument("--repetitions", type=int, default=1)
    add_output_options(parser)
    args = parser.parse_args()
    args.sizes = {**SIZES, "large": args.large}
    os.environ.update(ONE_THREAD)
    names = [name for name in CONTENDERS if not args.only or any(word in name for word in args.only)]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        text = (args.text or draw_text(Path(folder, "text.txt"))).resolve()
        for size in args.sizes:
            count = parameters(args.sizes[size])
            for repetition, contender in interleaved(names, args.repetitions):
                began = time.monotonic()
                row = measure(contender, size, args, text)
                rows.append({"contender": contender, "size": size, "repetition": repetition, "parameters": count, **row})
                peaks = f"node {row['node_bytes'] / 1e6:.0f} MB, server {row['server_bytes'] / 1e6:.0f} MB"
                progress(f"{size} {contender}: {peaks}, {1e3 * row['step_s']:.0f} ms a step, {time.monotonic() - began:.0f} s")
    report(rows, args)
    save(args.json, rows)


if __name__ == "__main__":
    main()
