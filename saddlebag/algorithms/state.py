"""States as named arrays: one flat form for checkpoints, snapshots, catch-ups and digests.

A state is a frozen dataclass of float64 vectors (of narrow methods float32, and the 16 bits below), numbers, and further
states, whose fields get dotted names: `pace.step_size`.
What a method's parameters leave out of a state is None there, always. So every state of a kind has the names and shapes of the
one at the start, which serves `unpack` as the example; no type has to be written down.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from saddlebag.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["digest", "pack", "unpack"]

T = TypeVar("T")
Arrays = dict[str, npt.NDArray[Any]]
_SCALARS: dict[type, type[np.generic]] = {int: np.int64, bool: np.bool_, float: np.float64}
_NARROW = (np.dtype(np.float32), np.dtype(np.uint16))  # types of vectors beside float64; the second holds bfloat16
_RUN = 1 << 16  # coordinates
_INFINITE16 = np.uint16(0x7F80)  # the exponent of bfloat16's infinities and NaNs


def pack(state: Any, prefix: str = "") -> Arrays:
    """The fields of a state by name, after a prefix: float64 vectors as they are, numbers as 0-d arrays.

    Example:
        >>> import dataclasses
        >>> Inner = dataclasses.make_dataclass("Inner", ["step_size"])
        >>> Outer = dataclasses.make_dataclass("Outer", ["z_D", "pace", "memory_D"])
        >>> pack(Outer(np.zeros(2), Inner(0.5), None))
        {'z_D': array([0., 0.]), 'pace.step_size': array(0.5)}
    """
    arrays: Arrays = {}
    for field in dataclasses.fields(state):
        name, value = prefix + field.name, getattr(state, field.name)
        if dataclasses.is_dataclass(value):
            arrays |= pack(value, f"{name}.")
        elif value is not None:
            arrays[name] = np.asarray(value, dtype=_dtype(value))
    return arrays


def unpack(like: T, arrays: Mapping[str, npt.NDArray[Any]], prefix: str = "") -> T:
    """The state that `pack` gave under the same prefix.

    Args:
        like: a state of the same kind, such as the one at the start. Where it has a vector without coordinates, one of any
            length is taken: what a worker finds out in its first step.
        arrays: by name; those with another prefix are left alone.
        prefix: of the names.

    Raises:
        StateError: a field is missing or unknown, has another type, or is not a finite vector of the example's length.

    Example:
        >>> import dataclasses
        >>> State = dataclasses.make_dataclass("State", ["z_D", "iteration"])
        >>> unpack(State(np.zeros(2), 0), pack(State(np.ones(2), 7))).iteration
        7
    """
    state = _unpacked(like, arrays, prefix)
    known = pack(state, prefix)
    for name in arrays:
        if name.startswith(prefix) and name not in known:
            raise StateError(
                f"{type(like).__name__} has no {name.removeprefix(prefix)}; it has {', '.join(known) or 'nothing'}"
            )
    return state


def _unpacked(like: T, arrays: Mapping[str, npt.NDArray[Any]], prefix: str) -> T:
    values: dict[str, Any] = {}
    for field in dataclasses.fields(like):  # type: ignore[arg-type]  # a state is a dataclass, which T cannot say
        name, example = field.name, getattr(like, field.name)
        if dataclasses.is_dataclass(example):
            values[name] = _unpacked(example, arrays, f"{prefix}{name}.")
        elif example is None:
            values[name] = None
        else:
            values[name] = _field(f"{type(like).__name__}.{name}", example, arrays, prefix + name)
    return dataclasses.replace(like, **values)  # type: ignore[type-var]


def _field(what: str, example: Any, arrays: Mapping[str, npt.NDArray[Any]], name: str) -> Any:
    """One vector or number, checked against the example's."""
    if name not in arrays:
        raise StateError(f"{what} is missing; present: {', '.join(sorted(arrays)) or 'nothing'}")
    array = arrays[name]
    dtype = _dtype(example)
    shape = (len(example) or array.size,) if isinstance(example, np.ndarray) else ()
    if array.shape != shape or array.dtype != dtype:
        raise StateError(f"{what} must be {dtype.name} of shape {shape}, got {array.dtype} {array.shape}")
    if not _is_finite(array):
        raise StateError(f"{what} holds NaN or infinity")
    if not shape:
        return array.item()
    return array if array.flags.writeable or dtype == np.float64 else array.copy()  # narrow ones are changed in place


def _dtype(value: Any) -> np.dtype[Any]:
    """In which a field is packed."""
    if isinstance(value, np.ndarray):
        return next((kind for kind in _NARROW if value.dtype == kind), np.dtype(np.float64))
    return np.dtype(_SCALARS.get(type(value), np.float64))


def _is_finite(array: npt.NDArray[Any]) -> bool:
    """Of a vector or a number, run by run."""
    flat_D = array.reshape(-1)
    runs = (flat_D[start : start + _RUN] for start in range(0, len(flat_D), _RUN))
    if array.dtype == np.uint16:
        return not any(((run & _INFINITE16) == _INFINITE16).any() for run in runs)
    return array.dtype.kind != "f" or all(np.isfinite(run).all() for run in runs)


def hollow(state: T) -> T:
    """What serves `unpack` as the example in place of a state, and takes no memory.

    Example:
        >>> import dataclasses
        >>> State = dataclasses.make_dataclass("State", ["z_D", "iteration"])
        >>> like = hollow(State(np.ones(2), 7))
        >>> unpack(like, pack(State(np.ones(2), 7))).z_D.tolist()
        [1.0, 1.0]
    """
    values: dict[str, Any] = {}
    for field in dataclasses.fields(state):  # type: ignore[arg-type]  # as in `_unpacked`
        value = getattr(state, field.name)
        if isinstance(value, np.ndarray):
            value = np.broadcast_to(np.zeros((), value.dtype), value.shape)
        values[field.name] = hollow(value) if dataclasses.is_dataclass(value) else value
    return dataclasses.replace(state, **values)  # type: ignore[type-var]


def digest(state: Any) -> int:
    """The first 64 bits of the SHA-256 of a state, equal if and (but for collisions) only if every bit is.

    SHA-256 because processors compute it: 2 GB/s against 1.1 of BLAKE2b, on vectors that are digested in the middle of a round.

    Example:
        >>> import dataclasses
        >>> State = dataclasses.make_dataclass("State", ["z_D"])
        >>> one, same, near = (digest(State(np.array([z]))) for z in (1.0, 1.0, 1.0 + 1e-15))
        >>> one == same, one == near
        (True, False)
    """
    hasher = hashlib.sha256()
    for array in pack(state).values():
        hasher.update(np.ascontiguousarray(array).data)
    return int.from_bytes(hasher.digest()[:8], "little")
