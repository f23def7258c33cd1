"""The server as any Flower app has it; the one line for compression is the strategy's wrapper."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flwr.app import ArrayRecord, ConfigRecord, MetricRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

from adversarial_digits.task import accuracies, game, network
from saddlebag.flower import Compressed, Progress
from saddlebag.flower.progress import log_and_file

if TYPE_CHECKING:
    from flwr.app import Context
    from flwr.serverapp import Grid

app = ServerApp()
log = logging.getLogger("flwr")


def grid_of(step: float) -> dict[str, Any]:
    """Every 512 entries share a scale; whole multiples of `step` times the largest of them travel, coded by frequency."""
    return {"name": "grid", "step": step, "block": 512}


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train and report."""
    config: dict[str, Any] = dict(context.run_config)
    clients, sampled, seed = int(config["clients"]), int(config["clients-per-round"]), int(config["seed"])
    strategy: Any = FedAvg(
        fraction_train=sampled / clients, min_train_nodes=sampled, min_available_nodes=clients, fraction_evaluate=0.0
    )
    if config["compress"]:
        # No memory: what a client owes would be ten rounds old, of another model, when it is sampled again.
        up, down = (grid_of(float(config[key])) for key in ("grid-up", "grid-down"))
        strategy = Compressed(strategy, up=up, down=down, memory="none", seed=seed)
    rounds, every = int(config["num-server-rounds"]), int(config["evaluate-every"])

    def evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
        if server_round % every and server_round != rounds:
            return None
        model = network(seed)
        model.load_state_dict(arrays.to_torch_state_dict())
        return MetricRecord(accuracies(model, game(seed, float(config["attack"]), int(config["attack-steps"]))))

    keys = ("clients", "seed", "local-epochs", "learning-rate", "attack", "attack-steps")
    result = Progress(strategy, write=log_and_file(str(config["lines"]))).start(
        grid=grid,
        initial_arrays=ArrayRecord(network(seed).state_dict()),
        num_rounds=rounds,
        train_config=ConfigRecord({key: config[key] for key in keys}),
        evaluate_fn=evaluate,
    )
    facts = {**result.evaluate_metrics_serverapp[rounds], **result.train_metrics_clientapp[rounds]}
    log.info("%s", json.dumps(facts))
    if config["output"]:
        Path(str(config["output"])).write_text(json.dumps(facts))
