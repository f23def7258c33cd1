"""Compression around any Flower strategy, in the shape of Flower's own differential-privacy wrappers.

Down, the server sends the innovation of the model against the reference that a client holds (contractive compressors, see
`references.py`); what a step leaves out stays in the strategy's model, and the client's next step tells of it. Up, a client
sends the difference of its trained model from the received one, with a memory: what it owes (error feedback), or a shift that
the server holds as well and that follows the client's differences (EF21, DIANA), so that what clients disagree about is not
sent again in every round. The inner strategy sees ordinary models and replies. Parameters themselves are never compressed:
their compression error would not shrink as training converges.
"""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Error, MetricRecord, RecordDict
from flwr.serverapp.strategy import Strategy

from saddlebag.compression import Contractive, Draws, Unbiased, kind_of
from saddlebag.errors import ConfigError, RemoteProtocolError
from saddlebag.flower.compression.ledger import Ledger, serialised_bytes
from saddlebag.flower.compression.link import LINK, NO_REFERENCE, STEP, UP, Instruction, Report, build, vector_digest
from saddlebag.flower.compression.packing import Schema, flatten, recast, unflatten, unpack_payload
from saddlebag.flower.compression.references import References, Way

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from flwr.app import Array, Message
    from flwr.serverapp import Grid

    from saddlebag.compression import Vector

__all__ = ["Compressed", "Memory"]

Memory = Literal["auto", "error_feedback", "ef21", "diana", "none"]
_NEEDS = {"error_feedback": "contractive", "ef21": "contractive", "diana": "unbiased"}
_DISTANCE_BASED = ("Krum", "MultiKrum", "Bulyan")
_COORDINATEWISE = ("FedMedian", "FedTrimmedAvg")
_MALFORMED = 901  # error code of a reply that could not be decoded
_PLAIN = Way(-1, -1, None, NO_REFERENCE)  # the whole model to everybody, who keep nothing of it


