"""Sleeping experts as the aggregation rule of a Flower strategy: clients are experts that sleep while they are not sampled.

The inner strategy samples and configures; the models that come back are weighed by the mixer, whose weights come from the
losses on a stream of examples that the server holds. For models that are linear in their parameters and a convex loss, the
weighted mean of the parameters is the mixture predictor, and for every client at once our loss on its rounds exceeds its own
model's by at most `bounds()`. For other models nothing is proven of a mean of parameters: mix predictions, and say so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import Array, ArrayRecord, MetricRecord

from saddlebag.algorithms.groupwise import AdaNormalHedge, ExpertAggregation
from saddlebag.errors import ConfigError
from saddlebag.flower.around import Around
from saddlebag.flower.compression.dtypes import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flwr.app import Message
    from flwr.serverapp.strategy import Strategy

    from saddlebag.algorithms.groupwise import AnyMixer

__all__ = ["SleepingExperts"]

PARTITION = "partition-id"


class SleepingExperts(Around):
    """Aggregates by learned weights in place of the inner strategy's own mean.

    Args:
        strategy: samples clients and configures rounds; its `aggregate_train` is not called.
        num_clients: how many there are; a reply's MetricRecord names its client under `client_key`, from 0 on.
        loss: (arrays of a model in order, server round) -> loss on that round's examples, between 0 and the mixer's range.
        mixer: weighs the clients; AdaNormalHedge for losses in [0, 1] by default.
        client_key: of the client's number in the metrics.

    Attributes:
        state: the mixer's.
        weights: of the last round, by client.
    """

    def __init__(
        self,
        strategy: Strategy,
        *,
        num_clients: int,
        loss: Callable[[list[Any], int], float],
        mixer: AnyMixer | None = None,
        client_key: str = PARTITION,
    ) -> None:
        if num_clients < 1:
            raise ConfigError(f"num_clients must be at least 1, got {num_clients}")
        super().__init__(strategy)
        self.num_clients, self.client_key = num_clients, client_key
        self._loss, self._rule = loss, ExpertAggregation(mixer=mixer or AdaNormalHedge())
        self.state = self._rule.init(num_clients)
        self.weights: dict[int, float] = {}

    def bounds(self) -> Any:
        """For each client, the proven bound on our loss less its own on its rounds; shape (num_clients,)."""
        return self._rule.mixer.bound(self.state)

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The mean of the awake clients' models by the weights before this round's losses, which then move the weights."""
        models = self._models(replies)
        if not models:
            return None, None
        awake_M = np.zeros(self.num_clients)
        awake_M[list(models)] = 1.0
        weight_M = self._rule.weights(self.state, awake_M)
        self.weights = {client: float(weight_M[client]) for client in models}
        mean = self._mean(models, weight_M)
        loss_M = np.zeros(self.num_clients)
        for client, record in models.items():
            loss_M[client] = self._loss(record.to_numpy_ndarrays(), server_round)
        played = float(self._loss(mean.to_numpy_ndarrays(), server_round))
        self.state = self._rule.update(self.state, weight_M, loss_M, awake_M, played)
        metrics: dict[str, Any] = {"experts-loss": played, "experts-awake": len(models)}
        metrics |= {f"weight-{client}": weight for client, weight in self.weights.items()}
        return mean, MetricRecord(metrics)

    def _models(self, replies: Iterable[Message]) -> dict[int, ArrayRecord]:
        """The replies' models by client, ascending; error replies are clients that sleep.

        Raises:
            ConfigError: a reply does not say whose it is, or holds no single model.
        """
        models: dict[int, ArrayRecord] = {}
        for reply in replies:
            if not reply.has_content():
                continue
            numbers = [r[self.client_key] for r in reply.content.metric_records.values() if self.client_key in r]
            if len(numbers) != 1 or not isinstance(numbers[0], int) or not 0 <= numbers[0] < self.num_clients:
                raise ConfigError(
                    f"a reply's metrics must hold {self.client_key!r}, a whole number below {self.num_clients}; got {numbers}"
                )
            records = list(reply.content.array_records.values())
            if len(records) != 1:
                raise ConfigError(f"client {numbers[0]} sent {len(records)} models, not one")
            models[numbers[0]] = records[0]
        return dict(sorted(models.items()))

    def _mean(self, models: dict[int, ArrayRecord], weight_M: Any) -> ArrayRecord:
        names = list(next(iter(models.values())))
        arrays = {}
        for client, record in models.items():
            if odd := set(record) ^ set(names):
                raise ConfigError(f"clients must send the same arrays; client {client} and the first differ in {min(odd)!r}")
        for name in names:
            parts = [(weight_M[client], record[name].numpy()) for client, record in models.items()]
            total = np.asarray(sum(weight * part.astype(np.float64) for weight, part in parts))
            dtype = parts[0][1].dtype
            arrays[name] = Array(nearest(total, dtype) if dtype.kind in "iub" else total.astype(dtype))
        return ArrayRecord(arrays)
