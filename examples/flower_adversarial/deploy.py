"""This app in a deployment on this machine: a SuperLink with TLS, SuperNodes that authenticate. Ends with a table.

python deploy.py                     # 4 clients, all in every round; a round by Flower's messages takes seconds
python deploy.py --rounds 20 --plain --json
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from saddlebag.flower.progress import Tail, facts_table
from saddlebag.flower.trials.deployment import Deployment

HERE = Path(__file__).resolve().parent


def run(arguments: argparse.Namespace, folder: Path) -> dict[str, object]:
    """One run of the app; returns its results and when it was done."""
    deployment, output, lines = Deployment(folder, arguments.clients), folder / "result.json", folder / "lines.txt"
    tail = Tail(lines)
    config: dict[str, object] = {"clients": arguments.clients, "clients-per-round": arguments.clients}
    config |= {
        "num-server-rounds": arguments.rounds,
        "compress": not arguments.plain,
        "output": str(output),
        "lines": str(lines),
    }
    with deployment.up():
        begin_s = time.monotonic()
        deployment.run_app(HERE, config)
        result = deployment.await_result(output, arguments.timeout, lambda: show(tail))
        show(tail)
        return {"seconds": round(time.monotonic() - begin_s, 1), **result}


def show(lines: Tail) -> None:
    """Say how far the run has come since the last time."""
    for line in lines.fresh():
        sys.stderr.write(line + "\n")


def main() -> None:
    """Read the command line, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--plain", action="store_true", help="without compression")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds")
    parser.add_argument("--json", action="store_true", help="the results as one line of JSON, the vector included")
    parser.add_argument("--keep", type=Path, help="an empty folder for certificates and logs, kept afterwards")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        facts = run(arguments, folder.resolve())
        sys.stdout.write((json.dumps(facts) if arguments.json else facts_table(facts)) + "\n")


if __name__ == "__main__":
    main()
