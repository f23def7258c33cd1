"""This app in a deployment on this machine: a SuperLink with TLS, SuperNodes that authenticate.

    python deploy.py                                  # a session
    python deploy.py --mode messages --rounds 12      # a Flower message to each client and round
    python deploy.py --mode messages --kill 20        # one SuperNode is killed after 20 s, and started again

Shows the rounds' progress and ends with a table, or with one line of JSON by --json. Certificates and keys are made for this
run and live in a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from saddlebag.flower.progress import Tail, facts_table
from saddlebag.flower.trials.deployment import REJOIN_S, Deployment

HERE = Path(__file__).resolve().parent


def run(arguments: argparse.Namespace, folder: Path) -> dict[str, object]:
    """One run of the app; returns its results and when it was done."""
    deployment, output, lines = Deployment(folder, arguments.clients), folder / "result.json", folder / "lines.txt"
    tail = Tail(lines)
    config: dict[str, object] = {"mode": arguments.mode, "clients": arguments.clients, "max-rounds": arguments.rounds}
    config |= {"output": str(output), "lines": str(lines), "merit": arguments.merit, "every": arguments.every}
    config |= {f"session-{name}": str(path) for name, path in deployment.files.items()}
    with deployment.up():
        begin_s = time.monotonic()
        deployment.run_app(HERE, config)
        at_s = arguments.kill or float("inf")
        faults = [(at_s, lambda: deployment.kill_node(1)), (at_s + REJOIN_S, lambda: deployment.start_node(1))]

        def meanwhile() -> None:
            show(tail)
            if faults and time.monotonic() - begin_s > faults[0][0]:
                faults.pop(0)[1]()

        result = deployment.await_result(output, arguments.timeout, meanwhile)
        show(tail)
        return {"seconds": round(time.monotonic() - begin_s, 1), **result}


def show(lines: Tail) -> None:
    """Say how far the run has come since the last time."""
    for line in lines.fresh():
        sys.stderr.write(line + "\n")


def main() -> None:
    """Read the command line, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=("session", "messages"), default="session")
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--merit", type=float, default=0.01)
    parser.add_argument("--every", type=int, default=50, help="rounds between two records")
    parser.add_argument("--kill", type=float, default=0.0, help="seconds after which SuperNode 1 is killed; 0 for never")
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
