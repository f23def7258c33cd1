"""Runs of several programs for `kills.py`: linked training loops beside their host, and nodes of two ranks under torchrun."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from victims import Hits, family, until

from saddlebag.algorithms import digest, simulate
from saddlebag.launch.build import build_method, build_problem, resolve
from saddlebag.launch.recipe.recipe import recipe_from_dict
from saddlebag.proto.codec import LoopbackWire

if TYPE_CHECKING:
    import random
    from collections import Counter

__all__ = ["Group", "Linked", "Nodes", "group_of"]

LINKED = Path(__file__).parents[1] / "e2e" / "linked_program.py"
STEPS, EVERY = 300, 20
NODES: dict[str, Any] = {
    "workers": 2,
    "ranks": 2,
    "problem": {"name": "digits_transformer", "attack": "fgsm", "batch_size": 8, "precision": "float64"},
    "data": {"source": "digits"},
    "method": {
        "name": "compressed_adamw",
        "step_size": 0.003,
        "late": True,
        "up": {"name": "nearest_int4"},
        "down": {"name": "top_k", "fraction": 0.1},
    },
    "stop": {"max_rounds": 120, "every": 10},
    "checkpoint": {"every": 10},
}


class Group:
    """Programs, each of which is started again where it has died.

    Args:
        folder: for what they write.
    """

    others: tuple[str, ...] = ()
    most = 0  # of `progress`

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        for name in ("server", *self.others):
            self.begin(name)

    def command(self, name: str) -> list[Any]:
        """How a program is started, for the first time or again."""
        raise NotImplementedError

    def progress(self) -> int:
        """How far the slowest has come, in steps or rounds."""
        raise NotImplementedError

    def again(self) -> list[str]:
        """How a server goes on with the run of the one before it, if there was one."""
        return ["--resume"] if (self.folder / "run").exists() else []

    def check(self) -> str:
        """The digest of the end, which is that of an undisturbed run as far as this can be known here."""
        raise NotImplementedError

    def begin(self, name: str) -> None:
        """Start a program."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        with (self.folder / f"{name}.log").open("ab") as log:
            command = [sys.executable, *map(str, self.command(name))]
            self.processes[name] = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def mend(self) -> bool:
        """Start again who has been killed; whether everybody has ended well."""
        for name, process in self.processes.items():
            if process.poll() == -signal.SIGKILL:
                self.begin(name)
        codes = [process.poll() for process in self.processes.values()]
        assert not any(codes), "\n".join(path.read_text(errors="replace")[-1500:] for path in self.folder.glob("*.log"))
        return None not in codes

    def end(self) -> None:
        """Nobody outlives a failure."""
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()


class Linked(Group):
    """Two training loops of somebody else, and the host between them."""

    others, most = ("0", "1"), STEPS

    def command(self, name: str) -> list[Any]:
        if name != "server":
            return [LINKED, name, self.address, self.folder / f"{name}.pt", STEPS]
        given = ["--workers", 2, "--address", self.address, "--on-lost", "pause", "--out", self.folder / "run"]
        return ["-m", "saddlebag", "host", *given, *self.again()]

    def progress(self) -> int:
        return min(self._said(name).count("step ") * EVERY for name in self.others)

    def _said(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def check(self) -> str:
        """Both end on the same bits, after as many rounds as there were to be."""
        result = json.loads((self.folder / "run" / "result.json").read_text())
        assert (result["reason"], result["rounds"]) == ("done", STEPS // 2), result
        found = {self._said(name).split()[-1] for name in self.others}
        assert len(found) == 1, "the programs ended on different bits"
        return found.pop()


class Nodes(Group):
    """A server and two workers, each of which is two ranks under torchrun."""

    others, most = ("node-0", "node-1"), NODES["stop"]["max_rounds"]

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self.job = recipe_from_dict({**NODES, "seed": rng.randrange(1000)})
        (folder / "recipe.toml").write_text(self.job.to_toml())
        super().__init__(folder)

    def command(self, name: str) -> list[Any]:
        file = self.folder / "recipe.toml"
        if name == "server":
            return ["-m", "saddlebag", "server", file, "--address", self.address, "--out", self.folder / "run", *self.again()]
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2, "--max-restarts", 50]
        node = ["-m", "saddlebag", "node", file, "--server", self.address, "--worker", name[-1]]
        return [*torchrun, *node, "--out", self.folder / name]

    def progress(self) -> int:
        with contextlib.suppress(OSError, IndexError, ValueError):
            return int(json.loads((self.folder / "run" / "metrics.jsonl").read_text().splitlines()[-1])["round"])
        return 0

    def check(self) -> str:
        """The digest and the bytes of `simulate()`, in one epoch."""
        problem: Any = build_problem(self.job)
        method = build_method(resolve(self.job, problem), problem)
        expected = simulate(problem, method, seed=self.job.seed, stop=self.job.stop, wire=LoopbackWire())
        result = json.loads((self.folder / "run" / "result.json").read_text())
        found = result["digest"], result["rounds"], result["up_bytes"], result["down_bytes"], result["ledger"]["epochs"]
        wanted = f"{digest(expected.replica):016x}", expected.rounds, expected.up_bytes, expected.down_bytes, 1
        assert found == wanted, "another trajectory"
        return wanted[0]


def group_of(what: str, instants: int, rng: random.Random, folder: Path) -> Counter[str]:
    """Linked programs, or nodes of two ranks, hit so many times at most; returns what was hit."""
    hits = Hits(rng)
    group = Linked(folder) if what == "link" else Nodes(folder, rng)
    moments = sorted(rng.uniform(0.0, 0.8) * group.most for _ in range(instants))
    try:
        while not group.mend():
            time.sleep(0.02)
            hits.go_on()
            if moments and group.progress() >= moments[0]:
                moments.pop(0)
                name = rng.choice(list(group.processes))
                victim = rng.choice(list(family(group.processes[name].pid)))
                rank = victim != group.processes[name].pid
                hits.hit(victim, "a rank" if rank else "program" if name in "01" else name.partition("-")[0])
    finally:
        hits.go_on(now=True)
        group.end()
    assert group.check() == _undisturbed(what, folder) or what == "node", "another end"
    return hits.counted


_ends: dict[str, str] = {}


def _undisturbed(what: str, folder: Path) -> str:
    """How linked programs end that nobody hits; found once."""
    if what == "link" and what not in _ends:
        (folder / "calm").mkdir()
        calm = Linked(folder / "calm")
        try:
            until(calm.mend, "an undisturbed run")
        finally:
            calm.end()
        _ends[what] = calm.check()
    return _ends.get(what, "")
