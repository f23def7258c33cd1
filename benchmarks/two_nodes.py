"""A recipe on machines that are none: network namespaces with a torchrun each, gloo inside, gRPC with TLS between them.

    python benchmarks/two_nodes.py launch/recipes/digits_transformer.toml                     # two machines of two ranks
    python benchmarks/two_nodes.py RECIPE --set stop.max_iterations=100 --rate-mbit 100 --kill --check

Every machine runs launch/torchrun.sh as a real one would; machine 0 serves beside its ranks. `--kill` takes the power of the
last machine after a third of the iterations, and kills the server and a rank of machine 0 after two thirds; all are started
again. `--check` computes the same with `simulate` in this process and compares bits. Needs root, iproute2 and openssl.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import ONE_THREAD, Row, progress, show
from namespaces import namespaces, unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from namespaces import Namespace

    from saddlebag.launch.recipe.recipe import Recipe

ROOT = Path(__file__).resolve().parent.parent
PORT = 7777
_POLL_S = 0.05


def missing() -> str | None:
    """Why this machine cannot do it; None when it can."""
    for command in ("saddlebag", "torchrun"):
        if not Path(sys.executable).with_name(command).exists():
            return f"{command} is not installed beside the interpreter"
    return unavailable() or (None if shutil.which("openssl") else "there is no command 'openssl' to make certificates")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cluster:
    """Machines that train one recipe.

    Attributes:
        machines: one for each worker of the recipe.
        ranks: processes on each.
        folder: of logs, certificates and results; a disk that all machines see and that outlives them.
    """

    machines: Sequence[Namespace]
    ranks: int
    folder: Path

    @property
    def result(self) -> Path:
        """The server's folder."""
        return self.folder / "out" / "server"

    def prepare(self, recipe: Recipe) -> None:
        """Write the recipe, and a certificate for machine 0, signed by itself."""
        (self.folder / "recipe.toml").write_text(recipe.to_toml())
        names = ["-subj", "/CN=saddlebag", "-addext", f"subjectAltName=IP:{self.machines[0].address}"]
        files = ["-keyout", str(self.folder / "key.pem"), "-out", str(self.folder / "certificate.pem")]
        kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        subprocess.run(["openssl", "req", "-x509", *kind, *names, *files], check=True, capture_output=True)

    def start(self, number: int) -> subprocess.Popen[Any]:
        """launch/torchrun.sh on one machine; its output goes to a log."""
        own, path = self.folder / "certificate.pem", (str(Path(sys.executable).parent), os.environ["PATH"])
        environment = {
            **os.environ,
            **ONE_THREAD,
            "PATH": os.pathsep.join(path),
            "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
            "PYTHONWARNINGS": "ignore",
            "NODE": str(number),
            "SERVER": f"{self.machines[0].address}:{PORT}",
            "RECIPE": str(self.folder / "recipe.toml"),
            "RANKS": str(self.ranks),
            "OUT": str(self.folder / "out"),
            "SERVER_FLAGS": f"--tls-cert {own} --tls-key {self.folder / 'key.pem'}",
            "NODE_FLAGS": f"--tls-ca {own}",
            "SADDLEBAG_TOKEN": "secret",
        }
        with (self.folder / f"{number}.log").open("ab") as log:
            return self.machines[number].popen([str(ROOT / "launch" / "torchrun.sh")], env=environment, stdout=log, stderr=log)

    def run(self, timeout_s: float, disturb: Callable[[Cluster, list[subprocess.Popen[Any]]], None] | None = None) -> Row:
        """Train to the end, and return the server's result; `disturb` may kill and replace scripts meanwhile.

        Raises:
            RuntimeError: a script failed or did not end; the message holds the logs.
        """
        scripts = [self.start(number) for number in range(len(self.machines))]
        try:
            if disturb is not None:
                disturb(self, scripts)
            for script in scripts:
                script.wait(timeout_s)
        except (subprocess.TimeoutExpired, TimeoutError) as error:
            raise RuntimeError(f"{error}\n{self.logs()}") from error
        if any(script.returncode for script in scripts):
            raise RuntimeError(f"exit codes {[script.returncode for script in scripts]}\n{self.logs()}")
        result: Row = json.loads((self.result / "result.json").read_text())
        return result

    def logs(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-4000:] for path in sorted(self.folder.glob("*.log")))

    def done(self) -> int:
        """Iterations so far, as the server's file says now and then."""
        with contextlib.suppress(OSError, ValueError):
            return int(json.loads((self.result / "progress.json").read_text())["iteration"])
        return 0

    def until(self, iterations: int, timeout_s: float) -> None:
        """Wait for so many iterations; TimeoutError where they do not come."""
        deadline = time.monotonic() + timeout_s
        while self.done() < iterations:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{iterations} iterations did not come within {timeout_s:g} s")
            time.sleep(_POLL_S)


