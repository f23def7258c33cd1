"""The client's half of compression: a Flower mod that turns steps into models and models into payloads.

The app inside sees ordinary models. The mod keeps in the client's state the reference and a memory; both are rebuilt when
they are lost: the server sends the whole model to a client whose version it does not know, a lost error memory is zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord

from saddlebag.compression import SERVER, Draws, feed_back
from saddlebag.errors import NotFiniteError, RemoteProtocolError
from saddlebag.flower.compression.link import LINK, NO_REFERENCE, STEP, UP, Instruction, Report, build, vector_digest
from saddlebag.flower.compression.packing import (
    NAMES,
    Schema,
    flatten,
    models_in,
    pack_names,
    pack_payload,
    rounded,
    unflatten,
    unpack_payload,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flwr.app import Context, Message, RecordDict

    from saddlebag.compression import Payload, Vector

__all__ = ["compression_mod"]

_REFERENCE, _SCHEMA, _MEMORY = "saddlebag.reference", "saddlebag.schema", "saddlebag.memory."
_FRAME = 200  # about what Flower takes for an array beside its data
_LAYOUT = ".schema"  # after a memory's key: of the schema that the memory is in


def compression_mod(message: Message, context: Context, call_next: Callable[[Message, Context], Message]) -> Message:
    """Decode what the server's `Compressed` strategy sent, call the app, encode its reply; other messages pass.

    Raises:
        RemoteProtocolError: the bytes are malformed, or the client does not hold the version that the step starts from;
            Flower turns it into an error reply, and the server sends the whole model the next time.
    """
    record = message.content.config_records.get(LINK) if message.has_content() else None
    if record is None:
        return call_next(message, context)
    instruction = Instruction.from_record(record)
    schema, model_D = _receive(instruction, message.content, context)
    del message.content[LINK]
    reply = call_next(message, context)
    if reply.has_content():
        worker, reset = worker_of(context), False
        if instruction.up:
            reset = _send(instruction, reply.content, schema, model_D, worker, context)
        report = Report(worker=worker, version=instruction.version, shift_reset=reset)
        reply.content[LINK] = report.to_record()
    return reply


def worker_of(context: Context) -> int:
    """The number of a client that keys its draws: its partition, or else what fits of its node's number."""
    return int(context.node_config.get("partition-id", context.node_id & (2**62 - 1)))


def _receive(instruction: Instruction, content: RecordDict, context: Context) -> tuple[Schema, Vector]:
    """Put the model into the message; returns its schema and its vector."""
    record = content.array_records[instruction.record]
    if instruction.digest == NO_REFERENCE:
        schema = Schema.from_json(instruction.schema)
        return schema, flatten(record, schema) if instruction.up else np.empty(0)  # the model is in the message as it is
    schema, held_D = _held(instruction, context)
    if STEP in record:
        draws = Draws(instruction.seed, instruction.version, SERVER)
        unpack_payload(record[STEP], schema.dimension, draws).add_to(held_D)
        known_D = rounded(held_D, schema)
    elif instruction.base < 0:
        known_D = flatten(record, schema)
    else:
        raise RemoteProtocolError(f"the step to version {instruction.version} is missing")
    if vector_digest(known_D) != instruction.digest:
        raise RemoteProtocolError(f"version {instruction.version} of the model differs from the server's")
    context.state[_REFERENCE] = ArrayRecord({"known": Array(known_D)})
    context.state[_SCHEMA] = ConfigRecord({"schema": schema.to_json(), "version": instruction.version})
    others = {name: array for name, array in schema.others(record).items() if name != STEP}
    model = unflatten(known_D, schema, others)
    if missing := [name for name in schema.order if name not in model]:
        raise RemoteProtocolError(f"array {missing[0]!r} is missing")
    content[instruction.record] = model
    return schema, known_D


def _held(instruction: Instruction, context: Context) -> tuple[Schema, Vector]:
    """The model's schema, and the vector that a step is added to: the reference that it starts from, or zero."""
    if instruction.base < 0:
        schema = Schema.from_json(instruction.schema)
        return schema, np.zeros(schema.dimension)
    facts = context.state.config_records.get(_SCHEMA)
    version = facts["version"] if facts else None
    if facts is None or version != instruction.base:
        raise RemoteProtocolError(
            f"this client holds version {version!r} of the model, the step starts from {instruction.base}"
        )
    held = Schema.from_json(str(facts["schema"]))
    schema = Schema.from_json(instruction.schema) if instruction.schema else held
    known_D = context.state.array_records[_REFERENCE]["known"].numpy()
    return schema, np.array(schema.project(known_D, held), np.float64)


