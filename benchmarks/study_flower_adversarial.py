"""The app `examples/flower_adversarial` on `InProcessGrid`: accuracy, accuracy under PGD-20, bytes each way, with and without.

The app as it is, 100 clients of which 10 take part in a round. Three seeds take about five minutes on two cores (`--jobs 2`).
`--table grids` compares steps of the grid down on pictures held out of the training ones, which is how it was chosen.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import functools
import json
import logging
import multiprocessing
import random
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any

APP = Path(__file__).resolve().parents[1] / "examples" / "flower_adversarial"
sys.path.insert(0, str(APP))  # the app under test

# ruff: noqa: E402
import torch
from adversarial_digits import task
from adversarial_digits.client_app import app as client_app
from adversarial_digits.server_app import app as server_app
from harness import Row, column, progress, show, spread

from saddlebag.algorithms.networks.images.pictures import Images
from saddlebag.flower import InProcessGrid

CONFIG: dict[str, Any] = tomllib.loads((APP / "pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]
MAIN = {"FedAvg": {"compress": False}, "compressed": {}}
GRIDS: dict[str, dict[str, Any]] = {
    "FedAvg": {"compress": False},
    **{f"1/{each} down": {"grid-down": 1 / each} for each in (2, 4, 8)},
}
COLUMNS = {"accuracy": 3, "robust": 3, "cpu_s": 0}
COLUMNS |= {f"{kind}{way}": digits for way in ("up", "down") for kind, digits in (("", 0), ("plain_", 0), ("fewer_", 1))}


def run(name: str, given: dict[str, Any], seed: int, rounds: int) -> Row:
    """One run of the app; bytes are those of a client and round, plain ones those of the same messages without `Compressed`."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "result.json"
        config = {**CONFIG, **given, "seed": seed, "num-server-rounds": rounds, "output": str(output), "evaluate-every": rounds}
        assert set(config) == set(CONFIG)
        random.seed(seed)  # Flower samples the clients of a round from this generator, and leaves it unseeded
        begin = time.process_time()
        InProcessGrid(client_app, config["clients"], config).start(server_app, config)
        seconds, found = time.process_time() - begin, json.loads(output.read_text())
    row: Row = {"contender": name, "seed": seed, "accuracy": found["accuracy"], "robust": found["robust-accuracy"]}
    row["cpu_s"] = seconds
    if config["compress"]:
        for way in ("up", "down"):
            sent, plain = (found[f"saddlebag-{kind}{way}-bytes"] for kind in ("", "plain-"))
            messages = rounds * config["clients-per-round"]
            row |= {way: sent / messages, f"plain_{way}": plain / messages, f"fewer_{way}": plain / sent}
    return row


def prepare(*, chooses: bool) -> None:
    """In each process. For a choice a fifth of the training pictures judges, so that the others play no part in it."""
    logging.getLogger("flwr").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    if chooses:
        pictures = task.read_images("digits")
        kept_N = pictures.divide()[1]
        task.read_images = lambda source: Images(source, pictures.images_NHW[kept_N], pictures.labels_N[kept_N])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", choices=("main", "grids"), default="main")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=CONFIG["num-server-rounds"])
    parser.add_argument("--clients", type=int, default=CONFIG["clients"])
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, each on one core")
    options = parser.parse_args()
    table = MAIN if options.table == "main" else GRIDS
    spawn = multiprocessing.get_context("spawn")
    started = functools.partial(prepare, chooses=options.table == "grids")
    with concurrent.futures.ProcessPoolExecutor(options.jobs, spawn, started) as pool:
        runs = [
            (name, {**given, "clients": options.clients}, seed, options.rounds)
            for name, given in table.items()
            for seed in range(options.seeds)
        ]
        rows = []
        for row in pool.map(run, *zip(*runs, strict=True)):
            rows.append(row)
            progress(str(row))
    lines = []
    for name in table:
        first = next(row for row in rows if row["contender"] == name)
        found = {key: spread(column(rows, name, key), digits) if key in first else "-" for key, digits in COLUMNS.items()}
        lines.append([name, *found.values()])
    show(f"{options.rounds} rounds, {options.seeds} seeds; bytes of a client and round", ["", *COLUMNS], lines, markdown=True)


if __name__ == "__main__":
    main()
