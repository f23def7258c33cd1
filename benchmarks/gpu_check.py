"""Everything that runs on a GPU, once, in less than ten minutes: is it right there, and at which share of the memory's speed.

    python benchmarks/gpu_check.py              # on a machine with a GPU; without one it says so and ends well
    python benchmarks/gpu_check.py --cpu        # the same checks on the CPU, small: is the script in order

A check compares with the same work on the CPU; speeds are shares of what a copy on the device reaches in the same run, and
fail nothing. Ends with 1 when a check fails. What has not run on a GPU yet is not known to work there: this finds out.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist
from harness import ONE_THREAD, free_port, progress, show

import saddlebag as sb
from saddlebag.algorithms import Stop, simulate
from saddlebag.compression import Draws, Sparse, TopK, feed_back_in_place
from saddlebag.compression.compressors import device as on_device
from saddlebag.compression.compressors.sparsifiers.rand_k import rand_k_at
from saddlebag.launch.build import build_method, build_problem
from saddlebag.launch.recipe.recipe import recipe_from_dict
from saddlebag.proto.codec import LoopbackWire

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 12
_CLOSE = 0.05  # of a loss on the GPU and on the CPU after a few steps: reductions differ in their order
_NODE_S = 240.0


def recipe(device: str, precision: str = "float64") -> dict[str, Any]:
    """A small network on a device."""
    both = {"name": "top_k", "fraction": 0.1}
    return {
        "workers": 1,
        "problem": {"name": "digits_transformer", "batch_size": 16, "device": device},
        "data": {"source": "digits"},
        "method": {"name": "compressed_adamw", "step_size": 0.003, "precision": precision, "up": both, "down": both},
        "stop": {"max_rounds": ROUNDS, "every": ROUNDS},
    }


def merit(device: str, precision: str) -> float:
    """The first merit at the end of a run in this process."""
    made = recipe_from_dict(recipe(device, precision)).jobs()[0]
    problem = build_problem(made)
    stop = Stop(max_rounds=ROUNDS, every=ROUNDS)
    outcome = simulate(problem, build_method(made, problem), seed=0, stop=stop, wire=LoopbackWire())
    return next(iter(outcome.history[-1].merits.values()))


# -- the checks: each returns what a person should know, and raises where something is wrong -----------------------------


def check_network(device: str, d: int) -> str:
    """Networks compute on the device, with float64 and with narrow states beside them."""
    del d
    found = []
    for precision in ("float64", "float32"):
        here, there = merit(device, precision), merit("cpu", precision)
        if not abs(here - there) <= _CLOSE * abs(there):
            raise AssertionError(f"precision {precision}: a merit of {here:g}, on the CPU {there:g}")
        found.append(f"{precision} {here:.4f} (CPU {there:.4f})")
    return ", ".join(found)


def check_compressors(device: str, d: int) -> str:
    """Top-k with feedback and Rand-k where the tensor lies: the payloads and memories of numpy, bit for bit."""
    rng = np.random.default_rng(0)
    owed_D = rng.standard_normal(d).astype(np.float32)
    memory_D = torch.from_numpy(owed_D.copy()).to(device)
    for _ in range(3):
        x_D = rng.standard_normal(d).astype(np.float32)
        sent = on_device.top_k_feedback(torch.from_numpy(x_D).to(device), memory_D, d // 100)
        owed_D += x_D
        expected = feed_back_in_place(TopK(k=d // 100), owed_D, Draws(0, 0))
        assert isinstance(expected, Sparse), "Top-k is sparse"
        assert np.array_equal(sent.index_K, expected.index_K), "Top-k keeps other coordinates"
        assert np.array_equal(sent.value.value_D, expected.value.value_D), "Top-k sends other values"
        assert np.array_equal(memory_D.cpu().numpy(), owed_D), "Top-k owes something else"
    draws = Draws(1, 2, 3)
    kept = on_device.rand_k(torch.from_numpy(x_D).to(device), d // 100, draws)
    value_K = rand_k_at(x_D, kept.index_K, d / (d // 100))
    assert np.array_equal(kept.value.value_D, value_K), "Rand-k sends other values"
    return f"bits of numpy, d = {d:,}"


def check_speed(device: str, d: int) -> str:
    """Top-k with feedback moves 16 bytes a coordinate at least: two reads, a write and the pass that collects."""
    x_D, memory_D = (torch.randn(d, device=device) for _ in range(2))
    out_D = torch.empty_like(x_D)
    copy_s = timed(lambda: out_D.copy_(x_D), device)
    top_s = timed(lambda: on_device.top_k_feedback(x_D, memory_D, d // 100), device)
    speed, most = 16 * d / top_s / 1e9, 8 * d / copy_s / 1e9
    return f"Top-1 % with feedback {speed:.0f} GB/s, a copy {most:.0f}: {100 * speed / most:.0f} %"


def timed(call: Callable[[], object], device: str) -> float:
    """Seconds of a call, the least of a few."""
    best = float("inf")
    for _ in range(5):
        _settle(device)
        begin = time.perf_counter()
        call()
        _settle(device)
        best = min(best, time.perf_counter() - begin)
    return best


def _settle(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def check_hook(device: str, d: int) -> str:
    """The communication hook of DDP on the device's backend: the loss falls, and bytes are counted."""
    del d
    backend = "gloo" if device == "cpu" else "nccl"
    dist.init_process_group(
        backend,
        store=dist.HashStore(),  # type: ignore[attr-defined]
        rank=0,
        world_size=1,
    )
    try:
        torch.manual_seed(0)
        layers = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 1)).to(device)
        model = torch.nn.parallel.DistributedDataParallel(layers)
        state, x = sb.attach(model, "top_k", fraction=0.1), torch.randn(256, 64, device=device)
        optimizer, losses = torch.optim.AdamW(model.parameters(), lr=1e-2), []
        for _ in range(30):
            optimizer.zero_grad()
            loss = (model(x) - x[:, :1]).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        assert losses[-1] < 0.5 * losses[0], f"the loss goes from {losses[0]:.3f} to {losses[-1]:.3f}"
        assert state.bytes_up > 0, "no byte was counted"
        return f"{backend}: loss {losses[0]:.3f} to {losses[-1]:.3f}, {state.bytes_up:,} bytes up"
    finally:
        dist.destroy_process_group()


