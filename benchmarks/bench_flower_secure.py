"""Secure aggregation of a Flower app beside Flower's own SecAgg+, and beside the same run in the clear: bytes, time, accuracy.

    python benchmarks/bench_flower_secure.py [--clients 10] [--rounds 20] [--seeds 3] [--dropped 0] [--json FILE]

The app is `examples/flower_fedavg`: digits, 17,226 parameters, all clients in every round, two epochs a round, in one process
without Ray. Flower's SecAgg+ (`SecAggPlusWorkflow`, `secaggplus_mod`) is at its defaults, all clients neighbours of each
other, and as many needed to unmask as with ours. Bytes are all that cross Flower's grid, both ways, as Flower serialises
contents; CPU is of the process, the training included, the same for all. `--dropped` clients are lost in every round.

Asked: fewer bytes than SecAgg+ at its accuracy.
"""

from __future__ import annotations

import argparse
import functools
import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from harness import Row, add_output_options, column, interleaved, progress, ratios, save, show, spread

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "examples" / "flower_fedavg"))  # the app under test

# ruff: noqa: E402
import torch
from fedavg_digits.client_app import step
from fedavg_digits.task import accuracy, network, shards
from fedavg_digits.task import train as fit
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.client import NumPyClient
from flwr.client.mod import secaggplus_mod
from flwr.clientapp import ClientApp
from flwr.common import ndarrays_to_parameters
from flwr.server import LegacyContext, ServerConfig
from flwr.server.strategy import FedAvg as LegacyFedAvg
from flwr.server.workflow import DefaultWorkflow, SecAggPlusWorkflow
from flwr.serverapp.strategy import FedAvg

from saddlebag.flower import Compressed, InProcessGrid, Secure, SecureMod, compression_mod, secure_mod, serialised_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

DOWN = {"name": "grid", "step": 0.5, "block": 512}
EPOCHS, RATE = 2, 0.1


class CountingGrid(InProcessGrid):
    """Counts what crosses it; the first `lost` clients do not come through their training."""

    up = down = messages = 0

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        sent = list(messages)
        self.down += sum(serialised_bytes(message.content) for message in sent)
        self.messages += len(sent)
        replies = list(super().send_and_receive(sent, timeout=timeout))
        self.up += sum(serialised_bytes(reply.content) for reply in replies if reply.has_content())
        return replies


def losing(count: int) -> Any:
    """A mod that stands next to the app: the training of the first clients fails."""

    def mod(message: Message, context: Context, call_next: Any) -> Message:
        if int(context.node_config["partition-id"]) < count:
            raise RuntimeError("lost")
        reply: Message = call_next(message, context)
        return reply

    return mod


def of_ours(clients: int, rounds: int, seed: int, lost: int, *, up: Any, mask: bool, down: bool) -> tuple[Any, CountingGrid]:
    """Accuracy on the held-out rows after each round, and the grid."""
    mods: list[Any] = [secure_mod if mask else SecureMod(clear=True), losing(lost)]
    app = ClientApp(mods=[compression_mod, *mods] if down else mods)
    app.train()(step)
    grid, found = CountingGrid(app, clients), []

    def evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord:
        model = network(seed)
        model.load_state_dict(arrays.to_torch_state_dict())
        found.append(accuracy(model))
        return MetricRecord({"accuracy": found[-1]})

    inner = FedAvg(min_train_nodes=clients, min_available_nodes=clients, fraction_evaluate=0.0)
    strategy: Any = Secure(inner, up=up, mask=mask, most_examples=300, common_range=0.05, note=lambda text: None)
    (Compressed(strategy, down=DOWN, seed=seed) if down else strategy).start(
        grid=grid,
        initial_arrays=ArrayRecord(network(seed).state_dict()),
        num_rounds=rounds,
        train_config=ConfigRecord({"clients": clients, "seed": seed, "local-epochs": EPOCHS, "learning-rate": RATE}),
        evaluate_fn=evaluate,
    )
    return found, grid


class Digits(NumPyClient):
    """The same client by Flower's older interface, which SecAgg+ is for."""

    def __init__(self, client: int, clients: int, seed: int) -> None:
        self._client, self._clients, self._seed = client, clients, seed

    def fit(self, parameters: Any, config: Any) -> Any:
        torch.set_num_threads(1)
        rows_N, model = shards(self._clients, self._seed)[self._client], network(self._seed)
        model.load_state_dict(dict(zip(model.state_dict(), map(torch.from_numpy, parameters), strict=True)))
        fit(model, rows_N, EPOCHS, RATE, int(config["round"]) * 10_007 + self._client)
        return [value.numpy() for value in model.state_dict().values()], max(len(rows_N), 1), {}


