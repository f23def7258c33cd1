"""A Flower model as one vector, and payloads as Flower arrays.

A model is an ArrayRecord. Its floating-point arrays, in their order, make the vector; other arrays (counters, for
example) travel as they are. Shapes: D = entries of all floating-point arrays.
"""

from __future__ import annotations

import dataclasses
import io
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import Array, ArrayRecord

from saddlebag.algorithms import Message
from saddlebag.errors import RemoteProtocolError
from saddlebag.proto.codec import decode, encode, max_message_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from saddlebag.compression import Draws, Payload, Vector

__all__ = ["PAYLOAD", "Schema", "flatten", "pack_payload", "read_array", "recast", "rounded", "unflatten", "unpack_payload"]

PAYLOAD = "saddlebag.payload/1"
"""Serialisation type of an Array that holds an encoded payload; the number is the layout version."""
_NUMPY = "numpy.ndarray"
_NPY_HEADER = 1 << 10  # most bytes of a .npy header that is believed


@dataclasses.dataclass(frozen=True)
class Schema:
    """Names, dtypes and shapes of a model's floating-point arrays, in order, and the names of all arrays in theirs."""

    names: tuple[str, ...]
    dtypes: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    order: tuple[str, ...]

    @classmethod
    def of(cls, record: ArrayRecord) -> Schema:
        """The schema of a model."""
        arrays = {name: array for name, array in record.items() if _is_float(array)}
        dtypes, shapes = zip(*((a.dtype, tuple(a.shape)) for a in arrays.values()), strict=True) if arrays else ((), ())
        return cls(tuple(arrays), dtypes, shapes, tuple(record))

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(math.prod(shape) for shape in self.shapes)

    @property
    def dimension(self) -> int:
        return sum(self.sizes)

    def to_json(self) -> str:
        """The schema as text, for a client's state."""
        return json.dumps([self.names, self.dtypes, self.shapes, self.order])

    @classmethod
    def from_json(cls, text: str) -> Schema:
        """The schema that `to_json` wrote."""
        names, dtypes, shapes, order = json.loads(text)
        return cls(tuple(names), tuple(dtypes), tuple(tuple(shape) for shape in shapes), tuple(order))

    def others(self, record: ArrayRecord) -> dict[str, Array]:
        """The arrays that are no part of the vector."""
        return {name: array for name, array in record.items() if name in self.order and name not in self.names}


def _is_float(array: Array) -> bool:
    return array.stype == _NUMPY and array.dtype.startswith("float")


def read_array(name: str, array: Array) -> np.ndarray[Any, Any]:
    """The values of a plain array, after a check of its bytes against dtype and shape: a forged header allocates nothing.

    Raises:
        RemoteProtocolError: it is no numpy array of numbers, or the bytes do not fit.
    """
    if array.stype != _NUMPY or not array.dtype.startswith(("float", "int", "uint", "bool")):
        raise RemoteProtocolError(f"array {name!r} holds {array.dtype} as {array.stype}, not numbers")
    expected = math.prod(array.shape) * np.dtype(array.dtype).itemsize
    if not expected < len(array.data) <= expected + _NPY_HEADER:
        raise RemoteProtocolError(f"array {name!r} of {array.dtype} {array.shape} has {len(array.data)} bytes")
    try:
        with io.BytesIO(array.data) as file:
            version = np.lib.format.read_magic(file)
            read: Any = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(file)
            if (shape, str(dtype)) != (tuple(array.shape), array.dtype):
                raise RemoteProtocolError(f"array {name!r} says {array.dtype} {array.shape} and holds {dtype} {shape}")
            values = np.frombuffer(array.data, dtype, offset=file.tell())
    except ValueError as error:
        raise RemoteProtocolError(f"array {name!r} is no .npy data: {error}") from error
    return values.reshape(shape, order="F" if fortran else "C")


def flatten(record: ArrayRecord, schema: Schema) -> Vector:
    """The model as one float64 vector, shape (D,).

    Raises:
        RemoteProtocolError: an array of the schema is missing or has another shape, or its bytes do not fit.
    """
    parts = []
    for name, shape in zip(schema.names, schema.shapes, strict=True):
        if name not in record or not _is_float(record[name]) or tuple(record[name].shape) != shape:
            got = f"{record[name].dtype} {tuple(record[name].shape)}" if name in record else "nothing"
            raise RemoteProtocolError(f"array {name!r} must hold floating-point numbers of shape {shape}, got {got}")
        parts.append(read_array(name, record[name]).astype(np.float64).ravel())
    return np.concatenate(parts) if parts else np.empty(0)


def unflatten(x_D: Vector, schema: Schema, others: Mapping[str, Array]) -> ArrayRecord:
    """The model of a vector and of the arrays that are no part of it, in the schema's order.

    Raises:
        RemoteProtocolError: one of the other arrays is missing.
    """
    bounds = np.cumsum((0, *schema.sizes))
    arrays = dict(others)
    for name, dtype, shape, start, stop in zip(
        schema.names, schema.dtypes, schema.shapes, bounds[:-1], bounds[1:], strict=True
    ):
        arrays[name] = Array(x_D[start:stop].reshape(shape).astype(dtype))
    if missing := [name for name in schema.order if name not in arrays]:
        raise RemoteProtocolError(f"array {missing[0]!r} is missing")
    return ArrayRecord({name: arrays[name] for name in schema.order})


def rounded(x_D: Vector, schema: Schema) -> Vector:
    """The vector with every entry rounded to the dtype in which the model holds it, float64."""
    parts = np.split(x_D, np.cumsum(schema.sizes)[:-1])
    return np.concatenate([part.astype(dtype).astype(np.float64) for part, dtype in zip(parts, schema.dtypes, strict=True)])


def recast(record: ArrayRecord, schema: Schema) -> ArrayRecord:
    """The model in the schema's dtypes; the record itself where it has them already."""
    if all(record[name].dtype == dtype for name, dtype in zip(schema.names, schema.dtypes, strict=True) if name in record):
        return record
    return unflatten(flatten(record, schema), schema, schema.others(record))


def pack_payload(payload: Payload) -> Array:
    """An encoded payload as an Array that Flower carries untouched."""
    data = b"".join(encode(Message((payload,))))
    return Array("uint8", (len(data),), PAYLOAD, data)


def unpack_payload(array: Array, dimension: int, draws: Draws) -> Payload:
    """The payload of such an Array.

    Raises:
        RemoteProtocolError: it holds something else, or the bytes are no payload of this dimension.
    """
    if array.stype != PAYLOAD:
        raise RemoteProtocolError(f"an array of type {array.stype!r} where {PAYLOAD!r} is expected")
    if len(array.data) > max_message_bytes((dimension,)):
        raise RemoteProtocolError(f"a payload of {len(array.data)} bytes is too long for {dimension} coordinates")
    return decode(array.data, (dimension,), draws).parts[0]
