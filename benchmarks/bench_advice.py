"""The prediction of `saddlebag advise` for local methods beside a linked job over loopback, or over a thin wire.

    python benchmarks/bench_advice.py                 # two programs, a million parameters, three methods, H = 8 and 32
    python benchmarks/bench_advice.py --rate 100      # each behind 100 Mbit/s (network namespaces: root and iproute2)
    python benchmarks/bench_advice.py --smoke         # tiny: does it run at all

For each method and period: a host and programs as processes of this machine, linked by `saddlebag.join`. Each program first
makes steps alone, all of them at the same time; their median is the time of a gradient that the advice is given. Then they
step and exchange. A gradient's measured time is the median over exchanges of the time from one to the next, over H; an
exchange's that of `link.step`, of the program that waited least. Bytes are those of the link's ledger, for an exchange.

Everything else the advice measures itself, before the programs start: the codec, the methods' halves, gRPC, and over
loopback the link; it is told that of a thin wire. Its costs are CPU times, so other load on these cores shows as an error.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from harness import ONE_THREAD, Row, add_output_options, progress, save, say
from namespaces import namespaces
from torch import nn

import saddlebag as sb
from saddlebag.launch.advice.advise import Question, advise_local, network_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Start = Callable[..., subprocess.Popen[Any]]

HERE = Path(__file__).resolve()
ROOT = HERE.parent.parent
METHODS = ("local_average", "diloco", "sparse_loco")
WARM_UP = 2  # exchanges that do not count
TIMEOUT_S = 600.0


def width_of(parameters: int) -> int:
    return max(2, math.isqrt(parameters // 2))


def network(parameters: int) -> nn.Sequential:
    """Two square layers with about so many parameters."""
    torch.manual_seed(0)
    width = width_of(parameters)
    return nn.Sequential(nn.Linear(width, width, bias=False), nn.ReLU(), nn.Linear(width, width, bias=False))


def dimension(parameters: int) -> int:
    return sum(value.numel() for value in network(parameters).parameters())


def program(given: argparse.Namespace) -> None:
    """What a user would write, with clocks."""
    torch.set_num_threads(1)
    model = network(given.parameters)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    x = torch.randn(given.batch, width_of(given.parameters), generator=torch.Generator().manual_seed(given.program))

    def step() -> float:
        begin = time.perf_counter()
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
        return time.perf_counter() - begin

    link = sb.join(given.address, model, optimizer, method=given.method, every=given.every, rank=given.program)
    link.begin()  # nobody's steps count before all are here
    link.exchange()
    begin = time.process_time()
    step_s = statistics.median(step() for _ in range(given.alone))
    step_cpu_s = (time.process_time() - begin) / given.alone
    link.exchange()
    ends, waited, up, down, cpu = [], [], [], [], []
    for _ in range(given.exchanges + WARM_UP):
        for _ in range(given.every):
            step()
            begin = time.perf_counter()
            link.step()
        ends.append(time.perf_counter())
        waited.append(ends[-1] - begin)
        up.append(link.bytes_up)
        down.append(link.bytes_down)
        cpu.append((time.process_time(), cpu_of(given.host)))
    link.finish()
    rounds = [after - before for before, after in zip(ends[WARM_UP - 1 :], ends[WARM_UP:], strict=False)]
    bytes_ = [(each[-1] - each[WARM_UP - 1]) / given.exchanges for each in (up, down)]
    own_s, host_s = ((after - before) / given.exchanges for before, after in zip(cpu[WARM_UP - 1], cpu[-1], strict=True))
    spent = {"program_cpu_s": own_s - given.every * step_cpu_s, "host_cpu_s": host_s}
    say({"step_s": step_s, "rounds": rounds, "waited": waited[WARM_UP:], "up": bytes_[0], "down": bytes_[1], **spent})


def cpu_of(pid: int) -> float:
    """Seconds of processor time of a process and all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def machines(given: argparse.Namespace) -> Iterator[tuple[str, list[Start]]]:
    """The host's address, and how it and each program are started."""
    if not given.rate:
        yield "127.0.0.1", [subprocess.Popen] * (1 + given.workers)
        return
    with namespaces(1 + given.workers, rate_mbit=given.rate) as nodes:
        yield nodes[0].address, [node.popen for node in nodes]


def run(method: str, every: int, given: argparse.Namespace) -> Row:
    """A host and its programs; what they have measured."""
    quiet: Any = {"text": True, "env": {**os.environ, **ONE_THREAD, "PYTHONPATH": str(ROOT)}}
    children: list[subprocess.Popen[str]] = []
    with tempfile.TemporaryDirectory() as folder, machines(given) as (place, starts):
        command = [sys.executable, "-m", "saddlebag", "host", "--workers", str(given.workers), "--out", f"{folder}/run"]
        command += ["--address", f"{place}:0", "--checkpoint-every", str(given.checkpoint_every)]
        try:
            children.append(starts[0]([*command, *(["--insecure"] if given.rate else [])], stderr=subprocess.PIPE, **quiet))
            address = told(children[0])
            for rank, start in enumerate(starts[1:]):
                words = [
                    HERE,
                    "--host",
                    children[0].pid,
                    "--program",
                    rank,
                    "--address",
                    address,
                    "--method",
                    method,
                    "--every",
                    every,
                ]
                for name in ("parameters", "batch", "alone", "exchanges"):
                    words += [f"--{name}", getattr(given, name)]
                children.append(start([sys.executable, *map(str, words)], stdout=subprocess.PIPE, **quiet))
            said = [json.loads(child.communicate(timeout=TIMEOUT_S)[0]) for child in children[1:]]
            children[0].communicate(timeout=TIMEOUT_S)
        finally:
            for child in children:
                child.kill()
                child.wait()
    return summary(said, every)