def of_flower(clients: int, rounds: int, seed: int, lost: int, *, secure: bool) -> tuple[Any, CountingGrid]:
    def client(context: Context) -> Any:
        return Digits(int(context.node_config["partition-id"]), clients, seed).to_client()

    mods: list[Any] = [secaggplus_mod, losing(lost)] if secure else [losing(lost)]
    grid, found = CountingGrid(ClientApp(client_fn=client, mods=mods), clients), []

    def evaluate(server_round: int, parameters: Any, config: Any) -> Any:
        model = network(seed)
        model.load_state_dict(dict(zip(model.state_dict(), map(torch.from_numpy, map(np.array, parameters)), strict=True)))
        found.append(accuracy(model))
        return 0.0, {}

    strategy = LegacyFedAvg(
        fraction_evaluate=0.0,
        min_fit_clients=clients,
        min_available_clients=clients,
        evaluate_fn=evaluate,
        on_fit_config_fn=lambda number: {"round": number},
        initial_parameters=ndarrays_to_parameters([value.numpy() for value in network(seed).state_dict().values()]),
    )
    bare = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})
    context = LegacyContext(context=bare, config=ServerConfig(num_rounds=rounds), strategy=strategy)
    threshold = (clients // 2 + 1) / clients
    workflow = DefaultWorkflow(fit_workflow=SecAggPlusWorkflow(1.0, threshold) if secure else None)
    workflow(grid, context)
    return found, grid


CONTENDERS: dict[str, Callable[..., tuple[Any, CountingGrid]]] = {
    "FedAvg": functools.partial(of_flower, secure=False),
    "SecAgg+": functools.partial(of_flower, secure=True),
    "8 bits, in the clear": functools.partial(of_ours, up="nearest_int8", mask=False, down=True),
    "8 bits, secure": functools.partial(of_ours, up="nearest_int8", mask=True, down=True),
    "4 bits, in the clear": functools.partial(of_ours, up="nearest_int4", mask=False, down=True),
    "4 bits, secure": functools.partial(of_ours, up="nearest_int4", mask=True, down=True),
}


def measure(name: str, options: argparse.Namespace, seed: int) -> Row:
    begin = time.process_time()
    found, grid = CONTENDERS[name](options.clients, options.rounds, seed, options.dropped)
    shared = options.rounds * options.clients
    facts: Row = {"contender": name, "seed": seed, "accuracy": 100 * float(np.mean(found[-5:]))}
    facts |= {"up": grid.up / shared, "down": grid.down / shared, "both": (grid.up + grid.down) / shared}
    return {**facts, "cpu_ms": 1e3 * (time.process_time() - begin) / options.rounds, "found": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--dropped", type=int, default=0, help="clients that are lost in every round")
    add_output_options(parser)
    options = parser.parse_args()
    logging.getLogger("flwr").setLevel(logging.ERROR)
    rows: list[Row] = []
    for seed, name in interleaved(list(CONTENDERS), options.seeds):
        rows.append(measure(name, options, seed))
        progress(f"{name}, seed {seed}: {rows[-1]['accuracy']:.1f} %, {rows[-1]['both']:,.0f} bytes")
    for bits in ("8", "4"):
        pairs = [
            [row.pop("found") for row in rows if row["contender"] == f"{bits} bits, {way}"]
            for way in ("in the clear", "secure")
        ]
        assert pairs[0] == pairs[1], "the bits of the clear run"
    for row in rows:
        row.pop("found", None)
    lines = []
    for name in CONTENDERS:
        fewer = "" if name == "SecAgg+" else spread(ratios(rows, "both", "SecAgg+", name))
        lines.append([name, *(spread(column(rows, name, key), digits) for key, digits in COLUMNS.items()), fewer])
    title = (
        f"Digits, {options.clients} clients of whom {options.dropped} drop out, {options.rounds} rounds, {options.seeds} seeds"
    )
    show(
        title,
        ["run", "accuracy %", "B up", "B down", "CPU ms a round", "SecAgg+ over it, bytes"],
        lines,
        markdown=options.markdown,
    )
    save(options.json, rows)


COLUMNS = {"accuracy": 1, "up": 0, "down": 0, "cpu_ms": 0}

if __name__ == "__main__":
    main()
