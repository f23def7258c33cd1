"""Secure aggregation around a Flower strategy that needs nothing of its clients but their mean.

Every client rounds its update to one grid, adds what it owes, and masks the whole numbers; the server unmasks their sum (see
docs/secure.md) and hands the mean to the strategy inside, as the reply of one client. `Compressed` around it compresses the
models that go down.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from saddlebag.algorithms.agreed.common_grid import CommonGrid, next_scale, require_common
from saddlebag.errors import ConfigError, PeerLost, RemoteProtocolError
from saddlebag.flower.around import Around
from saddlebag.flower.averaging import Trained, as_one, model_of, require_averaging
from saddlebag.flower.compression.link import build
from saddlebag.flower.compression.packing import flatten
from saddlebag.flower.secure.link import TASK, Task
from saddlebag.flower.secure.numbers import POINT, Layout
from saddlebag.flower.secure.sums import Sums

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from flwr.serverapp import Grid
    from flwr.serverapp.strategy import Strategy

    from saddlebag.compression import NearestInt4, NearestInt8

__all__ = ["Secure"]

_LEAST_CLIENTS = 3
_FAILED = 3  # rounds in a row without a sum, after which the app ends


class Secure(Around):
    """Wraps a strategy that averages (FedAvg, FedAvgM, FedAdam, FedYogi, FedProx, ...); its clients need `mods=[secure_mod]`.

    Args:
        strategy: the strategy inside, unmodified. It sees one reply a round: the clients' mean.
        up: the levels of the common grid, "nearest_int8" or "nearest_int4".
        common_range: how far the grid reaches at first; it finds its range from there on.
        threshold: share of a round's clients that must be exceeded by those who unmask a sum, at least 0.5.
        memory: "error_feedback" for clients that keep what the grid leaves out, "none".
        most_examples: weight of the largest client, for means by `weighted_by`; who has more counts for so many. 0 for a mean
            in which all count alike, and nobody tells its number.
        weighted_by: the metric that is the weight.
        metrics: of the clients' metrics, those whose weighted means the server is to learn; it sees no client's own.
        mask: False sends the same numbers in the clear, to clients with `SecureMod(clear=True)`: the same bits, for trials.
        timeout: seconds to wait for the replies of an exchange beside the training.
        note: called with what a person should know; by default a warning in Flower's log.

    Attributes:
        sums: the rounds' exchanges; `sums.ledger` counts their bytes but for those of the training messages, which
            `Compressed` counts.
        arrived: clients whose updates are in the last mean.

    Raises:
        ConfigError: the strategy inside needs single clients' replies, or a parameter is none.
    """

    def __init__(
        self,
        strategy: Strategy,
        *,
        up: Literal["nearest_int8", "nearest_int4"] = "nearest_int8",
        common_range: float = 1.0,
        threshold: float = 0.5,
        memory: Literal["error_feedback", "none"] = "error_feedback",
        most_examples: int = 0,
        weighted_by: str = "num-examples",
        metrics: Sequence[str] = (),
        mask: bool = True,
        timeout: float = 600.0,
        note: Callable[[str], None] = lambda text: logging.getLogger("flwr").warning("%s", text),
    ) -> None:
        require_averaging(strategy, "of which secure aggregation shows nothing but the sum")
        if not 0.5 <= threshold < 1:
            raise ConfigError(f"threshold must lie in [0.5, 1): more than half must be needed to unmask, got {threshold}")
        if memory not in ("error_feedback", "none") or most_examples < 0:
            raise ConfigError(
                f"memory must be 'error_feedback' or 'none', most_examples 0 or more: {memory!r}, {most_examples}"
            )
        quantiser: Any = build(json.dumps({"name": up}))
        require_common(quantiser, common_range, "feedback")
        self._up: NearestInt8 | NearestInt4 = quantiser
        super().__init__(strategy)
        self._scale = CommonGrid.reaching(common_range, quantiser).scale
        self._memory, self._most, self._weighted_by = memory == "error_feedback", most_examples, weighted_by
        self._metrics, self._note = tuple(metrics), note
        self.sums = Sums(threshold if mask else None, timeout, note)
        self._counted: dict[int, str] = {}  # node -> context of the last round that has counted it
        self._failed, self.arrived = 0, 0
        self._trained = Trained()

    # -- outwards --------------------------------------------------------------------------------------------------------

    def configure_train(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        """The inner strategy's messages to those with whom keys and shares have been exchanged."""
        messages = list(self.strategy.configure_train(server_round, arrays, config, grid))
        self.sums.close()
        if not messages:
            return messages
        if len(messages) < _LEAST_CLIENTS:
            raise ConfigError(f"secure aggregation needs at least {_LEAST_CLIENTS} clients a round, got {len(messages)}")
        self._key, self._model = model_of(messages, "Secure")
        self._schema = self._trained.schema(self._model)
        self._layout = Layout(self._schema.dimension, self._up.largest_level, 1 + len(self._metrics))
        by_node = {message.metadata.dst_node_id: message for message in messages}
        try:
            self.sums.begin(server_round, grid, by_node, self._layout.size, self._up.largest_level)
        except (PeerLost, RemoteProtocolError) as error:
            self._fail(server_round, error)
            return []
        return [self._with_task(by_node[node], node, records) for node, records in self.sums.training().items()]

    def _with_task(self, message: Message, node: int, records: Mapping[str, ConfigRecord]) -> Message:
        task = Task(
            record=self._key,
            apart=json.dumps(sorted(self._trained.apart & set(self._model))),
            scale=self._scale,
            largest_level=self._up.largest_level,
            memory=self._memory,
            counted=self._counted.get(node, ""),
            weighted_by=self._weighted_by,
            most_examples=self._most,
            metrics=json.dumps(self._metrics),
        )
        message.content = RecordDict({**message.content, **records, TASK: task.to_record()})
        return message

    # -- inwards ---------------------------------------------------------------------------------------------------------

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The inner strategy's aggregate of the clients' mean; None where a round gave no sum, and the model stays."""
        good = [reply for reply in replies if self._heard(reply)]
        if not self.sums.open:
            return None, None
        try:
            sum_S, nodes = self.sums.finish(good)
            content = self._mean(sum_S, len(nodes))
        except (PeerLost, RemoteProtocolError) as error:
            self._fail(server_round, error)
            return None, None
        self._failed, self.arrived = 0, len(nodes)
        self._counted |= dict.fromkeys(nodes, self.sums.context)
        mean = good[0]
        mean.content = content
        arrays, metrics = self.strategy.aggregate_train(server_round, [mean])
        ledger = self.sums.ledger
        facts = {"saddlebag-secure-up-bytes": ledger.up, "saddlebag-secure-down-bytes": ledger.down}
        facts["saddlebag-secure-clients"] = len(nodes)
        return arrays, MetricRecord({**(metrics or {}), **facts})

    def _heard(self, reply: Message) -> bool:
        if not reply.has_content():
            self._note(f"node {reply.metadata.src_node_id}: {reply.error.reason}")
        return reply.has_content()

    def _mean(self, sum_S: np.ndarray[Any, Any], count: int) -> RecordDict:
        """The clients' mean as one client's reply; the next round's grid follows from what all have said of this one."""
        level_D, fits, (weight, *metrics) = self._layout.split(sum_S)
        if weight <= 0:
            raise RemoteProtocolError(f"the weights of {count} clients add up to {weight}")
        if not self._most and weight != count:
            raise RemoteProtocolError(f"{count} clients count {weight}: one of them does not keep to the protocol")
        mean_D = level_D.astype(np.float64) * (self._scale * max(self._most, 1)) / weight
        self._scale = next_scale(self._scale, CommonGrid.move(fits / count))
        model_D = flatten(self._model, self._schema) + mean_D
        means = {name: value / weight / 2**POINT for name, value in zip(self._metrics, metrics, strict=True)}
        return as_one(self._model, self._schema, model_D, self._key, {**means, self._weighted_by: weight})

    def _fail(self, server_round: int, error: Exception) -> None:
        self._failed += 1
        self.sums.close()
        text = f"round {server_round} gives no sum, the model stays: {error}; {self.sums.who()}"
        if self._failed >= _FAILED:
            raise PeerLost(f"{text}; {self._failed} rounds in a row") from error
        self._note(text)
