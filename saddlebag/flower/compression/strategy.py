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

from saddlebag.compression import Contractive, Draws, Unbiased, kind_of
from saddlebag.errors import ConfigError, NotFiniteError, RemoteProtocolError
from saddlebag.flower.around import Around
from saddlebag.flower.compression.dtypes import Dtypes
from saddlebag.flower.compression.ledger import Ledger, serialised_bytes
from saddlebag.flower.compression.link import LINK, NO_REFERENCE, STEP, UP, Instruction, Report, build, vector_digest
from saddlebag.flower.compression.packing import (
    NAMES,
    Schema,
    array_kind,
    first_not_finite,
    flatten,
    models_in,
    names_of,
    unflatten,
    unpack_payload,
)
from saddlebag.flower.compression.references import References, Way

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from flwr.app import Array, Message
    from flwr.serverapp import Grid
    from flwr.serverapp.strategy import Strategy

    from saddlebag.compression import Vector

__all__ = ["Compressed"]

Memory = Literal["auto", "error_feedback", "ef21", "diana", "none"]
_NEEDS = {"error_feedback": "contractive", "ef21": "contractive", "diana": "unbiased"}
_DISTANCE_BASED = ("Krum", "MultiKrum", "Bulyan")
_COORDINATEWISE = ("FedMedian", "FedTrimmedAvg")
_MALFORMED = 901  # error code of a reply that could not be decoded
_PLAIN = Way(-1, -1, None, NO_REFERENCE)  # the whole model to everybody, who keep nothing of it


