"""What the two ends of a Flower app with secure aggregation say to each other, beside the bytes of `saddlebag.proto.secure`.

A round is four exchanges of the message type in which the app trains: keys, shares, masked (in which the app trains) and
unmask. Without masks it is the third alone.
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from flwr.app import ConfigRecord

from saddlebag.errors import RemoteProtocolError
from saddlebag.flower.compression.link import read_fields, sealed_record
from saddlebag.proto.secure.messages import Step
from saddlebag.proto.secure.ring import Ring

if TYPE_CHECKING:
    from flwr.app import RecordDict

__all__ = ["ORDERS", "SAID", "TASK"]

ORDERS, TASK, SAID = "saddlebag.secure", "saddlebag.secure.task", "saddlebag.secure.said"
"""Keys of the records in a message: which step it is, what is to be sent, and the step's bytes."""
_PROTOCOL = 1


def says(data: bytes) -> ConfigRecord:
    """A step's bytes as Flower carries them."""
    return ConfigRecord({"data": data})


def said(content: RecordDict) -> bytes:
    """The bytes of a step.

    Raises:
        RemoteProtocolError: there are none.
    """
    data = content.config_records.get(SAID, ConfigRecord()).get("data")
    if not isinstance(data, bytes):
        raise RemoteProtocolError(f"a message must hold bytes as {SAID!r}, got {type(data).__name__}")
    return data


@dataclasses.dataclass(frozen=True, kw_only=True)
class Orders:
    """From the server, with every step.

    Attributes:
        step: number of the step.
        rank: of this client among those of the round.
        members: of the round.
        threshold: how many of them it takes to unmask a sum; 0 for a round without masks.
        context: of the round, in hexadecimal digits: all keys are bound to it.
    """

    step: int
    rank: int
    members: int
    threshold: int
    context: str

    def to_record(self) -> ConfigRecord:
        """As Flower carries it."""
        return sealed_record({"protocol": _PROTOCOL, **dataclasses.asdict(self)})

    @classmethod
    def from_record(cls, record: ConfigRecord) -> Orders:
        """What `to_record` gave.

        Raises:
            BrokenStream: it is not what was sent.
            RemoteProtocolError: another release's, a field is missing, or numbers that no round has.
        """
        if record.get("protocol") != _PROTOCOL:
            raise RemoteProtocolError(
                f"secure aggregation of protocol {record.get('protocol')!r} is not {_PROTOCOL}; use the same release"
            )
        orders = cls(**read_fields(cls, record))
        if orders.step not in list(Step) or not 0 <= orders.rank < orders.members:
            raise RemoteProtocolError(f"step {orders.step} of member {orders.rank} of {orders.members} is none of a round")
        if orders.threshold and not orders.members < 2 * orders.threshold <= 2 * orders.members:
            raise RemoteProtocolError(
                f"sums that {orders.threshold} of {orders.members} members unmask are refused; more than half must be needed"
            )
        return orders

    def ring(self, size: int = 0, most: int = 1) -> Ring:
        """Of the round; the steps but for `masked` use its context only."""
        return Ring(size, most, self.members, bytes.fromhex(self.context))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """From the server, with the step in which the app trains.

    Attributes:
        record: key of the ArrayRecord that holds the model.
        apart: names, as a JSON list, of its arrays that are floating-point numbers and are not trained.
        scale: of the common grid, a power of 2.
        largest_level: of the grid, 7 or 127.
        memory: whether the client keeps what it owes.
        counted: context of the last round that has counted this client; empty for none.
        weighted_by: metric by which clients count.
        most_examples: the largest weight; 0 where all count alike.
        metrics: whose weighted means the server is to learn, as a JSON list of names.
    """

    record: str
    apart: str
    scale: float
    largest_level: int
    memory: bool
    counted: str
    weighted_by: str
    most_examples: int
    metrics: str

    @property
    def others(self) -> tuple[str, ...]:
        """The names in `apart`."""
        return tuple(json.loads(self.apart))

    @property
    def names(self) -> tuple[str, ...]:
        """Of the metrics."""
        return tuple(json.loads(self.metrics))

    def to_record(self) -> ConfigRecord:
        """As Flower carries it."""
        return sealed_record(dataclasses.asdict(self))

    @classmethod
    def from_record(cls, record: Any) -> Task:
        """What `to_record` gave; errors as `Orders.from_record`."""
        if record is None:
            raise RemoteProtocolError("a message of the step in which the app trains must say how")
        return cls(**read_fields(cls, record))