def check_node(device: str, d: int) -> str:
    """`saddlebag node` under torchrun, a rank for each GPU (two on the CPU; a power of two divides the batch), and a server."""
    del d
    ranks = 1 << (torch.cuda.device_count().bit_length() - 1) if device != "cpu" else 2
    address = f"127.0.0.1:{free_port()}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "recipe.toml").write_text(_as_toml(recipe(device)))
        cli, out = [sys.executable, "-m", "saddlebag"], folder / "server"
        serve = [*cli, "server", str(folder / "recipe.toml"), "--address", address, "--out", str(out)]
        node = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
        node += ["--local-addr", "127.0.0.1"]  # where the machine's name does not resolve
        node += ["-m", "saddlebag", "node", str(folder / "recipe.toml"), "--server", address, "--worker", "0"]
        environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": str(ROOT)}
        logs = [(folder / f"{number}.log").open("wb") for number in range(2)]
        started = [
            subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
            for command, log in zip((serve, node), logs, strict=True)
        ]
        try:
            failed = [process.wait(_NODE_S) for process in started]
        finally:
            for process, log in zip(started, logs, strict=True):
                with contextlib.suppress(ProcessLookupError):  # torchrun's ranks, too: they would keep their GPUs
                    os.killpg(process.pid, signal.SIGKILL)
                log.close()
        told = "\n".join((folder / f"{number}.log").read_text()[-1500:] for number in range(2))
        assert not any(failed), f"a process did not end well:\n{told}"
        result = json.loads((out / "result.json").read_text())
    assert result["rounds"] == ROUNDS, f"{result['rounds']} rounds"
    return f"{ranks} rank{'s' if ranks > 1 else ''} over {'gloo' if device == 'cpu' else 'NCCL'}, {result['rounds']} rounds"


def _as_toml(table: dict[str, Any]) -> str:
    """A recipe as text: numbers and texts of JSON are those of TOML, tables within tables are written inline."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in table.items() if not isinstance(value, dict)]
    for key, value in table.items():
        if isinstance(value, dict):
            lines += [f"[{key}]", *(f"{name} = {_inline(inner)}" for name, inner in value.items())]
    return "\n".join(lines)


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_inline(inner)}" for key, inner in value.items()) + "}"
    return json.dumps(value)


CHECKS: dict[str, Callable[[str, int], str]] = {
    "compressors": check_compressors,
    "speed": check_speed,
    "network": check_network,
    "hook": check_hook,
    "node": check_node,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu", action="store_true", help="run the checks on the CPU, small")
    parser.add_argument("--only", nargs="+", choices=CHECKS, help="these checks alone")
    parser.add_argument("--markdown", action="store_true", help="print the table in Markdown")
    args = parser.parse_args()
    os.environ.update(ONE_THREAD)
    if not (args.cpu or torch.cuda.is_available()):
        print("No GPU here (torch.cuda.is_available() is false): nothing was checked. --cpu runs the checks without one.")
        return
    device, d = ("cpu", 100_000) if args.cpu else ("cuda", 64_000_000)
    lines, failed = [], False
    for name in args.only or CHECKS:
        began = time.monotonic()
        try:
            told, verdict = CHECKS[name](device, d), "ok"
        except Exception as error:  # each check is told of; the others go on
            told, verdict, failed = f"{type(error).__name__}: {error}", "FAILED", True
        spent_s = time.monotonic() - began
        progress(f"{name}: {verdict}, {spent_s:.0f} s: {told}")
        lines.append([name, verdict, told, f"{spent_s:.0f}"])
    where = "the CPU" if args.cpu else torch.cuda.get_device_name()
    show(f"Checks on {where}", ("check", "", "found", "s"), lines, markdown=args.markdown)
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
