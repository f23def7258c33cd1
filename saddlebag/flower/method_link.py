"""What a method's two halves say to each other inside Flower's messages: frames of the round protocol, and where to go on."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from flwr.app import Array, ArrayRecord, ConfigRecord

from saddlebag.errors import RemoteProtocolError
from saddlebag.proto.frames import MAX_FRAME_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["DOWN", "FACTS", "HELLO", "REPLICA", "ROUND", "SESSION", "UPLINK", "Orders", "frames_from", "frames_to"]

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
        return ConfigRecord(dataclasses.asdict(self))

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Orders:
        """What `to_record` gave.

        Raises:
            RemoteProtocolError: a field is missing or of another type.
        """
        values: dict[str, Any] = {field.name: record.get(field.name) for field in dataclasses.fields(cls)}
        kinds = {"str": str, "int": int, "bool": bool, "list[int]": list}
        for field in dataclasses.fields(cls):
            if type(values[field.name]) is not kinds[str(field.type)]:
                raise RemoteProtocolError(f"{field.name} must be {field.type}, got {values[field.name]!r}")
        return cls(**values)


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
