"""Real processes, killed (SIGKILL) or stopped (SIGSTOP, then SIGCONT) at random instants; the end is that of a run left alone.

python tests/chaos/kills.py --instants 1000 --seed 0       over all drivers and families of methods, and the service
python tests/chaos/kills.py --instants 20 --only grpc      one of grpc, collective, service, link, node

A run is `saddlebag run` as people type it; its processes are victims: supervisor, nursery, server, workers, torchrun, ranks.
A killed supervisor takes its children along; the run is continued with --resume. What must hold at the end: exit 0, the digest
of `simulate()`, over gRPC its bytes and one epoch; of the service every prediction and account, and each label applied once; of
linked programs (`groups.py`) the bits of an undisturbed run; of nodes of two ranks those of `simulate()`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from groups import group_of
from victims import LONGEST_S, Hits, alive, family, name_of, until

from saddlebag.algorithms import digest, simulate
from saddlebag.client.groupwise.client import GroupwiseClient
from saddlebag.errors import PeerLost
from saddlebag.launch.build import build_method, build_problem
from saddlebag.launch.groupwise.serving import make_core
from saddlebag.launch.recipe.recipe import recipe_from_dict
from saddlebag.launch.rehearsal.scenarios import METHODS
from saddlebag.proto.codec import LoopbackWire

if TYPE_CHECKING:
    from collections.abc import Callable

INSTANTS = {"grpc": 24, "collective": 4, "service": 24, "link": 8, "node": 6}
"""Of one run."""
GAP_ROUNDS = {"grpc": (20, 120), "collective": (20, 60)}
SERVICE = """
[data]
source = "rows.csv"
[features]
numeric = ["age", "dose"]
intercept = true
scale = "none"
[label]
column = "outcome"
scale = "none"
[groups]
young = "age < 0.4"
high = "dose >= 0.5"
"""


def run_of(driver: str, method: str, instants: int, rng: random.Random, folder: Path) -> Counter[str]:
    """One run with so many instants at most; returns what was hit."""
    moments = [rng.randint(*GAP_ROUNDS[driver]) for _ in range(instants)]
    job = recipe_from_dict(
        {
            "workers": 3 if driver == "grpc" else 2,
            "seed": rng.randrange(1000),
            "problem": {"name": "bilinear", "n": 8, "regularisation": 0.2},
            "method": {**METHODS[method], **({} if driver == "grpc" else _fewer(METHODS[method]))},
            "stop": {"max_rounds": sum(moments) + 60, "every": 5},
            "checkpoint": {"every": rng.choice([1, 7, 25])},
            "driver": driver,
        }
    )
    (folder / "job.toml").write_text(job.to_toml())
    out, hits, reached = folder / "out", Hits(rng), 0
    metrics, begun = out / job.label / "metrics.jsonl", False

    def lines() -> int:
        with contextlib.suppress(OSError):
            return metrics.read_bytes().count(b"\n")
        return 0

    while True:
        command = [sys.executable, "-m", "saddlebag", "run", str(folder / "job.toml"), "--out", str(out), "--quiet"]
        with (folder / "log").open("ab") as log:
            run = subprocess.Popen([*command, *(["--resume"] if begun else [])], stdout=log, stderr=log)
        children: set[int] = set()
        while run.poll() is None:
            time.sleep(0.01)
            hits.go_on()
            begun = begun or (out / "recipe.toml").is_file()
            if begun and moments and 5 * lines() >= reached + moments[0]:
                reached += moments.pop(0)
                children = set(family(run.pid)) - {run.pid}
                victim = rng.choice([run.pid, *children, *children])
                hits.hit(victim, name_of(victim, run.pid))
        hits.go_on(now=True)
        until(lambda: not any(map(alive, children)), "the children of a killed supervisor")  # noqa: B023
        if run.returncode != -signal.SIGKILL:
            break
    assert run.returncode == 0, (folder / "log").read_text()[-2000:]
    _assert_undisturbed(job, json.loads((out / job.label / "result.json").read_text()))
    return hits.counted


def _fewer(method: dict[str, Any]) -> dict[str, Any]:
    """For two ranks, at most one of which takes part."""
    return {"participants": 1} if "participants" in method else {}


def _assert_undisturbed(job: Any, result: dict[str, Any]) -> None:
    problem = build_problem(job)
    expected = simulate(problem, build_method(job, problem), seed=job.seed, stop=job.stop, wire=LoopbackWire())
    assert result["digest"] == f"{digest(expected.replica):016x}", "another trajectory"
    assert result["rounds"] == expected.rounds
    if job.driver == "grpc":
        assert (result["up_bytes"], result["down_bytes"]) == (expected.up_bytes, expected.down_bytes)
        assert result["ledger"]["epochs"] == 1, "somebody had to begin anew"


class Served:
    """The prediction service as a process that is started again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """Its address."""
        place = self._folder / "service" / "address.json"
        place.unlink(missing_ok=True)
        command = [sys.executable, "-m", "saddlebag", "groupwise", "serve", str(self._folder / "recipe.toml")]
        command += ["--address", "127.0.0.1:0", "--out", str(place.parent), "--checkpoint-every", "10"]
        with (self._folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        process = self.process
        until(lambda: place.is_file() or process.poll() is not None, "the service")
        assert process.poll() is None, (self._folder / "log").read_text()[-2000:]
        return str(json.loads(place.read_text())["address"])

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid


def service_of(instants: int, rng: random.Random, folder: Path) -> Counter[str]:
    """The service under calls, hit so many times; returns what was hit."""
    dice, hits = np.random.default_rng(rng.randrange(1 << 30)), Hits(rng)
    table = "\n".join(",".join(f"{value:.6f}" for value in row) for row in dice.random((100, 3)))
    (folder / "rows.csv").write_text(f"age,dose,outcome\n{table}\n")
    (folder / "recipe.toml").write_text(SERVICE)
    reference, served = make_core(folder / "recipe.toml", [], max_rows=64, max_pending=1000), Served(folder)
    client = GroupwiseClient(served.start())

    def call(name: str, *arguments: Any) -> Any:
        """Repeat until it is answered."""
        nonlocal client
        while True:
            if hits.counted.total() < instants and rng.random() < 0.3:
                hits.hit(served.pid, "service")
            hits.go_on(now=rng.random() < 0.5)
            try:
                return getattr(client, name)(*arguments)
            except PeerLost:
                hits.go_on(now=True)
                assert served.process is not None
                if served.process.poll() is not None:
                    client.close()
                    client = GroupwiseClient(served.start(), identity=client.identity)

    batches = 0
    while hits.counted.total() < instants or batches < 5:
        batches += 1
        x_ND = np.column_stack((dice.random((8, 2)), np.ones(8)))
        member_NG = np.column_stack((x_ND[:, 0] < 0.4, x_ND[:, 1] >= 0.5, np.ones(8, bool)))
        label_N = dice.random(8)
        first, block = reference.predict(x_ND, member_NG)
        predicted = call("predict", x_ND, member_NG)
        assert np.array_equal(predicted.value_N, block.value_N), "another prediction"
        reference.feedback(range(first, first + 8), label_N)
        assert (call("feedback", predicted.ticket_N, label_N) <= 2).all(), "a label found no ticket"
    hits.go_on(now=True)
    report = client.report()
    expected = [(account.name, account.regret, account.bound) for account in reference.accounts()]
    assert [(account.name, account.regret, account.bound) for account in report.experts] == expected
    assert report.learned == 8 * batches, "a label was lost, or applied twice"
    client.close()
    assert served.process is not None
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(LONGEST_S) == 0
    return hits.counted


def tried(instants: int, seed: int, only: str = "", *, tell: Callable[[str], None] = lambda text: None) -> Counter[str]:
    """Runs until so many instants have been; returns what was hit, by driver.

    Raises:
        AssertionError: something did not end as the undisturbed run; its folder is left.
    """
    found: Counter[str] = Counter()
    methods, number, failures = sorted(METHODS), 0, 0
    while found.total() < instants:
        rng = random.Random(f"{seed}/{number}")
        what = only or ("grpc", "service", "grpc", "collective", "grpc", "link", "node")[number % 7]
        method = methods[number % len(methods)]
        folder = Path(tempfile.mkdtemp(prefix="kills-"))
        count = min(INSTANTS[what], instants - found.total())
        if what in ("link", "node"):
            hits = group_of(what, count, rng, folder)
        else:
            hits = service_of(count, rng, folder) if what == "service" else run_of(what, method, count, rng, folder)
        shutil.rmtree(folder)
        number += 1
        found.update({f"{what}: {key}": value for key, value in hits.items()})
        failures += not hits
        assert failures < 5, "runs end before anything is hit"
        tell(f"{found.total():,} instants; {what} {method if what in GAP_ROUNDS else ''}: {dict(hits)}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instants", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=sorted(INSTANTS), default="")
    asked = parser.parse_args()
    begin = time.monotonic()
    found = tried(asked.instants, asked.seed, asked.only, tell=lambda text: print(text, flush=True))
    print(f"{found.total():,} instants in {time.monotonic() - begin:.0f} s, every end that of the undisturbed run")
    for key, number in sorted(found.items()):
        print(f"  {number:5,}  {key}")


if __name__ == "__main__":
    main()