def told(host: subprocess.Popen[str]) -> str:
    """Where the host listens."""
    assert host.stderr is not None
    for line in host.stderr:
        if line.startswith("waiting for"):
            return line.split(" at ")[1].split(";")[0]
    raise SystemExit("the host did not start")


def summary(said: list[Row], every: int) -> Row:
    """Of what the programs said."""
    least = [min(times) for times in zip(*(each["waited"] for each in said), strict=True)]
    rounds = [statistics.mean(times) for times in zip(*(each["rounds"] for each in said), strict=True)]
    return {
        "step_s": statistics.mean(each["step_s"] for each in said),
        "gradient_s": statistics.median(rounds) / every,
        "exchange_s": statistics.median(least),
        "program_cpu_s": statistics.mean(each["program_cpu_s"] for each in said),
        "host_cpu_s": statistics.mean(each["host_cpu_s"] for each in said),
        "up_bytes": statistics.mean(each["up"] for each in said),
        "down_bytes": statistics.mean(each["down"] for each in said),
    }


def compared(method: str, every: int, given: argparse.Namespace) -> Row:
    """One prediction and what came of it; errors relative to what was measured."""
    d = dimension(given.parameters)
    question = Question(d=d, workers=given.workers, methods=(method,), every=(every,))
    rate = given.rate * 1e6 or None
    link = None if rate else "loopback"
    wire = network_of(question, link=link, bandwidth=rate, latency_s=None, server_rate=rate)
    [prediction] = advise_local(question, wire)
    if not given.checkpoint_every:
        prediction = dataclasses.replace(prediction, keep_s=0.0)
    measured = run(method, every, given)
    predicted = {
        "gradient_s": measured["step_s"] + prediction.exchange_s / every,
        "exchange_s": prediction.exchange_s,
        "program_cpu_s": prediction.say_s + prediction.take_s,
        "host_cpu_s": prediction.server_s + prediction.keep_s,
        "up_bytes": prediction.costs.up_bytes,
        "down_bytes": prediction.costs.down_bytes,
    }
    error = {name: value / measured[name] - 1 for name, value in predicted.items()}
    row = {"method": method, "every": every, "d": d, "predicted": predicted, "measured": measured, "error": error}
    return {**row, "rate_mbit": given.rate, "load": round(os.getloadavg()[0], 1)}


def show(row: Row) -> None:
    predicted, measured, error = row["predicted"], row["measured"], row["error"]
    words = [f"{row['method']:13} H = {row['every']:3}  step {1e3 * measured['step_s']:.2f} ms"]
    for name, digits in (("gradient", 2), ("exchange", 1), ("program_cpu", 1), ("host_cpu", 1)):
        key = f"{name}_s"
        times = [f"{1e3 * values[key]:.{digits}f}" for values in (measured, predicted)]
        words.append(f"{name} {times[0]} ms, predicted {times[1]} ({error[key]:+.0%})")
    words += [f"{way} {measured[f'{way}_bytes']:,.0f} B ({error[f'{way}_bytes']:+.1%})" for way in ("up", "down")]
    print("  ".join([*words, f"load {row['load']}"]), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rate", type=float, default=0.0, help="Mbit/s of each machine's link; 0: loopback")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--alone", type=int, default=100, help="steps that tell the time of a gradient")
    parser.add_argument("--exchanges", type=int, default=20, help="of each run")
    parser.add_argument("--checkpoint-every", type=int, default=1, help="of the host")
    parser.add_argument("--method", action="append", choices=METHODS)
    parser.add_argument("--every", type=int, action="append")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--program", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--address", help=argparse.SUPPRESS)
    parser.add_argument("--host", type=int, help=argparse.SUPPRESS)
    add_output_options(parser)
    given: Any = parser.parse_args()
    if given.program is not None:
        [given.method], [given.every] = given.method, given.every
        program(given)
        return
    if given.smoke:
        given.parameters, given.batch, given.alone, given.exchanges = 20_000, 8, 3, 2
        given.method, given.every = ["sparse_loco"], [2]
    torch.set_num_threads(1)
    rows: list[Row] = []
    for method in given.method or METHODS:
        for every in given.every or (8, 32):
            progress(f"{method}, every = {every}")
            rows.append(compared(method, every, given))
            show(rows[-1])
            save(given.json, rows)


if __name__ == "__main__":
    main()
