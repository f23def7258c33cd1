"""A Flower model as one vector, and payloads as Flower arrays.

A model is an ArrayRecord. Its floating-point arrays, in their order, make the vector; other arrays (counters, for
example) travel as they are. What a client returns may have fewer arrays, others and more: those of the vector that are there
make a part of it, the rest travels as it is. Shapes: D = entries of all floating-point arrays, E = of another schema's.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import itertools
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import Array, ArrayRecord

from saddlebag.algorithms import Message
from saddlebag.errors import LocalProtocolError, RemoteProtocolError
from saddlebag.proto.codec import decode, encode, max_message_bytes
from saddlebag.proto.seal import SEAL_BYTES, opened, sealed

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from flwr.app import RecordDict

    from saddlebag.compression import Draws, Payload, Vector

PAYLOAD = "saddlebag.payload/2"
"""Serialisation type of an Array that holds an encoded payload; the number is the layout version."""
NAMES = "saddlebag.names"
"""Name of the array beside a payload that lists its model's arrays, where these are not all of the schema's."""
_NAMES_TYPE = "saddlebag.names/1"
_NUMPY = "numpy.ndarray"
_NPY_HEADER = 1 << 10  # most bytes of a .npy header that is believed


@dataclasses.dataclass(frozen=True)
class Schema:
    """Names, dtypes and shapes of the arrays that make a model's vector, in order; the names of all its arrays in theirs."""

    names: tuple[str, ...]
    dtypes: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    order: tuple[str, ...]

    @classmethod
    def of(cls, record: ArrayRecord, apart: Collection[str] = ()) -> Schema:
        """The schema of a model: its floating-point arrays, but for those `apart`, make the vector."""
        arrays = {name: array for name, array in record.items() if array_kind(array) == "f" and name not in apart}
        dtypes, shapes = zip(*((a.dtype, tuple(a.shape)) for a in arrays.values()), strict=True) if arrays else ((), ())
        return cls(tuple(arrays), dtypes, shapes, tuple(record))

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(math.prod(shape) for shape in self.shapes)

    @property
    def dimension(self) -> int:
        return sum(self.sizes)

    @functools.cached_property
    def places(self) -> dict[tuple[str, tuple[int, ...]], slice]:
        """Where each array, by name and shape, stands in the vector."""
        bounds = [0, *itertools.accumulate(self.sizes)]
        keys = zip(self.names, self.shapes, strict=True)
        return {key: slice(start, stop) for key, start, stop in zip(keys, bounds, bounds[1:], strict=False)}

    def to_json(self) -> str:
        """The schema as text, for a client's state."""
        return json.dumps([self.names, self.dtypes, self.shapes, self.order])

    @classmethod
    def from_json(cls, text: str) -> Schema:
        """The schema that `to_json` wrote."""
        names, dtypes, shapes, order = json.loads(text)
        return cls(tuple(names), tuple(dtypes), tuple(tuple(shape) for shape in shapes), tuple(order))

    def others(self, record: ArrayRecord) -> dict[str, Array]:
        """The arrays of a record that are no part of the vector."""
        return {name: array for name, array in record.items() if name not in self.names}

    def shared(self, record: ArrayRecord) -> tuple[str, ...]:
        """The names of the vector's arrays that a record holds too, as floating-point numbers of the same shape."""
        return tuple(
            name
            for name, shape in zip(self.names, self.shapes, strict=True)
            if name in record and array_kind(record[name]) == "f" and tuple(record[name].shape) == shape
        )

    def part(self, names: Collection[str]) -> Schema:
        """The schema of some of the vector's arrays alone."""
        if len(names) == len(self.names):
            return self
        kept = [number for number, name in enumerate(self.names) if name in names]
        dtypes, shapes = tuple(self.dtypes[k] for k in kept), tuple(self.shapes[k] for k in kept)
        return Schema(tuple(self.names[k] for k in kept), dtypes, shapes, self.order)

    def project(self, x_E: Vector, source: Schema, onto_D: Vector | None = None) -> Vector:
        """The vector of this schema with the arrays that it shares with another's vector; the rest is of `onto_D`, or zero."""
        if self.places == source.places:
            return x_E
        x_D = np.zeros(self.dimension) if onto_D is None else onto_D.copy()
        for key, place in self.places.items():
            if key in source.places:
                x_D[place] = x_E[source.places[key]]
        return x_D

    def same_arrays(self, other: Schema) -> bool:
        """Whether the other names the same arrays, in whatever order."""
        rows = [sorted(zip(each.names, each.dtypes, each.shapes, strict=True)) for each in (self, other)]
        return rows[0] == rows[1] and sorted(self.order) == sorted(other.order)

    def not_finite(self, x_D: Vector) -> str | None:
        """Where a vector is not finite, in words; None where it is."""
        if np.isfinite(x_D).all():
            return None
        at = int(np.flatnonzero(~np.isfinite(x_D))[0])
        for (name, _), place in self.places.items():
            if place.start <= at < place.stop:
                return f"array {name!r} holds {x_D[at]} at entry {at - place.start}"
        raise LocalProtocolError(f"a vector of {len(x_D)} where the schema has {self.dimension}")