def kill(cluster: Cluster, scripts: list[subprocess.Popen[Any]], iterations: int, timeout_s: float) -> None:
    """Take the power of the last machine after a third of the iterations; after two thirds kill the server and a rank."""
    last = len(scripts) - 1
    cluster.until(iterations // 3, timeout_s)
    progress(f"machine {last} loses its power")
    cluster.machines[last].kill()
    scripts[last].wait()
    scripts[last] = cluster.start(last)
    cluster.until(2 * iterations // 3, timeout_s)
    progress("the server and a rank of machine 0 are killed")
    for part in ("saddlebag server", "saddlebag node"):
        os.kill(_youngest(cluster.machines[0], part), 9)


def _youngest(machine: Namespace, part: str) -> int:
    """The process of a machine with a command like this that started last: a rank, not the torchrun that started it."""
    found = {}
    for pid in machine.pids():
        with contextlib.suppress(OSError):
            if part in Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " "):
                found[int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])] = pid
    return found[max(found)]


def simulated(recipe: Recipe) -> str:
    """The digest with which the reference driver ends."""
    from saddlebag.algorithms import digest, simulate
    from saddlebag.launch.build import build_method, build_problem, resolve
    from saddlebag.proto.codec import LoopbackWire

    problem = build_problem(recipe)
    method = build_method(resolve(recipe, problem), problem)
    replica = simulate(problem, method, seed=recipe.seed, stop=recipe.stop, wire=LoopbackWire()).replica
    return f"{digest(replica):016x}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--set", dest="sets", action="append", default=[], metavar="KEY=VALUE", help="override a key")
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rate-mbit", type=float, help="of every machine's link, both ways")
    parser.add_argument("--timeout", type=float, default=3600.0, help="seconds")
    parser.add_argument("--kill", action="store_true", help="machines and processes in mid-run")
    parser.add_argument("--check", action="store_true", help="compare with simulate, bit for bit")
    parser.add_argument("--markdown", action="store_true", help="print tables as markdown")
    options = parser.parse_args()
    if (reason := missing()) is not None:
        raise SystemExit(reason)
    os.environ.update(ONE_THREAD)  # before numpy and torch are imported: the bits of a sum depend on the number of threads
    from saddlebag.launch.recipe.recipe import load_recipe

    sets = [f"workers={options.nodes}", f"ranks={options.ranks}", *options.sets]
    recipe = load_recipe(options.recipe, [*sets, *(["checkpoint.every=20"] if options.kill else [])])
    with tempfile.TemporaryDirectory() as name, namespaces(options.nodes, rate_mbit=options.rate_mbit) as machines:
        cluster = Cluster(machines=machines, ranks=options.ranks, folder=Path(name))
        cluster.prepare(recipe)
        progress(f"{options.nodes} machines of {options.ranks} ranks")
        if options.kill and recipe.stop.max_iterations is None:
            raise SystemExit("--kill needs stop.max_iterations")
        ends = recipe.stop.max_iterations or 0
        disturb = functools.partial(kill, iterations=ends, timeout_s=options.timeout) if options.kill else None
        begin = time.monotonic()
        result = cluster.run(options.timeout, disturb)
        tell(cluster, result, time.monotonic() - begin, options.markdown)
    if options.check:
        progress("simulate")
        same = simulated(recipe) == result["digest"]
        print(f"the bits of simulate: {'the same' if same else 'OTHERS'}")
        raise SystemExit(not same)


def tell(cluster: Cluster, result: Row, took_s: float, markdown: bool) -> None:
    lines = [json.loads(line) for line in (cluster.result / "metrics.jsonl").read_text().splitlines()]
    names = list(result["merits"])
    told = [[str(line["iteration"]), *(f"{line['merits'][name]:.4f}" for name in names)] for line in lines]
    show("Judged on the way", ("iterations", *names), told, markdown=markdown)
    workers = len(cluster.machines)
    each = [json.loads((cluster.folder / "out" / f"node-{n}" / f"worker-{n}.json").read_text()) for n in range(workers)]
    names = ["compute", "compress", "exchange", "apply"]
    parts = [[str(w["worker"]), *(f"{1e3 * w[f'{name}_s'] / max(w['rounds'], 1):.1f}" for name in names)] for w in each]
    show("A round of each worker, ms", ("worker", *names), parts, markdown=markdown)
    ways = ", ".join(f"{result[f'{way}_bytes'] / result['rounds'] / workers:,.0f} B {way}" for way in ("up", "down"))
    sent = sum(machine.transmitted_bytes() for machine in cluster.machines[1:])
    print(f"{result['rounds']} rounds; from the start of the first process to the end of the last {took_s:.1f} s")
    print(f"a round and worker: {ways}")
    print(f"left the machines but the first, with all headers: {sent:,} B; digest {result['digest']}")


if __name__ == "__main__":
    main()
