"""Rounds per second in a Flower deployment, through Flower's messages and in a session, one after the other in one run.

A SuperLink with TLS and SuperNodes that authenticate, all on this machine; MASHA1 on the bilinear game.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
from pathlib import Path

from harness import Row, add_output_options, progress, save, show

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "examples" / "flower_group_robust"))

# ruff: noqa: E402
from deploy import Deployment, write_certificates, write_node_key

GOAL_MS = 5.0

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
recipe = ""
messages = 0
rounds = 0
folder = ""
output = ""
"""

CLIENT = """
from saddlebag.flower import method_app
app = method_app()
"""

SERVER = """
import json, time
from dataclasses import replace
from pathlib import Path
from flwr.serverapp import ServerApp
from saddlebag.flower import MethodStrategy, run_session
from saddlebag.launch.recipe import recipe_from_dict

app = ServerApp()


@app.main()
def main(grid, context):
    config = context.run_config
    table, folder, out = json.loads(Path(config["recipe"]).read_text()), Path(config["folder"]), {}
    for mode, rounds in (("messages", config["messages"]), ("session", config["rounds"])):
        at, begin = [], time.monotonic()
        recipe = recipe_from_dict({**table, "stop": {"max_rounds": rounds, "every": 1}})
        observe = lambda record: at.append((record.round, time.monotonic() - begin))
        if mode == "messages":
            MethodStrategy(recipe, observe=observe).start(grid=grid)
        else:
            files = {"certificate": folder / "server.crt", "key": folder / "server.key", "ca": folder / "ca.crt"}
            run_session(grid, recipe, observe=observe, **files)
        out[mode] = {"ends": at, "total": time.monotonic() - begin}
    Path(config["output"]).write_text(json.dumps(out))
"""


def run(folder: Path, options: argparse.Namespace) -> list[Row]:
    write_certificates(folder)
    for node in range(options.clients):
        write_node_key(folder, node)
    (folder / "app" / "timed").mkdir(parents=True)
    files = {"pyproject.toml": PYPROJECT, "timed/__init__.py": "", "timed/client_app.py": CLIENT, "timed/server_app.py": SERVER}
    for name, text in files.items():
        (folder / "app" / name).write_text(text)
    compressor = {"name": "identity"} if options.dense else {"name": "rand_k", "fraction": 0.1}
    recipe = {
        "workers": options.clients,
        "problem": {"name": "bilinear", "n": options.dimension // 2, "regularisation": 0.2},
        "method": {"name": "masha1", "step_size": 0.01, "probability": 0.1, "up": compressor, "down": {"name": "identity"}},
    }
    (folder / "recipe.json").write_text(json.dumps(recipe))
    output = folder / "result.json"
    config = {"recipe": str(folder / "recipe.json"), "messages": options.messages, "rounds": options.rounds}
    config |= {"folder": str(folder), "output": str(output)}
    with Deployment(folder, options.clients).up() as deployment:
        begin_s = time.monotonic()
        text = " ".join(f"{key}={json.dumps(value)}" for key, value in config.items())
        deployment.flwr("run", str(folder / "app"), "here", "--run-config", text)
        while not output.exists() or not output.stat().st_size:
            if time.monotonic() - begin_s > options.timeout:
                raise SystemExit(f"no result within {options.timeout} s: {deployment.flwr('ls', 'here', '--format=json')}")
            time.sleep(0.5)
        time.sleep(0.5)
    rows: list[Row] = []
    for mode, found in json.loads(output.read_text()).items():
        ends_s = [second for _, second in found["ends"]]
        took_ms = sorted(1e3 * (b - a) for a, b in itertools.pairwise(ends_s[1:]))
        middle, late = took_ms[len(took_ms) // 2], took_ms[len(took_ms) * 95 // 100]
        row = {"contender": mode, "p50_ms": middle, "p95_ms": late, "first_s": ends_s[1], "total_s": found["total"]}
        rows.append({**row, "rounds": len(took_ms)})
        progress(str(rows[-1]))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--dimension", type=int, default=1000)
    parser.add_argument("--messages", type=int, default=8, help="rounds through Flower's messages")
    parser.add_argument("--rounds", type=int, default=500, help="rounds of the session")
    parser.add_argument("--dense", action="store_true", help="no compressor")
    parser.add_argument("--timeout", type=float, default=400.0, help="seconds")
    add_output_options(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = run(Path(folder).resolve(), options)
    lines = [
        [row["contender"], *(f"{row[key]:.2f}" for key in ("p50_ms", "p95_ms", "first_s")), f"{1e3 / row['p50_ms']:.3g}"]
        for row in rows
    ]
    title = f"Deployment, TLS, {options.clients} SuperNodes, d = {options.dimension} (goal in a session: below {GOAL_MS:g} ms)"
    show(title, ["rounds by", "p50 ms", "p95 ms", "first round s", "rounds/s"], lines, markdown=options.markdown)
    save(options.json, rows)


if __name__ == "__main__":
    main()