def array_kind(array: Array) -> str:
    """The numpy kind of a plain array ("f", "i", "u", "b", "c", ...); empty for anything else."""
    if array.stype != _NUMPY:
        return ""
    try:
        return np.dtype(array.dtype).kind
    except (TypeError, ValueError, SyntaxError):  # what numpy says to text that is no dtype
        return ""


def models_in(content: RecordDict, schema: Schema) -> list[str]:
    """The keys of a reply's records that are models: the only one, or else those that hold all of the schema's arrays."""
    records = content.array_records
    return [key for key, record in records.items() if len(records) == 1 or schema.shared(record) == schema.names]


def first_not_finite(record: ArrayRecord, model: ArrayRecord) -> str | None:
    """Where a client's arrays are not finite, in words; None if they are.

    An array that is not finite in the model (a mask of infinities) may be so in the reply, entry by entry; in one that the
    model does not have only NaN counts.

    Raises:
        RemoteProtocolError: an array's bytes do not fit what it says of itself.
    """
    for name, array in record.items():
        if array_kind(array) not in ("f", "c"):
            continue
        value = read_array(name, array, "fc")
        bad = ~np.isfinite(value)
        if not bad.any():
            continue
        known = model.get(name)
        if known is not None and array_kind(known) in ("f", "c") and tuple(known.shape) == value.shape:
            bad &= np.isfinite(read_array(name, known, "fc"))
        else:
            bad = np.isnan(value)
        if bad.any():
            at = int(np.flatnonzero(bad)[0])
            return f"array {name!r} holds {value.ravel()[at]} at entry {at}"
    return None


def read_array(name: str, array: Array, kinds: str = "fiub") -> np.ndarray[Any, Any]:
    """The values of a plain array of one of some numpy kinds; its bytes are checked first: a forged header allocates nothing.

    Raises:
        RemoteProtocolError: it is no numpy array of numbers, or the bytes do not fit.
    """
    if (array_kind(array) or "?") not in kinds:
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
        if name not in record or array_kind(record[name]) != "f" or tuple(record[name].shape) != shape:
            got = f"{record[name].dtype} {tuple(record[name].shape)}" if name in record else "nothing"
            raise RemoteProtocolError(f"array {name!r} must hold floating-point numbers of shape {shape}, got {got}")
        parts.append(read_array(name, record[name]).astype(np.float64).ravel())
    return np.concatenate(parts) if parts else np.empty(0)


def unflatten(x_D: Vector, schema: Schema, others: Mapping[str, Array]) -> ArrayRecord:
    """The model of a vector and of the arrays that are no part of it, in the schema's order, those it does not name last."""
    arrays = dict(others)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows its dtype is found by whoever checks
        for (name, shape), dtype in zip(schema.places, schema.dtypes, strict=True):
            arrays[name] = Array(x_D[schema.places[name, shape]].reshape(shape).astype(dtype))
    known = [name for name in schema.order if name in arrays]
    return ArrayRecord({name: arrays[name] for name in dict.fromkeys((*known, *arrays))})


def rounded(x_D: Vector, schema: Schema) -> Vector:
    """The vector with every entry rounded to the dtype in which the model holds it, float64."""
    out_D = np.empty(len(x_D))
    with np.errstate(over="ignore", invalid="ignore"):
        for place, dtype in zip(schema.places.values(), schema.dtypes, strict=True):
            out_D[place] = x_D[place].astype(dtype)
    return out_D


def pack_names(names: Sequence[str]) -> Array:
    """The names of a payload's arrays as an Array that Flower carries untouched."""
    data = sealed(json.dumps(list(names)).encode())
    return Array("uint8", (len(data),), _NAMES_TYPE, data)


def names_of(record: ArrayRecord, schema: Schema) -> tuple[str, ...]:
    """The names of the arrays that a record's payload stands for.

    Raises:
        BrokenStream: they are not what was sent.
        RemoteProtocolError: they are malformed, or not the schema's.
    """
    array = record.get(NAMES)
    if array is None:
        return schema.names
    try:
        names = json.loads(bytes(opened(array.data, NAMES))) if array.stype == _NAMES_TYPE else None
    except ValueError as error:
        raise RemoteProtocolError(f"{NAMES} is no list of names: {error}") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RemoteProtocolError(f"{NAMES} must be a list of names, got {str(names)[:80]}")
    if foreign := [name for name in names if name not in schema.names]:
        raise RemoteProtocolError(f"{NAMES} has {foreign[0]!r}, which is no array of the model's vector")
    return tuple(dict.fromkeys(names))


def pack_payload(payload: Payload) -> Array:
    """An encoded payload as an Array that Flower carries untouched."""
    data = sealed(b"".join(encode(Message((payload,)))))
    return Array("uint8", (len(data),), PAYLOAD, data)


def unpack_payload(array: Array, dimension: int, draws: Draws) -> Payload:
    """The payload of such an Array.

    Raises:
        BrokenStream: the bytes are not what was sent.
        RemoteProtocolError: it holds something else, or the bytes are no payload of this dimension.
    """
    if array.stype != PAYLOAD:
        raise RemoteProtocolError(f"an array of type {array.stype!r} where {PAYLOAD!r} is expected")
    if len(array.data) > max_message_bytes((dimension,)) + SEAL_BYTES:
        raise RemoteProtocolError(f"a payload of {len(array.data)} bytes is too long for {dimension} coordinates")
    return decode(opened(array.data, "a payload"), (dimension,), draws).parts[0]