def _send(
    instruction: Instruction, content: RecordDict, schema: Schema, model_D: Vector, worker: int, context: Context
) -> bool:
    """Replace each trained model by the payload of its difference from the received one; whether the shift began at 0.

    A record with some of the model's arrays becomes the payload of these and their names; arrays that are no part of the
    received model's vector, or have another shape there, stay as they are.
    """
    memory, reset = _Memory(instruction, schema, worker), False
    models = models_in(content, schema)
    for name in models[:1] if instruction.shift_step else models:  # the server keeps one shift for a client
        record = content.array_records[name]
        part = schema.part(schema.shared(record))
        if not part.dimension:
            continue
        who = f"round {instruction.round}: client {worker}"
        delta_E = difference(record, part, part.project(model_D, schema), who)
        key = f"{_MEMORY}{name}"
        try:
            payload, memory_D, reset = memory.encode(delta_E, part, _kept(key, schema, context))
        except NotFiniteError as error:
            raise NotFiniteError(f"{who} is left out: the difference of its model from the one it was sent: {error}") from error
        named = {} if part.names == schema.names else {NAMES: pack_names(part.names)}
        packed = {UP: pack_payload(payload), **named}
        if named and _bytes(packed.values()) >= _bytes(record[each] for each in part.names):
            continue  # a few numbers are shorter as they are
        if memory_D is not None:
            context.state[key] = ArrayRecord({"memory": Array(memory_D)})
            context.state[f"{key}{_LAYOUT}"] = ConfigRecord({"schema": schema.to_json()})
        content[name] = ArrayRecord({**packed, **part.others(record)})
    return reset


def _bytes(arrays: Iterable[Array]) -> int:
    return sum(len(array.data) + _FRAME for array in arrays)


class _Memory:
    """Compresses differences as the server has asked; a memory is a vector of the whole schema, whatever part is sent."""

    def __init__(self, instruction: Instruction, schema: Schema, worker: int) -> None:
        self._instruction, self._schema = instruction, schema
        self._compressor, self._draws = build(instruction.up), Draws(instruction.seed, instruction.round, worker)

    def encode(self, delta_E: Vector, part: Schema, memory_D: Vector | None) -> tuple[Payload, Vector | None, bool]:
        """The payload of a part's difference, the memory after it if one is kept, and whether a shift began at 0."""
        order, schema = self._instruction, self._schema
        known_D = np.zeros(schema.dimension) if memory_D is None else memory_D
        if order.shift_step:
            reset = memory_D is None or vector_digest(memory_D) != order.shift_digest
            known_D = np.zeros(schema.dimension) if reset else known_D
            shift_E = part.project(known_D, schema)
            payload = self._compressor.encode(delta_E - shift_E, self._draws)
            return payload, schema.project(shift_E + order.shift_step * payload.dense(), part, known_D), reset
        if order.memory == "error_feedback":
            payload, owed_E = feed_back(self._compressor, delta_E, part.project(known_D, schema), self._draws)
            return payload, schema.project(owed_E, part, known_D), False
        return self._compressor.encode(delta_E, self._draws), None, False


def difference(record: ArrayRecord, part: Schema, model_E: Vector, who: str) -> Vector:
    """The trained model less the received one.

    Raises:
        NotFiniteError: one of them is not finite, and where; Flower makes an error reply of it, for this client alone.
    """
    trained_E = flatten(record, part)
    if found := part.not_finite(trained_E):
        raise NotFiniteError(f"{who} is left out: its {found}")
    if found := part.not_finite(model_E):
        raise NotFiniteError(f"{who} is left out: the model that it was sent has diverged, {found}")
    return trained_E - model_E


def _kept(key: str, schema: Schema, context: Context) -> Vector | None:
    """What is kept for a record, in the schema's layout: arrays that the model has lost are forgotten, new ones begin at 0."""
    record, layout = context.state.array_records.get(key), context.state.config_records.get(f"{key}{_LAYOUT}")
    if record is None or layout is None:
        return None
    source = Schema.from_json(str(layout["schema"]))
    return schema.project(np.array(record["memory"].numpy(), np.float64), source)
