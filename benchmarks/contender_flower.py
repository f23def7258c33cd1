"""Flower's legacy gRPC path (`start_server`, `start_client`): the dense mean of a d-vector. Any interpreter with flwr runs it.

contender_flower.py server WORKERS DIMENSION ROUNDS WARM_UP | contender_flower.py worker PORT DIMENSION
"""

from __future__ import annotations

import logging
import sys
import warnings
from typing import Any

import numpy as np
from flwr.client import NumPyClient, start_client
from flwr.common import ndarrays_to_parameters
from flwr.server import ServerConfig, start_server
from flwr.server.strategy import FedAvg
from harness import LOOPBACK, Meter, free_port, say

warnings.filterwarnings("ignore")
logging.getLogger("flwr").setLevel(logging.CRITICAL)


class Metered(FedAvg):
    meter: Meter

    def aggregate_fit(self, server_round: int, results: Any, failures: Any) -> Any:
        if failures:
            raise SystemExit(f"round {server_round}: {failures[0]}")
        mean = super().aggregate_fit(server_round, results, failures)
        self.meter.tick()
        return mean


class Client(NumPyClient):
    def __init__(self, dimension: int) -> None:
        self._value_D = np.ones(dimension, np.float32)

    def fit(self, parameters: Any, config: Any) -> Any:
        return [self._value_D], 1, {}


def serve(workers: int, dimension: int, rounds: int, warm_up: int) -> None:
    strategy = Metered(
        fraction_fit=1.0,
        fraction_evaluate=0.0,
        min_fit_clients=workers,
        min_available_clients=workers,
        initial_parameters=ndarrays_to_parameters([np.zeros(dimension, np.float32)]),
    )
    strategy.meter = Meter(rounds, warm_up)
    port = free_port()
    say(port)
    config = ServerConfig(num_rounds=strategy.meter.total)
    start_server(server_address=f"{LOOPBACK}:{port}", config=config, strategy=strategy)
    say(strategy.meter.result())


if __name__ == "__main__":
    role, *numbers = sys.argv[1:]
    if role == "server":
        serve(*map(int, numbers))
    else:
        start_client(server_address=f"{LOOPBACK}:{numbers[0]}", client=Client(int(numbers[1])).to_client(), insecure=True)
