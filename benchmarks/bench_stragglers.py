"""Unlike machines that die: four linked programs, one of them four times slower, one killed every 20 seconds.

    python benchmarks/bench_stragglers.py                  # three runs of 120 seconds
    python benchmarks/bench_stragglers.py --smoke          # one, of three seconds: the figures mean nothing

Each program trains a perceptron on digits; a step takes `--step-s` (four times as long on the slow one) by waiting, so that
four machines fit into one. A killed program is started again after a second, from nothing: rank and address.

    undisturbed     quorum, grace and balance; nobody is killed
    quorum          the same, one killed every `--kill-s`
    waits           no quorum: a round waits for all of its members, a dead one is dropped (`on_lost = "drop"`)

*Goodput* is gradients that rounds have counted, over those that the same machines would compute in that time if they never
waited and never died. `starts_s` are the seconds that a program which comes back takes until its link is made (libraries are
loaded, on whatever is left of these cores), and from there until it has the run's point. The loss is that of the host's last
point on digits that no program has seen.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

import saddlebag as sb

EVERY, SLOWER, RANKS = 20, 4.0, 4
METHOD = {"name": "diloco", "step_size": 1.0, "momentum": 0.0}
FORMS = {"undisturbed": True, "quorum": True, "waits": False}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    return torch.tensor(data.data[order] / 16, dtype=torch.float32), torch.tensor(data.target[order])


def program(rank: int, address: str, step_s: float, seed: int, counts: Path) -> None:
    """What a user would write, but for the waiting."""
    born = time.monotonic()
    torch.set_num_threads(1)
    x, y = (part[rank:1400:RANKS] for part in digits())
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    rng = np.random.default_rng((seed, rank, os.getpid()))
    link = sb.join(address, model, optimizer, method=METHOD, every=EVERY, rank=rank)
    joining = time.monotonic()
    link.begin()
    with counts.with_name(f"starts-{rank}").open("a") as file:
        file.write(f"{joining - born} {time.monotonic() - joining}\n")
    while not link.over:
        end = time.monotonic() + step_s
        batch = torch.from_numpy(rng.integers(0, len(x), 32))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()  # type: ignore[no-untyped-call]  # torch's
        optimizer.step()
        time.sleep(max(0.0, end - time.monotonic()))
        steps = link.since + 1
        if link.step():
            with counts.open("a") as file:
                file.write(f"{steps}\n")


def serve(out: Path, form: str, grace_s: float) -> tuple[subprocess.Popen[str], str]:
    merging = ["--quorum", "3", "--grace", str(grace_s), "--weights", "samples", "--balance"] if FORMS[form] else []
    command = [
        sys.executable,
        "-m",
        "saddlebag",
        "host",
        "--workers",
        str(RANKS),
        "--address",
        "127.0.0.1:0",
        "--out",
        str(out),
    ]
    command += ["--on-lost", "drop", "--lease", "5", *merging]
    host = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert host.stderr is not None
    line = host.stderr.readline()
    return host, line.split(" at ")[1].split(";")[0]


class Fleet:
    """The programs, and what becomes of them."""

    def __init__(self, out: Path, address: str, given: Any) -> None:
        self._fork = multiprocessing.get_context("fork")  # torch is loaded once: starting again costs what a process costs
        self._out, self._address, self._given = out, address, given
        self._programs: dict[int, Any] = dict.fromkeys(range(RANKS))
        for rank in self._programs:
            self.start(rank)

    def start(self, rank: int) -> None:
        step_s = self._given.step_s * (SLOWER if rank == RANKS - 1 else 1.0)
        self._programs[rank] = self._fork.Process(
            target=program, args=(rank, self._address, step_s, self._given.seed, self._out / f"counts-{rank}"), daemon=True
        )
        self._programs[rank].start()

    def kill(self, rank: int) -> None:
        os.kill(self._programs[rank].pid, signal.SIGKILL)
        self._programs[rank].join()

    def counted(self) -> list[int]:
        """Gradients that rounds have counted, by rank."""
        files = [self._out / f"counts-{rank}" for rank in range(RANKS)]
        return [sum(map(int, file.read_text().split())) if file.exists() else 0 for file in files]

    def starts(self) -> list[list[float]]:
        """Of each program that came back: seconds until its link was made, and from there until it had the run's point."""
        files = [self._out / f"starts-{rank}" for rank in range(RANKS)]
        lines = [line for file in files for line in file.read_text().splitlines()[1:]]
        return [[round(float(word), 2) for word in line.split()] for line in lines]

    def end(self) -> None:
        for each in self._programs.values():
            if each.is_alive():
                os.kill(each.pid, signal.SIGKILL)
            each.join()


def measured(form: str, given: Any, out: Path) -> dict[str, Any]:
    """One run: counting begins when all programs have been counted once."""
    out.mkdir()
    host, address = serve(out / "run", form, given.grace_s)
    fleet, rng, deaths = Fleet(out, address, given), random.Random(given.seed), 0
    try:
        while not all(fleet.counted()):
            time.sleep(0.05)
        begin, before = time.monotonic(), fleet.counted()
        while (left_s := begin + given.seconds - time.monotonic()) > 0:
            if form == "undisturbed" or left_s < given.kill_s:
                time.sleep(left_s)
                break
            time.sleep(given.kill_s - 1.0)
            victim = rng.randrange(RANKS)
            fleet.kill(victim)
            deaths += 1
            time.sleep(1.0)
            fleet.start(victim)
        seconds, after = time.monotonic() - begin, fleet.counted()
    finally:
        fleet.end()
        host.kill()
        host.communicate()
    gradients = [late - early for early, late in zip(before, after, strict=True)]
    capacity = seconds / given.step_s * (RANKS - 1 + 1 / SLOWER)
    told = {"form": form, "seconds": round(seconds, 1), "deaths": deaths, "gradients": gradients}
    around = {"starts_s": fleet.starts(), "load": round(os.getloadavg()[0], 1)}
    return {**told, "goodput": round(sum(gradients) / capacity, 3), "loss": round(loss_of(out / "run"), 4), **around}


def loss_of(run: Path) -> float:
    """Of the host's last checkpoint."""
    from saddlebag.proto.checkpoint import CheckpointStore

    saved = CheckpointStore(run / "checkpoints", "server").newest(lambda text: None)
    assert saved is not None
    model, (x, y) = network(), digits()
    nn.utils.vector_to_parameters(torch.from_numpy(saved[0]["replica.z_D"]).float(), model.parameters())
    with torch.no_grad():
        return float(nn.functional.cross_entropy(model(x[1400:]), y[1400:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--kill-s", type=float, default=20.0)
    parser.add_argument("--step-s", type=float, default=0.1)
    parser.add_argument("--grace-s", type=float, default=0.3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=list(FORMS))
    parser.add_argument("--smoke", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)  # a pool of threads does not survive the fork
    if given.smoke:
        given.seconds, given.kill_s, given.step_s, given.only = 3.0, 2.0, 0.005, "quorum"
    with tempfile.TemporaryDirectory() as folder:
        for form in [given.only] if given.only else FORMS:
            print(json.dumps(measured(form, given, Path(folder) / form)), flush=True)


if __name__ == "__main__":
    main()
