"""The curves of a run: what TensorBoard and trackers are told of each record."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from saddlebag.algorithms.base import Message
from saddlebag.compression import Dense
from saddlebag.proto.codec import encode

if TYPE_CHECKING:
    from saddlebag.algorithms.simulate import Record

__all__ = ["Scalars"]


def _full_bytes(dimension: int) -> int:
    """Bytes of an encoded message with one full float32 vector: what an uncompressed method sends in a round, each way."""
    x_D = np.random.default_rng(0).standard_normal(dimension).astype(np.float32)
    return sum(memoryview(piece).nbytes for piece in encode(Message((Dense(x_D),))))


class Scalars:
    """Merits, bytes, saving and rounds a second, by name.

    Args:
        dimension: D, for the saving against full vectors.
        workers: bytes are those of each worker.
        upto_round: a resumed run goes on after this round.
    """

    def __init__(self, *, dimension: int, workers: int, upto_round: int = 0) -> None:
        self._workers, self._full_bytes = workers, _full_bytes(dimension)
        self._last = (upto_round, 0.0)

    def of(self, record: Record, elapsed_s: float) -> dict[str, float]:
        """The values of a record; `elapsed_s` counts from the begin of this process or of the run."""
        (before, before_s), self._last = self._last, (record.round, elapsed_s)
        values = {f"merit/{name}": value for name, value in record.merits.items()}
        for way, num_bytes in (("up", record.up_bytes), ("down", record.down_bytes)):
            values[f"bytes_per_worker/{way}"] = num_bytes / self._workers
            values[f"saving_against_full_vectors/{way}"] = self._full_bytes * record.round * self._workers / max(num_bytes, 1)
        if before_s and elapsed_s > before_s:  # the first record's time is mostly that of starting
            values["speed/rounds_per_s"] = (record.round - before) / (elapsed_s - before_s)
        return values
