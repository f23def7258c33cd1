"""The client's half of compression: a Flower mod that turns steps into models and models into payloads.

The app inside sees ordinary models. The mod keeps in the client's state the reference and a memory; both are rebuilt when
they are lost: the server sends the whole model to a client whose version it does not know, a lost error memory is zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord

from saddlebag.compression import SERVER, Draws, feed_back
from saddlebag.errors import RemoteProtocolError
from saddlebag.flower.compression.link import LINK, NO_REFERENCE, STEP, UP, Instruction, Report, build, vector_digest
from saddlebag.flower.compression.packing import Schema, flatten, pack_payload, rounded, unflatten, unpack_payload

if TYPE_CHECKING:
    from collections.abc import Callable

    from flwr.app import Context, Message, RecordDict

    from saddlebag.compression import Vector

__all__ = ["compression_mod", "worker_of"]

_REFERENCE, _SCHEMA, _MEMORY = "saddlebag.reference", "saddlebag.schema", "saddlebag.memory."


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
    content[instruction.record] = unflatten(known_D, schema, schema.others(record))
    return schema, known_D


def _held(instruction: Instruction, context: Context) -> tuple[Schema, Vector]:
    """The schema, and the vector that a step is added to: the reference that it starts from, or zero."""
    if instruction.base < 0:
        schema = Schema.from_json(instruction.schema)
        return schema, np.zeros(schema.dimension)
    facts = context.state.config_records.get(_SCHEMA)
    version = facts["version"] if facts else None
    if facts is None or version != instruction.base:
        raise RemoteProtocolError(
            f"this client holds version {version!r} of the model, the step starts from {instruction.base}"
        )
    schema = Schema.from_json(str(facts["schema"]))
    return schema, np.array(context.state.array_records[_REFERENCE]["known"].numpy(), np.float64)


def _send(
    instruction: Instruction, content: RecordDict, schema: Schema, model_D: Vector, worker: int, context: Context
) -> bool:
    """Replace each trained model by the payload of its difference from the received one; whether the shift began at 0."""
    compressor, draws, reset = build(instruction.up), Draws(instruction.seed, instruction.round, worker), False
    for name, record in list(content.array_records.items()):
        if not set(schema.names) <= set(record):
            continue  # something else than a model
        delta_D = flatten(record, schema) - model_D
        key = f"{_MEMORY}{name}"
        memory_D = _memory(key, schema.dimension, context)
        if instruction.shift_step:
            reset = memory_D is None or vector_digest(memory_D) != instruction.shift_digest
            shift_D = np.zeros(schema.dimension) if reset or memory_D is None else memory_D
            payload = compressor.encode(delta_D - shift_D, draws)
            memory_D = shift_D + instruction.shift_step * payload.dense()
        elif instruction.memory == "error_feedback":
            payload, memory_D = feed_back(compressor, delta_D, np.zeros_like(delta_D) if memory_D is None else memory_D, draws)
        else:
            payload, memory_D = compressor.encode(delta_D, draws), None
        if memory_D is not None:
            context.state[key] = ArrayRecord({"memory": Array(memory_D)})
        content[name] = ArrayRecord({UP: pack_payload(payload), **schema.others(record)})
    return reset


def _memory(key: str, dimension: int, context: Context) -> Vector | None:
    record = context.state.array_records.get(key)
    if record is None or tuple(record["memory"].shape) != (dimension,):
        return None
    return np.array(record["memory"].numpy(), np.float64)
