from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("flwr", reason="Flower is an extra")
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg

from saddlebag.errors import ConfigError
from saddlebag.flower import Compressed, InProcessGrid, SleepingExperts, compression_mod

D, CLIENTS, ROUNDS = 5, 6, 40
TRUTH = np.random.default_rng(0).random(D) / D


def app_of(*mods: Any, key: str = "partition-id") -> ClientApp:
    app = ClientApp(mods=list(mods))

    @app.train()
    def train(message: Message, context: Context) -> Message:
        """Client 2 learns the truth, the others something else."""
        client = int(context.node_config["partition-id"])
        model_D = TRUTH if client == 2 else np.random.default_rng(client).random(D) / D
        record = ArrayRecord([model_D.astype(np.float32)])
        metrics = MetricRecord({"num-examples": 1, key: client})
        return Message(RecordDict({"arrays": record, "metrics": metrics}), reply_to=message)

    return app


class Stream:
    """Squared loss on fresh rows; remembers what each model lost."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, float]] = []

    def __call__(self, model: list[Any], server_round: int) -> float:
        x_D = np.random.default_rng(1000 + server_round).random(D)
        loss = float((model[0] @ x_D - TRUTH @ x_D) ** 2)
        self.calls.append((server_round, loss))
        return loss


def inner() -> FedAvg:
    return FedAvg(fraction_train=0.5, min_train_nodes=3, min_available_nodes=CLIENTS, fraction_evaluate=0.0)


def test_no_client_is_worse_off_than_with_its_own_model_by_more_than_the_bound() -> None:
    strategy = SleepingExperts(inner(), num_clients=CLIENTS, loss=Stream())
    result = strategy.start(InProcessGrid(app_of(), CLIENTS), ArrayRecord([np.zeros(D, np.float32)]), num_rounds=ROUNDS)
    regret_M = strategy._rule.mixer.regret(strategy.state)
    assert (regret_M <= strategy.bounds() + 1e-9).all()
    assert sum(strategy.weights.values()) == pytest.approx(1.0)
    assert len(strategy.weights) == 3
    assert result.train_metrics_clientapp[ROUNDS]["experts-awake"] == 3


def test_it_works_under_compression_and_sleeps_through_lost_replies() -> None:
    strategy = Compressed(SleepingExperts(inner(), num_clients=CLIENTS, loss=Stream()), up={"name": "identity"})
    grid = InProcessGrid(app_of(compression_mod), CLIENTS, lost=lambda number, partition: number % 5 == 1)
    result = strategy.start(grid, ArrayRecord([np.zeros(D, np.float32)]), num_rounds=10)
    assert np.isfinite(result.arrays.to_numpy_ndarrays()[0]).all()


def test_replies_that_do_not_say_whose_they_are_are_refused() -> None:
    strategy = SleepingExperts(inner(), num_clients=CLIENTS, loss=Stream())
    with pytest.raises(ConfigError, match="must hold 'partition-id'"):
        strategy.start(InProcessGrid(app_of(key="who"), CLIENTS), ArrayRecord([np.zeros(D, np.float32)]), num_rounds=1)


def test_means_of_whole_numbers_are_rounded_and_clients_with_other_arrays_are_named() -> None:
    strategy = SleepingExperts(FedAvg(), num_clients=3, loss=lambda arrays, round_: 0.5)
    models = {client: ArrayRecord({"n": Array(np.array([27, 27 + client % 2]))}) for client in range(3)}
    mean = strategy._mean(models, np.array([0.3, 0.6, 0.1]))
    assert (mean["n"].dtype, mean["n"].numpy().tolist()) == ("int64", [27, 28])
    models[2] = ArrayRecord({"m": Array(np.zeros(2))})
    with pytest.raises(ConfigError, match="client 2 and the first differ in 'm'"):
        strategy._mean(models, np.array([0.3, 0.6, 0.1]))
