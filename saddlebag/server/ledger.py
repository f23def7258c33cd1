"""What crossed the wire, counted where it crossed, by direction and by kind."""

from __future__ import annotations

import dataclasses
from typing import Any

__all__ = ["Ledger", "Traffic"]


@dataclasses.dataclass
class Traffic:
    """Bytes of one direction, summed over the workers; a broadcast counts once for each worker that receives it.

    Attributes:
        payload: encoded messages of the trajectory, each counted once.
        framing: frame headers around them.
        control: joining, heartbeats, snapshots.
        repeated: frames sent again after a fault, stale ones, and those of abandoned attempts.
        transport: every byte handed to or taken from gRPC, counted apart from the four kinds; equal to their sum.
    """

    payload: int = 0
    framing: int = 0
    control: int = 0
    repeated: int = 0
    transport: int = 0


@dataclasses.dataclass
class Ledger:
    """Both directions and the events that people ask about.

    Attributes:
        digest_mismatches: replicas that differed, and were taken from a snapshot.
        stale_frames: of rounds that were over.
        broken_streams: that ended since a message did not fit its checksum, or was lost.
        stuck_streams: that ended since a message had begun and did not go on.
        rejoins: workers that came back.
        epochs: stretches of rounds with one membership.
        late_uplinks: that a later round has counted than the one they were made in.
    """

    up: Traffic = dataclasses.field(default_factory=Traffic)
    down: Traffic = dataclasses.field(default_factory=Traffic)
    digest_mismatches: int = 0
    stale_frames: int = 0
    broken_streams: int = 0
    stuck_streams: int = 0
    rejoins: int = 0
    epochs: int = 1
    late_uplinks: int = 0

    def count_control(self, up: int = 0, down: int = 0) -> None:
        """Bytes of joining, heartbeats and snapshots have crossed."""
        for traffic, num_bytes in ((self.up, up), (self.down, down)):
            traffic.control += num_bytes
            traffic.transport += num_bytes

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Ledger:
        rest = {key: value for key, value in values.items() if key not in ("up", "down")}
        for number in (*values["up"].values(), *values["down"].values(), *rest.values()):
            if type(number) is not int:
                raise TypeError(f"the ledger holds {number!r}")
        return cls(Traffic(**values["up"]), Traffic(**values["down"]), **rest)
