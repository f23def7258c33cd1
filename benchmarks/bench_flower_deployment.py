"""Rounds per second in a Flower deployment, through Flower's messages and in a session, one after the other in one run.

A SuperLink with TLS and SuperNodes that authenticate, all on this machine. Two cases: MASHA1 on the bilinear game at d = 1,000,
and the optimistic gradient at d = 1,000,000 with dense float32 vectors both ways, on a separable problem whose operator is
one pass. Beside the session, the same bytes over bare gRPC streams with TLS between the same processes (`streams.py`): what
is left for a session to gain.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from pathlib import Path
from typing import Any

from harness import Row, add_output_options, progress, save, show, verdict

from saddlebag.flower.trials.deployment import Deployment

SMALL, LARGE = 1_000, 1_000_000
GOALS_MS = (5.0, 25.0)

PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "saddlebag-timed"
version = "1.0.0"
license = "Apache-2.0"
dependencies = ["saddlebag[flower]"]
[tool.flwr.app]
publisher = "saddlebag"
[tool.flwr.app.components]
serverapp = "timed.server_app:app"
clientapp = "timed.client_app:app"
[tool.flwr.app.config]
cases = ""
folder = ""
output = ""
"""

PROBLEM = """
import numpy as np
from saddlebag.algorithms.problems import PROBLEMS


class Separable:
    name, unconstrained, constants = "separable", True, None

    def __init__(self, data, *, num_workers, dimension):
        self.num_workers, self.dimension = num_workers, dimension

    def start(self):
        return np.zeros(self.dimension)

    def operator(self, worker):
        target_D = np.sin((worker + 1.0) * np.arange(self.dimension))
        return lambda z_D, draws: z_D - target_D

    def prox(self, v_D, step_size):
        return v_D

    def merits(self, z_D):
        target_K = np.mean([np.sin((m + 1.0) * np.arange(1000)) for m in range(self.num_workers)], axis=0)
        return {"distance_of_1000": float(np.linalg.norm(z_D[:1000] - target_K))}


PROBLEMS["separable"] = Separable
"""

CLIENT = """
import tempfile
from pathlib import Path
import timed.problem
from flwr.app import ConfigRecord, Message, RecordDict
from saddlebag.flower import method_app
from saddlebag.proto.endpoint import ClientSecurity
from timed import streams

app = method_app()


@app.train("streams")
def step(message, context):
    asked = message.content["asked"]
    with tempfile.TemporaryDirectory() as folder:
        ca = Path(folder) / "ca.crt"
        ca.write_text(asked["ca"])
        streams.work(asked["address"], asked["rounds"], asked["bytes"], ClientSecurity(ca=ca))
    return Message(RecordDict({"asked": ConfigRecord({"done": True})}), reply_to=message)
"""

SERVER = """
import json, threading, time
from pathlib import Path
import timed.problem
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import ServerApp
from saddlebag.proto.endpoint import ServerSecurity
from timed import streams
from saddlebag.flower import MethodStrategy, run_session
from saddlebag.launch.recipe.recipe import recipe_from_dict

app = ServerApp()


def bare(grid, workers, rounds, num_bytes, files):
    ends, bound, ready = [], [], threading.Event()
    security = ServerSecurity(certificate=files["certificate"], key=files["key"])
    listening = lambda address: (bound.append(address), ready.set())
    serve = lambda: ends.extend(streams.serve(workers, rounds, num_bytes, security, listening))
    thread = threading.Thread(target=serve)
    thread.start()
    ready.wait()
    asked = {"address": bound[0], "rounds": rounds, "bytes": num_bytes, "ca": files["ca"].read_text()}
    nodes = list(grid.get_node_ids())
    grid.push_messages([Message(RecordDict({"asked": ConfigRecord(asked)}), node, "train.streams") for node in nodes])
    thread.join()
    return ends


@app.main()
def main(grid, context):
    config = context.run_config
    cases, folder, out = json.loads(Path(config["cases"]).read_text()), Path(config["folder"]), []
    files = {"certificate": folder / "server.crt", "key": folder / "server.key", "ca": folder / "ca.crt"}
    for case in cases:
        for mode in ("messages", "session", "bare streams"):
            if not case[mode]:
                continue
            at, begin = [], time.monotonic()
            if mode == "bare streams":
                ends = bare(grid, case["recipe"]["workers"], case[mode], case["bytes"], files)
                at = [(number, second - begin, 0.0) for number, second in enumerate(ends)]
                out.append({"case": case["case"], "mode": mode, "ends": at, "total": time.monotonic() - begin})
                continue
            recipe = recipe_from_dict({**case["recipe"], "stop": {"max_rounds": case[mode], "every": case["every"]}})
            observe = lambda record: at.append((record.round, time.monotonic() - begin, list(record.merits.values())[0]))
            if mode == "messages":
                MethodStrategy(recipe, observe=observe).start(grid=grid)
            else:
                run_session(grid, recipe, observe=observe, **files)
            out.append({"case": case["case"], "mode": mode, "ends": at, "total": time.monotonic() - begin})
    Path(config["output"]).write_text(json.dumps(out))
"""


