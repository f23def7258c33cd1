"""Messages between rank 0 and the other ranks of a torch.distributed job: a header of four numbers, then the bytes.

The numbers are what the bytes mean, how many there are, the CRC-32 of the bytes, and that of the other three. What does not fit
is a lost rank: gloo has no way to ask again, so the job ends, and its next start goes on from the last checkpoint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from saddlebag.client.group import talking
from saddlebag.errors import PeerLost, RemoteProtocolError
from saddlebag.proto.seal import checksum

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Iterable

    import torch.distributed as dist

__all__ = ["GO_ON", "NOT_FINITE", "STOP", "Talk"]

GO_ON, STOP, NOT_FINITE = 0, 1, 2
"""First number of a header: what the bytes that follow mean for the run."""
_HEADER_BYTES = 32
_TAG = 0
_MOST_ROUNDS = 8  # of a rank's checkpoints


class Talk:
    """One rank's end; messages lie on the host, so the group has gloo.

    Attributes:
        up_bytes, down_bytes: what this rank's messages took between processes, headers included; a broadcast counts once for
            each rank that hears it. Rank 0 speaks to itself for nothing.
    """

    def __init__(self, group: dist.ProcessGroup) -> None:
        self._group = group
        self.rank, self.ranks = group.rank(), group.size()
        self.up_bytes = self.down_bytes = 0

    def send(self, data: bytes | None) -> None:
        """Give rank 0 a message; None for one that is not finite."""
        with self._talking():
            self._group.send([_header(GO_ON if data is not None else NOT_FINITE, data or b"")], 0, _TAG).wait()
            if data:
                self._group.send([torch.from_numpy(np.frombuffer(data, np.uint8).copy())], 0, _TAG).wait()

    def collect(self, senders: Iterable[int], most: int) -> dict[int, bytes | None]:
        """On rank 0: the messages of some ranks, None for one that is not finite.

        Raises:
            RemoteProtocolError: one is longer than `most`; nothing is allocated for it.
            PeerLost: one is not what was sent.
        """
        found: dict[int, bytes | None] = {}
        with self._talking():
            for sender in senders:
                header = _header(0)
                self._group.recv([header], sender, _TAG).wait()
                kind, length, told = _read(header, f"rank {sender}")
                if not 0 <= length <= most:
                    raise RemoteProtocolError(f"rank {sender} announces a message of {length} bytes; 0 to {most} are allowed")
                message = torch.empty(length, dtype=torch.uint8)
                if length:
                    self._group.recv([message], sender, _TAG).wait()
                self.up_bytes += _HEADER_BYTES + length
                data = message.numpy().tobytes()
                _require(told == checksum(data), f"rank {sender}")
                found[sender] = None if kind == NOT_FINITE else data
        return found

    def announce(self, data: bytes, kind: int = GO_ON) -> None:
        """On rank 0: tell all the others."""
        with self._talking():
            self._group.broadcast(_header(kind, data), 0).wait()
            if data:
                self._group.broadcast(torch.from_numpy(np.frombuffer(data, np.uint8).copy()), 0).wait()
        self.down_bytes += (self.ranks - 1) * (_HEADER_BYTES + len(data))

    def hear(self, most: int) -> tuple[bytes, int]:
        """On the others: what rank 0 tells, and its kind.

        Raises:
            RemoteProtocolError: it is longer than `most`; nothing is allocated for it.
            PeerLost: it is not what was sent.
        """
        with self._talking():
            header = _header(0)
            self._group.broadcast(header, 0).wait()
            kind, length, told = _read(header, "rank 0")
            if not 0 <= length <= most:
                raise RemoteProtocolError(f"rank 0 announces a message of {length} bytes; 0 to {most} are allowed")
            message = torch.empty(length, dtype=torch.uint8)
            if length:
                self._group.broadcast(message, 0).wait()
        data = message.numpy().tobytes()
        _require(told == checksum(data), "rank 0")
        return data, kind

    def newest_common(self, rounds: list[int]) -> int | None:
        """The newest round of which every rank has a checkpoint; None where there is none."""
        held = rounds[-_MOST_ROUNDS:]
        held += [-1] * (_MOST_ROUNDS - len(held))
        own = torch.tensor([*held, _check(held)], dtype=torch.int64)
        rows = [torch.empty_like(own) for _ in range(self.ranks)]
        with self._talking():
            self._group.allgather([rows], [own]).wait()
        seen = []
        for rank, row in enumerate(rows):
            *theirs, told = row.tolist()
            _require(told == _check(theirs), f"rank {rank}")
            seen.append({*theirs})
        return max(set.intersection(*seen) - {-1}, default=None)

    def _talking(self) -> contextlib.AbstractContextManager[None]:
        return talking(f"rank {self.rank} of {self.ranks}")


def _check(numbers: list[int]) -> int:
    return checksum(repr(numbers).encode())


def _header(kind: int, data: bytes = b"") -> torch.Tensor:
    numbers = [kind, len(data), checksum(data)]
    return torch.tensor([*numbers, _check(numbers)], dtype=torch.int64)


def _read(header: torch.Tensor, who: str) -> list[int]:
    """What bytes mean, how many there are, and their checksum."""
    *numbers, told = header.tolist()
    _require(told == _check(numbers), who)
    return numbers


def _require(fits: bool, who: str) -> None:
    if not fits:
        raise PeerLost(f"what came from {who} does not fit its checksum: bits were flipped on the way")
