"""The server as any Flower app has it; the one line for compression is the strategy's wrapper."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flwr.app import ArrayRecord, ConfigRecord, MetricRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

from fedavg_digits.task import accuracy, network
from saddlebag.flower import Compressed, Progress

if TYPE_CHECKING:
    from flwr.app import Context
    from flwr.serverapp import Grid

app = ServerApp()


def grid_of(step: float) -> dict[str, Any]:
    """Every 512 entries share a scale; whole multiples of `step` times the largest of them travel, coded by frequency."""
    return {"name": "grid", "step": step, "block": 512}


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train and report."""
    config: dict[str, Any] = dict(context.run_config)
    clients, seed = int(config["clients"]), int(config["seed"])
    strategy: Any = FedAvg(min_train_nodes=clients, min_available_nodes=clients, fraction_evaluate=0.0)
    if config["compress"]:
        strategy = Compressed(strategy, up=grid_of(1.0), down=grid_of(0.5), seed=seed)

    def evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord:
        model = network(seed)
        model.load_state_dict(arrays.to_torch_state_dict())
        return MetricRecord({"accuracy": accuracy(model)})

    keys = ("clients", "seed", "local-epochs", "learning-rate")
    result = Progress(strategy).start(
        grid=grid,
        initial_arrays=ArrayRecord(network(seed).state_dict()),
        num_rounds=int(config["num-server-rounds"]),
        train_config=ConfigRecord({key: config[key] for key in keys}),
        evaluate_fn=evaluate,
    )
    last = max(result.evaluate_metrics_serverapp)
    facts = {"accuracy": result.evaluate_metrics_serverapp[last]["accuracy"], **result.train_metrics_clientapp[last]}
    logging.getLogger("flwr").info("%s", json.dumps(facts))
    if config["output"]:
        Path(str(config["output"])).write_text(json.dumps(facts))
