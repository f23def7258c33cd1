"""What a method's two halves say to each other inside Flower's messages: frames of the round protocol, and where to go on."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord
from flwr.serverapp.strategy import Result

from saddlebag.errors import RemoteProtocolError
from saddlebag.flower.compression.link import read_fields, sealed_record
from saddlebag.proto.frames import MAX_FRAME_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from saddlebag.algorithms import Record
    from saddlebag.compression import Vector

__all__ = ["DOWN", "FACTS", "HELLO", "REPLICA", "ROUND", "SESSION", "UPLINK"]

HELLO, ROUND, SESSION = "query.saddlebag", "train.saddlebag", "train.session"
"""Message types: who is there, one round, and a whole run over a stream."""
FACTS, DOWN, REPLICA, UPLINK = "saddlebag", "saddlebag.down", "saddlebag.replica", "saddlebag.up"
"""Keys of the records in a message."""
_FRAMES = "saddlebag.frames/1"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Orders:
    """From the server, for one round.

    Attributes:
        recipe, resolved: canonical JSON; the numbers that the server found override the recipe's.
        epoch, resume: from which boundary the client goes on.
        fresh: whether it begins an epoch there: from the start of the run, or from the replica in the message.
        from_start: which of the two.
        heal: whether it takes the replica in the message and keeps its own half.
        members: the workers of this epoch.
    """

    recipe: str
    resolved: str
    epoch: int
    resume: int
    fresh: bool
    from_start: bool
    heal: bool
    members: list[int]

    def to_record(self) -> ConfigRecord:
        """As Flower carries it."""
        return sealed_record(dataclasses.asdict(self))

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Orders:
        """What `to_record` gave.

        Raises:
            BrokenStream: it is not what was sent.
            RemoteProtocolError: a field is missing or of another type.
        """
        return cls(**read_fields(cls, record))


def frames_to(frames: Iterable[bytes]) -> ArrayRecord:
    """Frames as arrays that Flower carries untouched, in order."""
    return ArrayRecord({str(n): Array("uint8", (len(frame),), _FRAMES, frame) for n, frame in enumerate(frames)})


def frames_from(record: ArrayRecord) -> list[bytes]:
    """The frames of such a record.

    Raises:
        RemoteProtocolError: an array is missing, of another kind, or too long for a frame.
    """
    frames = []
    for number in range(len(record)):
        array = record.get(str(number))
        if array is None or array.stype != _FRAMES or len(array.data) > MAX_FRAME_BYTES:
            raise RemoteProtocolError(f"array {number} of {len(record)} is no frame")
        frames.append(array.data)
    return frames


def result_of(z_D: Vector, history: Iterable[Record]) -> Result:
    """A run as Flower reports one: the iterate, and by round the merits and the bytes."""
    result = Result()
    result.arrays = ArrayRecord({"z": Array(z_D)})
    for record in history:
        metrics: dict[str, Any] = {**record.merits, "up-bytes": record.up_bytes, "down-bytes": record.down_bytes}
        result.train_metrics_clientapp[record.round] = MetricRecord(metrics)
    return result
