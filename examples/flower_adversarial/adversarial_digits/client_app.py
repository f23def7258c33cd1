"""A client as any Flower app has it; the one line for compression is `mods=[compression_mod]`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from adversarial_digits.task import game, network, shards, train
from saddlebag.flower import compression_mod

if TYPE_CHECKING:
    from flwr.app import Context

app = ClientApp(mods=[compression_mod])  # idle unless the server compresses


@app.train()
def step(message: Message, context: Context) -> Message:
    """Train the received model on this client's rows, perturbed against it."""
    torch.set_num_threads(1)
    client, config = int(context.node_config["partition-id"]), message.content["config"]
    seed = int(config["seed"])
    rows_N = shards(int(config["clients"]), seed)[client]
    model = network(seed)
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    loss = train(
        model,
        rows_N,
        game(seed, float(config["attack"]), int(config["attack-steps"])),
        epochs=int(config["local-epochs"]),
        learning_rate=float(config["learning-rate"]),
        seed=int(config["server-round"]) * 10_007 + client,
    )
    metrics = MetricRecord({"num-examples": max(len(rows_N), 1), "train-loss": loss})
    return Message(RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics}), reply_to=message)
