"""What compression and exchange cost beside the steps of a network, and what the ranks of a node cost one another.

    python benchmarks/bench_node.py                     # both tables, some 8 minutes on 2 cores
    python benchmarks/bench_node.py --only networks --text WIKITEXT_FOLDER
    python benchmarks/bench_node.py --only ranks --ranks 8 --dimensions 18000000

Every rank is a process of torchrun on this machine with one thread, gloo between them, a server beside the node, all on
loopback. The networks are those of `launch/recipes`, on one node: how a round of its leader divides, not compressed, compressed
as the recipe says, and with late workers, whose operator is computed while an exchange goes on. ALBERT reads made-up
words where no text is given; only the time of its steps matters here.

In the table of ranks a value of the operator whose parts cost nothing is what the node costs: the point out, the sum of the
parts in, float64 or, as networks do, float32. torch's broadcast and reduce of as many float64 values, in turns with it in the
same processes, say what the backend can do.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import LOOPBACK, ONE_THREAD, Row, add_output_options, free_port, interleaved, progress, save, show, spread

ROOT = Path(__file__).resolve().parent.parent
_TIMEOUT_S = 600.0
_IN_A_TURN = 5
NETWORKS = {"digits transformer": "digits_transformer", "ALBERT-tiny": "albert_wikitext2"}
NONE = ('method.up={name="identity"}', 'method.down={name="identity"}')
WAYS = {"none": NONE, "as the recipe says": (), "the same, late": ("method.late=true",)}
PARTS = ("compute", "compress", "exchange", "apply")


def environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {**os.environ, **ONE_THREAD, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore", "GLOO_SOCKET_IFNAME": "lo"}


def torchrun(ranks: int, *program: str) -> list[str]:
    agent = ["--standalone", "--local-addr", LOOPBACK, "--nproc-per-node", str(ranks)]
    return [sys.executable, "-m", "torch.distributed.run", *agent, *program]


# -- networks ------------------------------------------------------------------------------------------------------------


def network(name: str, ranks: int, way: str, rounds: int, text: Path, folder: Path) -> Row:
    """One node that trains a network with a server beside it: milliseconds of a round by what they went to."""
    recipe, out = ROOT / "launch" / "recipes" / f"{NETWORKS[name]}.toml", Path(tempfile.mkdtemp(dir=folder))
    sets = ["workers=1", f"stop.max_iterations={rounds}", f"stop.every={rounds}", "checkpoint.every=0", *WAYS[way]]
    if NETWORKS[name].startswith("albert"):
        sets += [f"data.source={text}", "problem.judged=8"]
    given = [str(recipe), *(word for key in sets for word in ("--set", key))]
    address = f"{LOOPBACK}:{free_port()}"
    server = [sys.executable, "-m", "saddlebag", "server", *given, "--address", address, "--out", str(out)]
    node = torchrun(ranks, "-m", "saddlebag", "node", *given, "--server", address, "--out", str(out))
    progress(f"{name}, {ranks} ranks, compression {way}")
    with contextlib.ExitStack() as stack:
        log = stack.enter_context((out / "log").open("wb"))
        served = stack.enter_context(subprocess.Popen(server, stdout=log, stderr=log, env=environment()))
        stack.callback(served.kill)
        if subprocess.run(node, stdout=log, stderr=log, env=environment(), timeout=_TIMEOUT_S, check=False).returncode:
            raise SystemExit((out / "log").read_text()[-4000:])
        served.wait(_TIMEOUT_S)
    from saddlebag.launch.drivers.supervisor import PHASES

    files = (PHASES.format(0), "node-0.json", "result.json")
    phases, inside, result = (json.loads((out / file).read_text()) for file in files)
    phases["exchange_s"] -= result["evaluate_s"]  # the worker waited for it
    each_ms = {part: 1e3 * phases[f"{part}_s"] / phases["rounds"] for part in PARTS}
    each_ms |= {part: 1e3 * inside[f"{part}_s"] / inside["evaluations"] for part in ("evaluate", "inside")}
    each_ms |= {"server": 1e3 * result["server_s"] / rounds, "round": sum(each_ms[part] for part in PARTS)}
    sizes = {f"{way}_bytes": phases[f"{way}_bytes"] / rounds for way in ("up", "down")}
    return {"network": name, "ranks": ranks, "compression": way, "rounds": rounds, **each_ms, **sizes}


def made_up(path: Path) -> Path:
    """A text of made-up words, some of them often: enough for a vocabulary of the usual size."""
    chance = random.Random(0)
    words = ["".join(chance.choices("etaoinshrdlu", k=chance.randint(2, 9))) for _ in range(20_000)]
    often = [1.0 / (rank + 10) for rank in range(len(words))]
    lines = (" ".join(chance.choices(words, often, k=40)) for _ in range(3_000))
    path.write_text("\n".join(lines) + "\n")
    return path


def show_networks(rows: list[Row], markdown: bool) -> None:
    columns = {
        "a round": "round",
        "own part": "evaluate",
        "between ranks": "inside",
        "waits for the operator": "compute",
        "compress": "compress",
        "exchange": "exchange",
        "of it server": "server",
        "apply": "apply",
    }
    header = ("network", "ranks", "compression", *columns, "kB up", "kB down", "beyond the own part")
    told = []
    for key in dict.fromkeys((row["network"], row["ranks"], row["compression"]) for row in rows):
        same = [row for row in rows if (row["network"], row["ranks"], row["compression"]) == key]
        ms = [f"{statistics.median(row[part] for row in same):.1f}" for part in columns.values()]
        sizes = [f"{statistics.median(row[size] for row in same) / 1e3:.0f}" for size in ("up_bytes", "down_bytes")]
        shares = [100 * (1 - row["evaluate"] / row["round"]) for row in same]
        told.append([key[0], str(key[1]), key[2], *ms, *sizes, f"{spread(shares, 0)} %"])
    show("A round of a node's leader, ms", header, told, markdown=markdown)


# -- ranks ---------------------------------------------------------------------------------------------------------------


def measure(dimension: int, turns: int, out: Path) -> None:
    """One rank: values of the node's operator, and torch's broadcast and reduce, in turns; the leader writes milliseconds."""
    import numpy as np
    import torch
    import torch.distributed as dist

    from saddlebag.client.group import NodeGroup, process_group
    from saddlebag.compression import Draws
    from saddlebag.launch.drivers.place import here

    class Narrow:
        """A part as networks have them: its value is a tensor of float32."""

        exact_dtype = torch.float32
        value_D = torch.ones(dimension)

        def __call__(self, z_D: Any, draws: Draws) -> Any:
            raise NotImplementedError

        def on_device(self, z_D: torch.Tensor, draws: Draws) -> torch.Tensor:
            return self.value_D

    place, value_D, z_D = here(), np.ones(dimension), np.zeros(dimension)
    parts: dict[str, Any] = {"float64": lambda z_D, draws: value_D, "float32": Narrow()}
    other = torch.ones(dimension, dtype=torch.float64)
    took: dict[str, list[float]] = {name: [] for name in (*parts, "torch")}
    store = place.node_store(_TIMEOUT_S)
    with process_group(store, rank=place.local_rank, ranks=place.local_ranks, timeout_s=_TIMEOUT_S) as group:
        nodes = {name: NodeGroup(group, timeout_s=_TIMEOUT_S) for name in parts}
        for _ in range(turns):
            for name, part in parts.items():
                if place.local_rank:
                    nodes[name].follow(part, dimension)
                    continue
                ask = nodes[name].operator(part)
                for _ in range(_IN_A_TURN):
                    begin = time.perf_counter()
                    ask(z_D, Draws(0, 0, 0))
                    took[name].append(1e3 * (time.perf_counter() - begin))
                nodes[name].stop()
            for _ in range(_IN_A_TURN):
                begin = time.perf_counter()
                dist.broadcast(other, 0)
                dist.reduce(other, 0)
                took["torch"].append(1e3 * (time.perf_counter() - begin))
                other.fill_(1.0)
    if not place.local_rank:
        out.write_text(json.dumps(took))


def groups(ranks: list[int], dimensions: list[int], turns: int, folder: Path) -> list[Row]:
    rows: list[Row] = []
    for count in ranks:
        for dimension in dimensions:
            progress(f"{count} ranks, {dimension:,} coordinates")
            out = folder / "took.json"
            own = [str(Path(__file__).resolve()), "--rank-of", str(dimension), "--turns", str(turns), "--json", str(out)]
            subprocess.run(torchrun(count, *own), env=environment(), check=True, stderr=subprocess.DEVNULL)
            rows.append({"ranks": count, "dimension": dimension, **json.loads(out.read_text())})
    return rows


def show_groups(rows: list[Row], markdown: bool) -> None:
    names = ("float64", "float32", "torch")
    lines = [[str(row["ranks"]), f"{row['dimension']:,}", *(spread(row[name]) for name in names)] for row in rows]
    header = ("ranks", "coordinates", "a value, ms", "of float32 parts", "torch's broadcast and reduce")
    show("A value of the operator whose parts cost nothing", header, lines, markdown=markdown)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["networks", "ranks"])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--text", type=Path, help="a folder or file of text for ALBERT")
    parser.add_argument("--rounds", type=int, default=60, help="of a network")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--dimensions", type=int, nargs="+", default=[10_000, 1_000_000, 10_000_000])
    parser.add_argument("--turns", type=int, default=6, help=f"turns of {_IN_A_TURN} each")
    parser.add_argument("--rank-of", type=int, help=argparse.SUPPRESS)
    add_output_options(parser)
    options = parser.parse_args()
    if options.rank_of:
        measure(options.rank_of, options.turns, options.json)
        return
    nets: list[Row] = []
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.only != "ranks":
            text = options.text.resolve() if options.text else made_up(folder / "text.txt")
            cases = [(net, ranks, way) for net in options.networks for ranks in (1, 2) for way in WAYS]
            for _, case in interleaved(cases, options.repetitions):
                nets.append(network(*case, options.rounds, text, folder))
            nets.sort(key=lambda row: cases.index((row["network"], row["ranks"], row["compression"])))
            show_networks(nets, options.markdown)
        if options.only != "networks":
            rows = groups(options.ranks, options.dimensions, options.turns, folder)
            show_groups(rows, options.markdown)
    save(options.json, [*nets, *rows])


if __name__ == "__main__":
    main()