def cases(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Recipes, and how many rounds of each by messages and in a session."""
    sparse, dense = {"name": "rand_k", "fraction": 0.1}, {"name": "identity"}
    small = {
        "workers": options.clients,
        "problem": {"name": "bilinear", "n": SMALL // 2, "regularisation": 0.2},
        "method": {"name": "masha1", "step_size": 0.01, "probability": 0.1, "up": sparse, "down": dense},
    }
    large = {
        "workers": options.clients,
        "problem": {"name": "separable", "dimension": LARGE},
        "method": {"name": "ogda", "step_size": 0.1},
    }
    both = [
        {"case": f"d = {SMALL:,}", "recipe": small, "messages": options.messages, "session": options.rounds, "bytes": 400},
        {
            "case": f"d = {LARGE:,}, dense",
            "recipe": large,
            "messages": options.messages // 2,
            "session": options.rounds // 4,
            "bytes": 4 * LARGE,
        },
    ]
    for case in both:
        case["bare streams"], case["every"] = case["session"], options.every
    return [case for case, name in zip(both, ("small", "large"), strict=True) if options.only in (None, name)]


def run(folder: Path, options: argparse.Namespace) -> list[Row]:
    (folder / "app" / "timed").mkdir(parents=True)
    files = {"pyproject.toml": PYPROJECT, "timed/__init__.py": "", "timed/problem.py": PROBLEM}
    files |= {"timed/client_app.py": CLIENT, "timed/server_app.py": SERVER}
    files["timed/streams.py"] = (Path(__file__).parent / "streams.py").read_text()
    for name, text in files.items():
        (folder / "app" / name).write_text(text)
    (folder / "cases.json").write_text(json.dumps(cases(options)))
    output = folder / "result.json"
    config = {"cases": str(folder / "cases.json"), "folder": str(folder), "output": str(output)}
    with Deployment(folder, options.clients).up() as deployment:
        deployment.run_app(folder / "app", config)
        found = deployment.await_result(output, options.timeout)
    rows: list[Row] = []
    for each in found:
        ends = [(round_, second) for round_, second, _ in each["ends"]]
        took_ms = sorted(1e3 * (b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(ends[1:]))
        middle, late = took_ms[len(took_ms) // 2], took_ms[len(took_ms) * 95 // 100]
        row: Row = {"contender": f"{each['case']}, {each['mode']}", "case": each["case"], "mode": each["mode"]}
        row |= {"p50_ms": middle, "p95_ms": late, "first_s": ends[1][1], "total_s": each["total"], "rounds": len(took_ms)}
        rows.append({**row, "merit": each["ends"][-1][2]})
        progress(str(rows[-1]))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--messages", type=int, default=8, help="rounds through Flower's messages; half as many at d = 1M")
    parser.add_argument("--rounds", type=int, default=500, help="rounds of the session; a quarter at d = 1M")
    parser.add_argument("--every", type=int, default=1, help="rounds between evaluations, during which workers wait")
    parser.add_argument("--only", choices=("small", "large"))
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds")
    add_output_options(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = run(Path(folder).resolve(), options)
    lines = [
        [
            row["case"],
            row["mode"],
            *(f"{row[key]:.2f}" for key in ("p50_ms", "p95_ms", "first_s")),
            f"{1e3 / row['p50_ms']:.3g}",
        ]
        for row in rows
    ]
    title = f"Deployment, TLS, {options.clients} SuperNodes"
    show(title, ["case", "rounds by", "p50 ms", "p95 ms", "first round s", "rounds/s"], lines, markdown=options.markdown)
    sessions = [row for row in rows if row["mode"] == "session"]
    goals = [
        [row["case"], f"{row['p50_ms']:.2f}", f"<= {goal:g}", verdict([row["p50_ms"]], goal, at_least=False)]
        for row in sessions
        for goal in [GOALS_MS["dense" in row["case"]]]
    ]
    show("A session's round", ["case", "p50 ms", "goal", ""], goals, markdown=options.markdown)
    save(options.json, rows)


if __name__ == "__main__":
    main()
