"""Whose uplinks a downlink has counted, as the bytes in its first frame: see `saddlebag.algorithms.merging`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from saddlebag.algorithms.merging import WHOLE, Counted
from saddlebag.errors import RemoteProtocolError
from saddlebag.proto.reader import read_varint, varint

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["counted_bytes", "read_counted"]

_FIELDS = 4


def counted_bytes(entries: Iterable[Counted]) -> bytes:
    """The entries, by worker, as varints."""
    return b"".join(varint(value) for entry in entries for value in (entry.worker, entry.age, entry.samples, entry.share))


def read_counted(raw: bytes, round_: int) -> tuple[Counted, ...]:
    """What `counted_bytes` has written, in a downlink of this round.

    Raises:
        RemoteProtocolError: it has not.
    """
    values, at = [], 0
    while at < len(raw):
        value, at = read_varint(raw, at)
        values.append(value)
    if at != len(raw) or len(values) % _FIELDS:
        raise RemoteProtocolError("what a downlink has counted is cut short")
    rows = [values[start : start + _FIELDS] for start in range(0, len(values), _FIELDS)]
    last = -1
    for worker, age, samples, share in rows:
        if not (worker > last and age <= round_ and samples > 0 and 0 < share <= WHOLE):
            raise RemoteProtocolError(f"a downlink of round {round_} counts worker {worker} with {age}, {samples}, {share}")
        last = worker
    return tuple(Counted(worker=worker, age=age, samples=samples, share=share) for worker, age, samples, share in rows)
