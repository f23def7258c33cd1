"""What wrappers have in common that form the clients' mean themselves and hand it to a strategy as the reply of one client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from flwr.app import MetricRecord, RecordDict

from saddlebag.errors import ConfigError
from saddlebag.flower.compression.packing import Schema, array_kind, read_array, unflatten

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flwr.app import ArrayRecord, Message
    from flwr.serverapp.strategy import Strategy

    from saddlebag.compression import Vector

__all__ = ["Trained", "as_one", "model_of", "require_averaging"]

_SINGLE = (
    "Krum",
    "MultiKrum",
    "Bulyan",
    "FedMedian",
    "FedTrimmedAvg",
    "QFedAvg",
    "FedXgbBagging",
    "FedXgbCyclic",
    "DifferentialPrivacyServerSideFixedClipping",
    "DifferentialPrivacyServerSideAdaptiveClipping",
)


def require_averaging(strategy: Strategy, why: str) -> None:
    """Refuse a strategy that is more than a mean of its clients' replies, whatever it then does with that."""
    if any(kind.__name__ in _SINGLE for kind in type(strategy).__mro__):
        raise ConfigError(f"{type(strategy).__name__} needs each client's own reply, {why}; use FedAvg")


def model_of(messages: Sequence[Message], who: str) -> tuple[str, ArrayRecord]:
    """The key and the model that all messages of a round have."""
    models = {id(record): (key, record) for m in messages for key, record in m.content.array_records.items()}
    if len(models) != 1:
        raise ConfigError(f"{who} needs one model for all clients of a round, got {len(models)}")
    return next(iter(models.values()))


class Trained:
    """Which arrays of a model clients train: those that were finite floating-point numbers when they were first seen.

    Whole numbers, of which strategies make means, and masks of infinities stay as the server has them.

    Attributes:
        apart: the names of the others so far.
    """

    def __init__(self) -> None:
        self._known: set[str] = set()
        self.apart: set[str] = set()

    def schema(self, model: ArrayRecord) -> Schema:
        """The vector of what is trained of this model."""
        for name in set(model) - self._known:
            self._known.add(name)
            if array_kind(model[name]) != "f" or not np.isfinite(read_array(name, model[name])).all():
                self.apart.add(name)
        return Schema.of(model, self.apart)


def as_one(model: ArrayRecord, schema: Schema, model_D: Vector, key: str, metrics: Mapping[str, float]) -> RecordDict:
    """The content of one client's reply: the model with these numbers in it, and these metrics."""
    return RecordDict({key: unflatten(model_D, schema, schema.others(model)), "metrics": MetricRecord(dict(metrics))})
