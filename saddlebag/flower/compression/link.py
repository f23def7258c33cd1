"""What the two ends of a compressed Flower app say to each other, beside payloads.

Both keep a *reference* for each client: the model as that client holds it, which moves only by what has been sent. The server
numbers references; a message carries the step from the one that a client holds, or the whole model.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import ConfigRecord

from saddlebag.errors import BrokenStream, RemoteProtocolError
from saddlebag.launch.api import make_compressor
from saddlebag.proto.seal import checksum

if TYPE_CHECKING:
    from collections.abc import Mapping

    from saddlebag.compression import Compressor, Vector

LINK = "saddlebag"
"""Key of the ConfigRecord that both directions add to a message."""
STEP = "saddlebag.step"
"""Name of the array that holds a downlink payload."""
UP = "saddlebag.up"
"""Name of the array that holds an uplink payload."""
NO_REFERENCE = -1
"""In place of a digest: every message has the whole model, so clients need not keep one."""
_PROTOCOL = 4
_CHECK = "check"


def vector_digest(x_D: Vector) -> int:
    """The first 63 bits of the SHA-256 of a vector's bits; Flower's integers are signed, and processors compute SHA-256."""
    return int.from_bytes(hashlib.sha256(np.ascontiguousarray(x_D).data).digest()[:8], "little") >> 1


def build(spec: str) -> Compressor:
    """A compressor from its JSON table.

    Raises:
        ConfigError: the name is unknown or the parameters do not fit.
    """
    table: dict[str, Any] = json.loads(spec)
    return make_compressor(table.pop("name"), **table)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Instruction:
    """From the server.

    Attributes:
        record: key of the ArrayRecord that holds the model, or the step towards it.
        base: number of the reference that the step starts from; -1 when the model itself is there.
        schema: of the model, where it is there; strategies may change the dtype of an array that is no part of the vector.
        version: number of the reference after it, which keys the step's draws.
        digest: of that reference, or `NO_REFERENCE`.
        seed, round: of the uplink's draws.
        up: JSON table of the uplink's compressor.
        memory: what the client keeps: "none", "error_feedback", or a shift ("diana", "ef21").
        shift_step: a in h += a C(delta - h); 0 without a shift.
        shift_digest: of the shift that the server holds for this client; a client with another one starts again from 0.
    """

    record: str
    base: int
    schema: str
    version: int
    digest: int
    seed: int
    round: int
    up: str
    memory: str
    shift_step: float
    shift_digest: int

    def to_record(self) -> ConfigRecord:
        """As Flower carries it."""
        return sealed_record({"protocol": _PROTOCOL, **dataclasses.asdict(self)})

    @classmethod
    def from_record(cls, record: ConfigRecord) -> Instruction:
        """What `to_record` gave.

        Raises:
            BrokenStream: it is not what was sent.
            RemoteProtocolError: another protocol version, or a field is missing.
        """
        return cls(**_fields(cls, record))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """From a client.

    Attributes:
        worker: the client's partition, which keys its draws and orders the replies.
        version: number of its reference, which the next step starts from.
        shift_reset: whether its shift was 0 before this message.
    """

    worker: int
    version: int
    shift_reset: bool

    def to_record(self) -> ConfigRecord:
        """As Flower carries it."""
        return sealed_record({"protocol": _PROTOCOL, **dataclasses.asdict(self)})

    @classmethod
    def from_record(cls, record: ConfigRecord) -> Report:
        """What `to_record` gave; errors as `Instruction.from_record`."""
        return cls(**_fields(cls, record))


def _fields(cls: type[Any], record: ConfigRecord) -> dict[str, Any]:
    if record.get("protocol") != _PROTOCOL:
        raise RemoteProtocolError(f"link protocol {record.get('protocol')!r} is not {_PROTOCOL}; use the same release")
    return read_fields(cls, record)


def sealed_record(values: dict[str, Any]) -> ConfigRecord:
    """Facts as Flower carries them, with their checksum."""
    return ConfigRecord({**values, _CHECK: _check(values)})


def _check(values: Mapping[str, Any]) -> int:
    return checksum(json.dumps({key: values[key] for key in sorted(values)}).encode())


def read_fields(cls: type[Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a dataclass's fields in a record of `sealed_record`, each of the type that the field declares.

    Raises:
        BrokenStream: the record is not what was sent.
        RemoteProtocolError: one is missing, or of another type.
    """
    kinds = {"str": str, "int": int, "bool": bool, "float": float, "list[int]": list}
    values = {}
    for field in dataclasses.fields(cls):
        value = record.get(field.name)
        if type(value) is not kinds[str(field.type)]:
            raise RemoteProtocolError(f"{field.name} must be {field.type}, got {value!r}")
        values[field.name] = value
    if record.get(_CHECK) != _check({key: value for key, value in record.items() if key != _CHECK}):
        raise BrokenStream(f"the facts of a {cls.__name__.lower()} do not fit their checksum: bits were flipped on the way")
    return values
