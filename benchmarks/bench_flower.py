"""Saddlebag inside Flower, without Ray: compression of the digits app, other strategies, partial participation, overhead.

The app is `examples/flower_fedavg`, unmodified; bytes are those of Flower's own serialisation.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from harness import Row, add_output_options, column, interleaved, progress, ratios, save, show, spread, verdict

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "examples" / "flower_fedavg"))  # the app under test

# ruff: noqa: E402
import torch
from fedavg_digits.client_app import app as digits_app
from fedavg_digits.task import accuracy, network
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import DifferentialPrivacyServerSideFixedClipping, FedAdam, FedAvg, FedMedian

from saddlebag.flower import Compressed, InProcessGrid, Ledger, MethodStrategy, compression_mod, method_app, serialised_bytes
from saddlebag.launch.build import build_problem
from saddlebag.launch.recipe.recipe import recipe_from_dict

if TYPE_CHECKING:
    from collections.abc import Callable

CLIENTS, LOST = 10, 0.05
EVERYONE: dict[str, Any] = {"min_train_nodes": CLIENTS, "min_available_nodes": CLIENTS, "fraction_evaluate": 0.0}


def sparse(fraction: float) -> dict[str, Any]:
    return {"name": "compose", "sparsifier": {"name": "top_k", "fraction": fraction}, "values": {"name": "block_int8"}}


UP, DOWN = ({"name": "grid", "step": step, "block": 512} for step in (1.0, 0.5))  # chosen on rows held out of the training rows


class Counting(FedAvg):
    """FedAvg that counts what it sends and receives as `Compressed` counts it."""

    def __init__(self, **params: Any) -> None:
        super().__init__(**params)
        self.ledger = Ledger()

    def configure_train(self, *args: Any, **kwargs: Any) -> Any:
        messages = list(super().configure_train(*args, **kwargs))
        self.ledger.down += sum(serialised_bytes(message.content) for message in messages)
        self.ledger.messages += len(messages)
        return messages

    def aggregate_train(self, server_round: int, replies: Any) -> Any:
        replies = list(replies)
        self.ledger.up += sum(serialised_bytes(reply.content) for reply in replies)
        return super().aggregate_train(server_round, replies)


INNER: dict[str, Callable[[], Any]] = {
    "FedAvg": lambda: FedAvg(**EVERYONE),
    "FedAdam": lambda: FedAdam(**EVERYONE, eta=0.01, tau=0.01),
    "FedMedian": lambda: FedMedian(**EVERYONE),
    "DP, server side": lambda: DifferentialPrivacyServerSideFixedClipping(
        FedAvg(**EVERYONE), noise_multiplier=0.002, clipping_norm=5.0, num_sampled_clients=CLIENTS
    ),
}


def train(strategy: Any, rounds: int, seed: int) -> Row:
    """Run the digits app; accuracy is the mean over the last ten rounds, for it moves by a percent from one to the next."""
    found: list[float] = []

    def evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord:
        model = network(seed)
        state = arrays.to_torch_state_dict()
        model.load_state_dict({name: value.float() for name, value in state.items()})
        found.append(accuracy(model))
        return MetricRecord({"accuracy": found[-1]})

    config = {"clients": CLIENTS, "seed": seed, "local-epochs": 2, "learning-rate": 0.1}
    begin_s = time.perf_counter()
    strategy.start(
        grid=InProcessGrid(digits_app, CLIENTS),
        initial_arrays=ArrayRecord(network(seed).state_dict()),
        num_rounds=rounds,
        train_config=ConfigRecord(config),
        evaluate_fn=evaluate,
    )
    row: Row = {"accuracy": float(np.mean(found[-10:])), "round_ms": 1e3 * (time.perf_counter() - begin_s) / rounds}
    if (ledger := getattr(strategy, "ledger", None)) is not None:
        row |= {"up": ledger.up / ledger.messages, "down": ledger.down / ledger.messages}
        row["both"] = row["up"] + row["down"]
    return row


def compression(seeds: int, rounds: int, *, markdown: bool) -> list[Row]:
    rows: list[Row] = []
    makers: dict[str, Callable[[int], Any]] = {
        "FedAvg": lambda seed: Counting(**EVERYONE),
        "compressed": lambda seed: Compressed(FedAvg(**EVERYONE), up=UP, down=DOWN, seed=seed),
    }
    for seed, name in interleaved(list(makers), seeds):
        rows.append({"contender": name, "seed": seed, **train(makers[name](seed), rounds, seed)})
        progress(str(rows[-1]))
    lines = [[name, *(spread(column(rows, name, key), digits) for key, digits in COLUMNS.items())] for name in makers]
    title = f"Digits, {CLIENTS} clients, {rounds} rounds, {seeds} seeds; bytes a client and round"
    show(title, ["strategy", *COLUMNS], lines, markdown=markdown)
    fewer = ratios(rows, "both", "FedAvg", "compressed")
    cost = [1 - value for value in ratios(rows, "accuracy", "compressed", "FedAvg")]
    goals = [
        ["times fewer bytes", spread(fewer), ">= 20", verdict(fewer, 20, at_least=True)],
        ["accuracy lost, relative", spread(cost, 4), "<= 0.01", verdict(cost, 0.01, at_least=False)],
    ]
    show("Goals", ["quantity", "median (range)", "goal", ""], goals, markdown=markdown)
    return rows


COLUMNS = {"accuracy": 3, "up": 0, "down": 0, "round_ms": 0}


def others(seeds: int, rounds: int, *, markdown: bool) -> list[Row]:
    """The same wrapper around other strategies.

    With EF21, whose server rebuilds each client's whole difference: a median needs that, a mean can do without.
    """
    rows: list[Row] = []
    names = [*list(INNER)[1:], *(f"{name}, compressed" for name in list(INNER)[1:])]
    for seed, name in interleaved(names, seeds):
        inner, wrapped = INNER[name.removesuffix(", compressed")](), name.endswith(", compressed")
        strategy = Compressed(inner, up=UP, down=DOWN, memory="ef21", seed=seed) if wrapped else inner
        rows.append({"contender": name, "seed": seed, **train(strategy, rounds, seed)})
        progress(str(rows[-1]))

    def values(name: str, key: str) -> list[float]:
        return column([row for row in rows if key in row], name, key)  # only `Compressed` counts bytes

    lines = [
        [name, *(spread(found, digits) if (found := values(name, key)) else "-" for key, digits in COLUMNS.items())]
        for name in sorted(names)
    ]
    show(f"Other strategies, {rounds} rounds, {seeds} seeds", ["strategy", *COLUMNS], lines, markdown=markdown)
    return rows


def partial(clients: int, *, markdown: bool) -> list[Row]:
    """PP-MASHA1 with a tenth of the clients in a round, without and with lost replies."""
    table = {
        "workers": clients,
        "seed": 5,
        "problem": {"name": "bilinear", "n": 20, "regularisation": 0.3},
        "method": {
            "name": "masha1",
            "participants": clients // 10,
            "step_size": 0.4,
            "probability": 0.3,
            "up": {"name": "rand_k", "fraction": 0.25},
            "down": {"name": "identity"},
        },
        "stop": {"merit": 1e-6, "max_rounds": 5_000, "every": 25},
    }
    recipe = recipe_from_dict(table)
    solution: Any = build_problem(recipe).solution  # type: ignore[attr-defined]
    rows: list[Row] = []
    ends = []
    for share in (0.0, LOST):
        rng = np.random.default_rng(0)
        strategy = MethodStrategy(recipe)
        grid = InProcessGrid(method_app(), clients, lost=lambda number, partition: bool(rng.random() < share))  # noqa: B023
        begin_s = time.perf_counter()
        z_D = strategy.start(grid=grid).arrays["z"].numpy()
        ends.append(z_D)
        rounds = strategy.core.round
        took_ms = 1e3 * (time.perf_counter() - begin_s) / rounds
        distance = float(np.linalg.norm(z_D - solution) / np.linalg.norm(solution))
        rows.append({"contender": f"{share:.0%} lost", "rounds": rounds, "distance": distance, "round_ms": took_ms})
        progress(f"{rows[-1]} {strategy.core.finished}")
    lines = [[row["contender"], str(row["rounds"]), f"{row['distance']:.1e}", f"{row['round_ms']:.1f}"] for row in rows]
    show(
        f"PP-MASHA1, {clients} clients, {clients // 10} a round; the same bits: {np.array_equal(*ends)}",
        ["replies", "rounds", "distance to the solution", "ms/round"],
        lines,
        markdown=markdown,
    )
    return rows


def overhead(dimension: int, repetitions: int, *, markdown: bool) -> list[Row]:
    """A round of the same dense payload with and without the adapter, no compressor inside."""

    def app_of(*mods: Any) -> ClientApp:
        app = ClientApp(mods=list(mods))

        @app.train()
        def step(message: Message, context: Context) -> Message:
            x_D = message.content["arrays"].to_numpy_ndarrays()[0]
            content = {"arrays": ArrayRecord([x_D + np.float32(1)]), "metrics": MetricRecord({"num-examples": 1})}
            return Message(RecordDict(content), reply_to=message)

        return app

    makers: dict[str, tuple[Callable[[], Any], ClientApp]] = {
        "Flower": (lambda: FedAvg(**EVERYONE), app_of()),
        "adapter, no compressor": (lambda: Compressed(FedAvg(**EVERYONE)), app_of(compression_mod)),
        "adapter, Top-1 % both ways": (
            lambda: Compressed(FedAvg(**EVERYONE), up=sparse(0.01), down=sparse(0.01)),
            app_of(compression_mod),
        ),
    }
    rows: list[Row] = []
    rounds = 4
    for _, name in interleaved(list(makers), repetitions):
        make, app = makers[name]
        strategy, grid = make(), InProcessGrid(app, CLIENTS)
        record = ArrayRecord([np.zeros(dimension, np.float32)])
        record = strategy.start(grid=grid, initial_arrays=record, num_rounds=1).arrays
        begin_s, cpu_s = time.perf_counter(), time.process_time()
        strategy.start(grid=grid, initial_arrays=record, num_rounds=rounds)
        row = {
            "round_ms": 1e3 * (time.perf_counter() - begin_s) / rounds,
            "cpu_ms": 1e3 * (time.process_time() - cpu_s) / rounds,
        }
        rows.append({"contender": name, **row})
    first = next(iter(makers))
    lines = [
        [
            name,
            *(spread(column(rows, name, key), 0) for key in ("round_ms", "cpu_ms")),
            spread(ratios(rows, "cpu_ms", name, first)),
        ]
        for name in makers
    ]
    title = f"d = {dimension:,} float32, {CLIENTS} clients in turn: one round"
    show(title, ["strategy", "ms", "CPU ms", "CPU : Flower"], lines, markdown=markdown)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--clients", type=int, default=100, help="of the run with partial participation")
    parser.add_argument("--dimension", type=int, default=1_000_000)
    parser.add_argument("--only", choices=("compression", "others", "partial", "overhead"))
    add_output_options(parser)
    options = parser.parse_args()
    logging.getLogger("flwr").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    parts: dict[str, Callable[[], list[Row]]] = {
        "compression": lambda: compression(options.seeds, options.rounds, markdown=options.markdown),
        "others": lambda: others(options.seeds, options.rounds, markdown=options.markdown),
        "partial": lambda: partial(options.clients, markdown=options.markdown),
        "overhead": lambda: overhead(options.dimension, options.seeds, markdown=options.markdown),
    }
    rows = [{"part": name, **row} for name, part in parts.items() if options.only in (None, name) for row in part()]
    save(options.json, rows)


if __name__ == "__main__":
    main()
