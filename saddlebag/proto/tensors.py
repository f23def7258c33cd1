"""Reading a safetensors file that holds our facts and its digest: each byte once, into the arrays themselves.

The library maps the file and copies out of the map, so that a state takes its size twice while it is read.
"""

from __future__ import annotations

import io
import json
import math
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from saddlebag.proto.digests import Reading
from saddlebag.proto.pieces import FILED, pieces

if TYPE_CHECKING:
    import numpy.typing as npt

    Arrays = dict[str, npt.NDArray[Any]]

__all__ = ["read_facts", "read_tensors", "view_tensors"]

_METADATA = "__metadata__"


class _Entry(NamedTuple):
    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    stop: int


def read_tensors(file: IO[bytes], size: int) -> tuple[Arrays, dict[str, Any]]:
    """The arrays and the facts of a file of `size` bytes that is open at its beginning.

    Raises:
        ValueError, KeyError, TypeError, RecursionError: it is no such file, or its digest is another one than its own.
    """
    reading = Reading(file)
    entries, facts = _head(reading.head, size)
    arrays: Arrays = {}
    for entry in entries:
        array = np.empty(entry.shape, entry.dtype)
        for piece in pieces((array.reshape(-1).view(np.uint8).data,)):
            reading.into(piece)
        arrays[entry.name] = array
    reading.end()
    return arrays, facts


def view_tensors(data: bytearray) -> tuple[Arrays, dict[str, Any]]:
    """The same as views of a file in memory, which is given away; errors as `read_tensors`."""
    reading = Reading(io.BytesIO(data[: Reading.head_length(data)]))
    entries, facts = _head(reading.head, len(data))
    whole, first = memoryview(data), len(reading.head)
    for piece in pieces((whole[first:],)):
        reading.see(piece)
    reading.end()
    arrays = {
        entry.name: np.frombuffer(whole[first + entry.start : first + entry.stop], entry.dtype).reshape(entry.shape)
        for entry in entries
    }
    return arrays, facts


def read_facts(file: IO[bytes], size: int) -> dict[str, Any]:
    """The facts alone; nothing else is read, or compared. Errors as `read_tensors`."""
    return _head(Reading(file).head, size)[1]


def _head(head: bytes, size: int) -> tuple[list[_Entry], dict[str, Any]]:
    """What the head of a file of so many bytes says: its arrays as they lie, without a gap up to its end, and the facts."""
    said = json.loads(head[8:])
    facts = json.loads(said.pop(_METADATA)["saddlebag"])
    if not isinstance(facts, dict):
        raise TypeError("its facts are no JSON object")
    entries = sorted((_entry(name, about) for name, about in said.items()), key=lambda entry: (entry.start, entry.stop))
    at = 0
    for entry in entries:
        if entry.start != at or entry.stop - at != math.prod(entry.shape) * entry.dtype.itemsize:
            raise ValueError(f"array {entry.name!r} does not lie where it should")
        at = entry.stop
    if at != size - len(head):
        raise ValueError(f"its arrays take {at} bytes, it has {size - len(head)}")
    return entries, facts


def _entry(name: str, about: Any) -> _Entry:
    start, stop = about["data_offsets"]
    shape = tuple(about["shape"])
    if any(type(number) is not int or number < 0 for number in (start, stop, *shape)):
        raise ValueError(f"array {name!r} has no place or no shape")
    return _Entry(name, np.dtype(FILED[about["dtype"]]).newbyteorder("<"), shape, start, stop)
