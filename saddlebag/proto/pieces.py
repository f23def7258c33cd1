"""A safetensors file in pieces, none of which is a copy, and whatever is hashed or written piece by piece.

A process that also answers calls hashes and writes a bounded piece at a time and pauses in between: nobody else waits longer
than a piece takes, and neither step holds the interpreter's lock.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from safetensors import SafetensorError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import numpy.typing as npt

    from saddlebag.proto.reader import Buffer

    Pause: TypeAlias = Callable[[], None]

__all__ = ["FILED", "at_once", "pieces", "tensor_file"]

_PIECE_BYTES = 1 << 18
_MOST_HEADER = 100_000_000  # bytes: the format's own limit
_ALIGNMENT = 8
_ORDER = (
    *(("uint64", "U64"), ("int64", "I64"), ("float64", "F64"), ("complex64", "C64")),
    *(("float32", "F32"), ("uint32", "U32"), ("int32", "I32"), ("float16", "F16")),
    *(("uint16", "U16"), ("int16", "I16"), ("int8", "I8"), ("uint8", "U8"), ("bool", "BOOL")),
)
"""Types by their names in numpy and in the file, in the order in which the library lays arrays out."""
_RANK = {name: (place, told) for place, (name, told) in enumerate(_ORDER)}
FILED = {told: name for name, told in _ORDER}
"""Names of types in numpy by those in the file."""


def at_once() -> None:
    """No pause between pieces."""


def pieces(data: Iterable[Buffer], pause: Pause = at_once) -> Iterator[memoryview]:
    """The bytes of some buffers, a bounded piece at a time; `pause` is called after each.

    Example:
        >>> [len(piece) for piece in pieces([b"ab", bytes(300_000)])]
        [2, 262144, 37856]
    """
    for buffer in data:
        whole = memoryview(buffer)
        for at in range(0, len(whole), _PIECE_BYTES):
            yield whole[at : at + _PIECE_BYTES]
            pause()


def tensor_file(arrays: Mapping[str, npt.NDArray[Any]], facts: str | None = None) -> list[Buffer]:
    """The bytes that `safetensors.numpy.save(arrays, {"saddlebag": facts})` gives: the head, then views of the arrays.

    Without facts those of `save(arrays)`.

    The library copies every array while it holds the interpreter's lock. A test compares the bytes.

    Raises:
        SafetensorError: an array is of no type that the format has, or the names take more than it allows.

    Example:
        >>> head, body = tensor_file({"x": np.zeros(3)}, "{}")
        >>> len(head) % 8, len(body)
        (0, 24)
    """
    for name, array in arrays.items():
        if array.dtype.name not in _RANK:
            raise SafetensorError(f"array {name!r} is of type {array.dtype}, which no file of tensors holds")
    entries: dict[str, Any] = {} if facts is None else {"__metadata__": {"saddlebag": facts}}
    views: list[Buffer] = []
    at = 0
    for name, array in sorted(arrays.items(), key=lambda item: (_RANK[item[1].dtype.name], item[0])):
        flat = np.ascontiguousarray(array).reshape(-1)
        flat = flat.astype(flat.dtype.newbyteorder("<"), copy=False)
        stop = at + flat.nbytes
        entries[name] = {"dtype": _RANK[flat.dtype.name][1], "shape": list(array.shape), "data_offsets": [at, stop]}
        views.append(flat.view(np.uint8).data)
        at = stop
    head = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    head += b" " * (-len(head) % _ALIGNMENT)
    if len(head) > _MOST_HEADER:
        raise SafetensorError(f"its names take {len(head)} bytes, the format allows {_MOST_HEADER}")
    return [len(head).to_bytes(8, "little") + head, *views]
