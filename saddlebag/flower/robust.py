"""Means that some bad clients cannot move at will, around a Flower strategy; see docs/robust.md."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms.averages.means import make_mean
from saddlebag.algorithms.averages.robust import require_scores
from saddlebag.errors import ConfigError, RemoteProtocolError
from saddlebag.flower.around import Around
from saddlebag.flower.averaging import Trained, as_one, model_of, require_averaging
from saddlebag.flower.compression.packing import flatten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
    from flwr.serverapp import Grid
    from flwr.serverapp.strategy import Strategy

    from saddlebag.compression import Vector

__all__ = ["Robust"]


class Robust(Around):
    """Wraps a strategy that averages (FedAvg, FedAvgM, FedAdam, ...): a rule for the clients' updates takes the mean's place.

    All clients count alike: a number of examples is a client's own word. The strategy inside sees one reply, with the rule's
    model and the median of every metric. `Compressed` around it compresses both ways.

    Args:
        strategy: the strategy inside, unmodified.
        mean: the rule as recipes name it: "coordinate_median", {"name": "trimmed_mean", "fraction": 0.3}, ...
        weighted_by: the strategy's metric for weights.
        note: called with what a person should know; by default a warning in Flower's log.

    Raises:
        ConfigError: the rule is unknown or needs more than a round, or the strategy is no mean.
    """

    def __init__(
        self,
        strategy: Strategy,
        mean: str | Mapping[str, Any],
        *,
        weighted_by: str = "num-examples",
        note: Callable[[str], None] = lambda text: logging.getLogger("flwr").warning("%s", text),
    ) -> None:
        require_averaging(strategy, "and has a rule of its own")
        rule = make_mean(mean)
        if rule is None:
            raise ConfigError("Robust needs a rule in place of the mean; without one the strategy does by itself")
        require_scores(rule, kept=False)
        super().__init__(strategy)
        self._rule = rule
        self._weighted_by, self._note, self._trained = weighted_by, note, Trained()

    def configure_train(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        """The inner strategy's messages."""
        messages = list(self.strategy.configure_train(server_round, arrays, config, grid))
        if messages:
            self._key, self._model = model_of(messages, "Robust")
            self._schema = self._trained.schema(self._model)
            self._model_D = flatten(self._model, self._schema)
        return messages

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The inner strategy's aggregate of what the rule makes of the updates; clients without a finite one are left out."""
        heard = sorted(replies, key=lambda reply: reply.metadata.src_node_id)
        updates = [(reply, update_D) for reply in heard if (update_D := self._update(reply)) is not None]
        if not updates:
            return None, None
        moved_D = self._model_D + self._rule.combine(np.stack([update_D for _, update_D in updates]))
        metrics = {**self._medians([reply for reply, _ in updates]), self._weighted_by: len(updates)}
        one = updates[0][0]
        one.content = as_one(self._model, self._schema, moved_D, self._key, metrics)
        return self.strategy.aggregate_train(server_round, [one])

    def _update(self, reply: Message) -> Vector | None:
        """A client's model less the one it was sent."""
        who = f"node {reply.metadata.src_node_id}"
        if not reply.has_content():
            self._note(f"{who}: {reply.error.reason}")
            return None
        records = list(reply.content.array_records.values())
        try:
            if len(records) != 1:
                raise RemoteProtocolError(f"a reply must hold one model, got {len(records)}")
            update_D: Vector = flatten(records[0], self._schema) - self._model_D
        except RemoteProtocolError as error:
            self._note(f"{who} is left out: {error}")
            return None
        if found := self._schema.not_finite(update_D):
            self._note(f"{who} is left out: its {found}")
            return None
        return update_D

    @staticmethod
    def _medians(replies: Sequence[Message]) -> dict[str, float]:
        rows = [{k: v for record in r.content.metric_records.values() for k, v in record.items()} for r in replies]
        names = [name for name in rows[0] if all(isinstance(row.get(name), int | float) for row in rows)]
        return {name: float(np.median([row[name] for row in rows])) for name in names}