class Compressed(Around):
    """Wraps a strategy; its clients need `mods=[compression_mod]`.

    Args:
        strategy: the strategy inside, unmodified.
        up: the uplink's compressor as a table, for example {"name": "top_k", "fraction": 0.01}; None for plain replies.
        down: the downlink's, contractive; None for whole models.
        memory: what a client keeps beside an `up` compressor: "error_feedback" or "ef21" for a contractive one, "diana" for
            an unbiased one, "none"; "auto" is the first that fits. A shift costs the server a vector for each client.
        seed: of all draws.

    Attributes:
        ledger: bytes so far, and what they would have been.
        heard: clients whose replies could be used in the last exchange.

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
        super().__init__(strategy)
        self.seed = seed
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
        self._dtypes = Dtypes()
        self._schema = Schema.of(ArrayRecord())
        self._target_D: Vector = np.empty(0)  # the model as the strategy gave it, where a payload is to be added to it
        self._whole = ArrayRecord()  # the same as it is sent
        self._strategys = (self._whole, self._whole)  # the model that the strategy aggregated, as given out and as its own
        self._references: References | None = None  # of the clients, where steps go down
        self._shifts: dict[int, Vector] = {}  # node -> the shift it subtracts
        self._exchanges = 0
        self.heard = 0

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
        model = self._inner(arrays)
        return self._outwards(self.strategy.configure_train(server_round, model, config, grid), model)

    def configure_evaluate(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        """The inner strategy's messages, with steps in place of models."""
        model = self._inner(arrays)
        return self._outwards(self.strategy.configure_evaluate(server_round, model, config, grid), model)

    def _inner(self, arrays: ArrayRecord) -> ArrayRecord:
        """The strategy's own model, means of whole numbers unrounded, where it is what the strategy aggregated last."""
        given, own = self._strategys
        return own if arrays is given else arrays

    def _outwards(self, configured: Iterable[Message], arrays: ArrayRecord) -> list[Message]:
        messages = list(configured)
        models = {id(record): (key, record) for m in messages for key, record in m.content.array_records.items()}
        if not models:
            return messages
        if len(models) > 1 and id(arrays) not in models:
            names = ", ".join(repr(key) for key, _ in models.values())
            raise ConfigError(
                f"Compressed needs one model for all clients of a round, got {len(models)} different ArrayRecords ({names}), "
                "none of them the strategy's model"
            )
        key, model = models.get(id(arrays)) or next(iter(models.values()))
        self._advance(model)
        self._exchanges += 1
        known: dict[str, tuple[int, list[str]]] = {}
        plain: dict[int, int] = {}
        for message in messages:
            content = message.content
            if id(content) not in plain:
                plain[id(content)] = serialised_bytes(content, known)
            self.ledger.plain_down += plain[id(content)]
            if content.array_records.get(key) is not model:
                raise ConfigError(f"Compressed needs one model for all clients of a round; a message has none as {key!r}")
            message.content = self._addressed(content, key, message.metadata.dst_node_id)
            self.ledger.down += serialised_bytes(message.content, known)
            self.ledger.messages += 1
        return messages

    def _advance(self, model: ArrayRecord) -> None:
        """Take the strategy's model as what clients are to come to."""
        self._dtypes.learn(model)
        self._whole = self._dtypes.restored(model)
        before, schema = self._schema, Schema.of(self._whole, self._dtypes.apart)
        if not schema.same_arrays(before):
            self._schema = schema
            self._shifts = {node: schema.project(shift_D, before) for node, shift_D in self._shifts.items()}
            if self._down is not None and self._references is None:
                self._references = References(self._down, schema, self.seed)
        schema = self._schema
        if self._up is not None or self._references is not None:
            exact = {name: array for name, array in model.items() if array_kind(array) == "f"}
            source = self._whole if self._references is None else ArrayRecord({**self._whole, **exact})
            self._target_D = flatten(source, schema)
            if found := schema.not_finite(self._target_D):
                warnings.warn(f"exchange {self._exchanges + 1}: the strategy's model has diverged, {found}", stacklevel=4)
        if self._steps is not None:
            self._steps.begin(self._target_D, sum(len(array.data) for array in self._whole.values()), schema)

    @property
    def _steps(self) -> References | None:
        """The clients' references; None where whole models go down, as those without floating-point numbers do."""
        return self._references if self._schema.dimension else None

    def _addressed(self, content: RecordDict, key: str, node: int) -> RecordDict:
        """A copy of the content for one client: the step from the reference it holds, or the model itself."""
        schema = self._schema
        way = _PLAIN if self._steps is None else self._steps.way(node)
        record = self._whole if way.step is None else ArrayRecord({STEP: way.step, **schema.others(self._whole)})
        instruction = Instruction(
            record=key,
            base=way.base,
            schema=schema.to_json() if way.base < 0 or way.relaid else "",
            version=way.version,
            digest=way.digest,
            seed=self.seed,
            round=self._exchanges,
            up=self._up_spec if schema.dimension else "",
            memory=self.memory,
            shift_step=self._shift_step(),
            shift_digest=self._shift_digest(node),
        )
        return RecordDict({**content, key: record, LINK: instruction.to_record()})

    # -- inwards ---------------------------------------------------------------------------------------------------------

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The inner strategy's aggregate of the decoded replies, whole numbers whole; the metrics gain the ledger's totals."""
        decoded = self._inwards(replies)
        contents = [reply.content for reply in decoded if reply.has_content()]
        for name in self._dtypes.listen(record for content in contents for record in content.array_records.values()):
            warnings.warn(
                f"round {server_round}: clients return array {name!r} in a dtype that its own cannot hold; it has theirs now",
                stacklevel=2,
            )
        own, metrics = self.strategy.aggregate_train(server_round, decoded)
        given = None if own is None else self._dtypes.restored(own, only_whole=True)
        if own is not None and given is not None:
            self._strategys = (given, own)
        return given, MetricRecord({**(metrics or {}), **self.ledger.metrics()})

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """The inner strategy's aggregate."""
        return self.strategy.aggregate_evaluate(server_round, self._inwards(replies))

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
                known_D = None if self._steps is None else self._steps.heard(node, report.version)
                self._decode(reply.content, report, node, known_D)
                self._check(reply.content, report)
            except (RemoteProtocolError, NotFiniteError) as error:
                self._shifts.pop(node, None)
                errors.append(_refused(reply, str(error)))
                continue
            self.ledger.plain_up += serialised_bytes(reply.content)
            good.append((report.worker, reply))
        self.heard = len(good)
        return [reply for _, reply in sorted(good, key=lambda pair: pair[0])] + errors

    def _decode(self, content: RecordDict, report: Report, node: int, known_D: Vector | None) -> None:
        """Put models back in the place of payloads: the strategy's own model and the client's difference from its reference.

        Not the reference and the difference: what the steps have not told the client yet would be lost. A reply with some of
        the model's arrays becomes a model with these, and what travelled as it is stays as it is.
        """
        schema = self._schema
        del content[LINK]
        whole = models_in(content, schema)
        for key, record in list(content.array_records.items()):
            if UP in record:
                part = schema.part(names_of(record, schema))
                delta_E = self._delta(record[UP], report, node, part)
            elif known_D is not None and key in whole:
                part = schema.part(schema.shared(record))
                delta_E = flatten(record, part) - part.project(known_D, schema)
            else:
                continue
            others = {name: array for name, array in part.others(record).items() if name not in (UP, NAMES)}
            content[key] = unflatten(part.project(self._target_D, schema) + delta_E, part, others)

    def _check(self, content: RecordDict, report: Report) -> None:
        """Refuse a model that is not finite where the one that was sent is: one such client would make everybody's so."""
        for record in content.array_records.values():
            if found := first_not_finite(record, self._whole):
                raise NotFiniteError(f"exchange {self._exchanges}: client {report.worker} is left out: its {found}")

    def _delta(self, array: Array, report: Report, node: int, part: Schema) -> Vector:
        """The difference of some arrays that a payload stands for, with the client's shift where there is one."""
        draws, schema = Draws(self.seed, self._exchanges, report.worker), self._schema
        delta_E = unpack_payload(array, part.dimension, draws).dense()
        if self._shift_step():
            held_D = self._shifts.get(node)
            shift_D = np.zeros(schema.dimension) if report.shift_reset or held_D is None else held_D
            shift_E = part.project(shift_D, schema)
            self._shifts[node] = schema.project(shift_E + self._shift_step() * delta_E, part, shift_D)
            delta_E = shift_E + delta_E
        return delta_E

    def _shift_step(self) -> float:
        """1 for EF21, 1 / (1 + omega) for DIANA, 0 without a shift."""
        if not self._schema.dimension:
            return 0.0
        if self.memory == "diana" and isinstance(self._up, Unbiased):
            return 1.0 / (1.0 + self._up.omega(self._schema.dimension))
        return float(self.memory == "ef21")

    def _shift_digest(self, node: int) -> int:
        shift_D = self._shifts.get(node)
        return -1 if shift_D is None else vector_digest(shift_D)


def _refused(reply: Message, reason: str) -> Message:
    """An error reply in the place of one that cannot be used, from the same client."""
    refused = reply.__class__(Error(code=_MALFORMED, reason=reason), reply_to=reply)
    refused.metadata.__dict__["_src_node_id"] = reply.metadata.src_node_id  # else Flower's log blames the server
    return refused