class Compressed(Strategy):
    """Wraps a strategy; its clients need `mods=[compression_mod]`.

    Args:
        strategy: the strategy inside, unmodified.
        up: the uplink's compressor as a table, for example {"name": "top_k", "fraction": 0.01}; None for plain replies.
        down: the downlink's, contractive; None for whole models.
        memory: what a client keeps beside an `up` compressor: "error_feedback" or "ef21" for a contractive one, "diana" for
            an unbiased one, "none"; "auto" is the first that fits. A shift costs the server a vector for each client.
        seed: of all draws.

    Raises:
        ConfigError: a compressor is unknown, its parameters do not fit, or it is of the wrong kind for its memory.
    """

    def __init__(
        self,
        strategy: Strategy,
        *,
        up: Mapping[str, Any] | None = None,
        down: Mapping[str, Any] | None = None,
        memory: Memory = "auto",
        seed: int = 0,
    ) -> None:
        self.strategy, self.seed = strategy, seed
        self.ledger = Ledger()
        self._up_spec = json.dumps(dict(up)) if up else ""
        self._up = build(self._up_spec) if up else None
        self._down = build(json.dumps(dict(down))) if down else None
        if self._down is not None and not isinstance(self._down, Contractive):
            raise ConfigError(f"down must be contractive, for it sends innovations, got {self._down} ({kind_of(self._down)})")
        self.memory = self._memory_for(memory)
        if self._up is not None and type(strategy).__name__ in _DISTANCE_BASED:
            warnings.warn(
                f"{type(strategy).__name__} compares the distances of clients' models, which compression errors dominate: "
                "prefer quantisers to sparsifiers, or another strategy",
                stacklevel=2,
            )
        if self._up is not None and type(strategy).__name__ in _COORDINATEWISE and self.memory not in ("ef21", "diana"):
            warnings.warn(
                f"{type(strategy).__name__} orders clients in every coordinate, of which most send nothing: give memory='ef21'",
                stacklevel=2,
            )
        self._schema: Schema | None = None
        self._target_D: Vector = np.empty(0)  # the model as the strategy gave it, where a payload is to be added to it
        self._whole = ArrayRecord()  # the same as it is sent
        self._references: References | None = None  # of the clients, where steps go down
        self._shifts: dict[int, Vector] = {}  # node -> the shift it subtracts
        self._exchanges = 0

    def _memory_for(self, memory: Memory) -> str:
        up = self._up
        if up is None or memory == "none":
            return "none"
        fitting = [name for name, needed in _NEEDS.items() if needed in kind_of(up)]
        if memory == "auto":
            if not fitting:
                raise ConfigError(f"{up} is neither contractive nor unbiased, so no memory fits it; give memory='none'")
            return fitting[0]
        if memory not in fitting:
            raise ConfigError(f"memory {memory!r} does not fit {up} ({kind_of(up)}); fitting: {', '.join((*fitting, 'none'))}")
        return memory

    # -- outwards --------------------------------------------------------------------------------------------------------

    def configure_train(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        """The inner strategy's messages, with steps in place of models."""
        return self._outwards(self.strategy.configure_train(server_round, arrays, config, grid))

    def configure_evaluate(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        """The inner strategy's messages, with steps in place of models."""
        return self._outwards(self.strategy.configure_evaluate(server_round, arrays, config, grid))

    def _outwards(self, configured: Iterable[Message]) -> list[Message]:
        messages = list(configured)
        models = {id(record): (key, record) for m in messages for key, record in m.content.array_records.items()}
        if not models:
            return messages
        if len(models) > 1:
            raise ConfigError(
                f"Compressed needs one model for all clients of a round, got {len(models)} different ArrayRecords"
            )
        (key, model), *_ = models.values()
        self._advance(model)
        self._exchanges += 1
        known: dict[str, tuple[int, list[str]]] = {}
        plain: dict[int, int] = {}
        for message in messages:
            content = message.content
            if id(content) not in plain:
                plain[id(content)] = serialised_bytes(content, known)
            self.ledger.plain_down += plain[id(content)]
            message.content = self._addressed(content, key, model, message.metadata.dst_node_id)
            self.ledger.down += serialised_bytes(message.content, known)
            self.ledger.messages += 1
        return messages

    def _advance(self, model: ArrayRecord) -> None:
        """Take the strategy's model as what clients are to come to."""
        if self._schema is None:
            self._schema = Schema.of(model)
            if self._down is not None:
                self._references = References(self._down, self._schema, self.seed)
        self._whole = recast(model, self._schema)
        if self._up is not None or self._references is not None:
            self._target_D = flatten(self._whole if self._references is None else model, self._schema)
        if self._references is not None:
            self._references.begin(self._target_D, sum(len(array.data) for array in self._whole.values()))

    def _addressed(self, content: RecordDict, key: str, model: ArrayRecord, node: int) -> RecordDict:
        """A copy of the content for one client: the step from the reference it holds, or the model itself."""
        assert self._schema is not None
        way = _PLAIN if self._references is None else self._references.way(node)
        record = self._whole if way.step is None else ArrayRecord({STEP: way.step, **self._schema.others(model)})
        instruction = Instruction(
            record=key,
            base=way.base,
            schema=self._schema.to_json() if way.base < 0 else "",
            version=way.version,
            digest=way.digest,
            seed=self.seed,
            round=self._exchanges,
            up=self._up_spec,
            memory=self.memory,
            shift_step=self._shift_step(),
            shift_digest=self._shift_digest(node),
        )
        return RecordDict({**content, key: record, LINK: instruction.to_record()})

    # -- inwards ---------------------------------------------------------------------------------------------------------

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The inner strategy's aggregate of the decoded replies; the metrics gain the ledger's totals."""
        arrays, metrics = self.strategy.aggregate_train(server_round, self._inwards(replies))
        return arrays, MetricRecord({**(metrics or {}), **self.ledger.metrics()})

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """The inner strategy's aggregate."""
        return self.strategy.aggregate_evaluate(server_round, self._inwards(replies))

    def summary(self) -> None:
        """Log the inner strategy's summary."""
        self.strategy.summary()

    def _inwards(self, replies: Iterable[Message]) -> list[Message]:
        """The replies, decoded, in the order of their workers; errors last. A malformed reply becomes an error."""
        good: list[tuple[int, Message]] = []
        errors: list[Message] = []
        for reply in replies:
            node = reply.metadata.src_node_id
            if not reply.has_content():
                errors.append(reply)
                continue
            self.ledger.up += serialised_bytes(reply.content)
            record = reply.content.config_records.get(LINK)
            if record is None:  # an app without the mod would train on the steps as if they were a model
                raise ConfigError("a client replied without the mod: give its ClientApp mods=[compression_mod]")
            try:
                report = Report.from_record(record)
                known_D = None if self._references is None else self._references.heard(node, report.version)
                self._decode(reply.content, report, node, known_D)
            except RemoteProtocolError as error:
                self._shifts.pop(node, None)
                errors.append(reply.__class__(Error(code=_MALFORMED, reason=str(error)), reply_to=reply))
                continue
            self.ledger.plain_up += serialised_bytes(reply.content)
            good.append((report.worker, reply))
        return [reply for _, reply in sorted(good, key=lambda pair: pair[0])] + errors

    def _decode(self, content: RecordDict, report: Report, node: int, known_D: Vector | None) -> None:
        """Put models back in the place of payloads: the strategy's own model and the client's difference from its reference.

        Not the reference and the difference: what the steps have not told the client yet would be lost.
        """
        assert self._schema is not None
        schema = self._schema
        for key, record in list(content.array_records.items()):
            if UP in record:
                content[key] = unflatten(self._target_D + self._delta(record[UP], report, node), schema, schema.others(record))
            elif known_D is not None and set(schema.names) <= set(record):
                delta_D = flatten(record, schema) - known_D
                content[key] = unflatten(self._target_D + delta_D, schema, schema.others(record))
        del content[LINK]

    def _delta(self, array: Array, report: Report, node: int) -> Vector:
        """The difference that a payload stands for, with the client's shift where there is one."""
        assert self._schema is not None
        draws = Draws(self.seed, self._exchanges, report.worker)
        delta_D = unpack_payload(array, self._schema.dimension, draws).dense()
        if self._shift_step():
            held_D = self._shifts.get(node)
            shift_D = np.zeros(self._schema.dimension) if report.shift_reset or held_D is None else held_D
            self._shifts[node] = shift_D + self._shift_step() * delta_D
            delta_D = shift_D + delta_D
        return delta_D

    def _shift_step(self) -> float:
        """1 for EF21, 1 / (1 + omega) for DIANA, 0 without a shift."""
        if self.memory == "diana" and self._schema is not None and isinstance(self._up, Unbiased):
            return 1.0 / (1.0 + self._up.omega(self._schema.dimension))
        return float(self.memory == "ef21")

    def _shift_digest(self, node: int) -> int:
        shift_D = self._shifts.get(node)
        return -1 if shift_D is None else vector_digest(shift_D)
