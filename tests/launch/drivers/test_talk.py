"""Messages between rank 0 and the others: what is sent arrives, counted, and a length out of bounds is refused unread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.distributed as dist

from saddlebag.errors import PeerLost, RemoteProtocolError
from saddlebag.launch.drivers.talk import GO_ON, STOP, Talk

Run = Callable[[int, Callable[[dist.ProcessGroup], Any]], list[Any]]


def test_messages_arrive_and_are_counted(on_ranks: Run) -> None:
    def body(group: dist.ProcessGroup) -> Any:
        talk = Talk(group)
        if talk.rank == 0:
            received = talk.collect([1, 2], most=100)
            talk.announce(b"down", STOP)
            talk.announce(b"")
            return received, talk.up_bytes, talk.down_bytes
        talk.send([b"", b"up!", None][talk.rank])
        return talk.hear(100), talk.hear(0)

    first, *others = on_ranks(3, body)
    assert first == ({1: b"up!", 2: None}, 2 * 32 + 3, 2 * (32 + 4) + 2 * 32)
    assert others == [((b"down", STOP), (b"", GO_ON))] * 2


def test_a_message_that_is_too_long_is_refused(on_ranks: Run) -> None:
    def up(group: dist.ProcessGroup) -> Any:
        talk = Talk(group)
        return talk.collect([1], most=2) if talk.rank == 0 else talk.send(b"123")

    def down(group: dist.ProcessGroup) -> Any:
        talk = Talk(group)
        return talk.announce(b"123") if talk.rank == 0 else talk.hear(2)

    assert "rank 1 announces a message of 3 bytes; 0 to 2 are allowed" in str(on_ranks(2, up)[0])
    refusal = on_ranks(2, down)[1]
    assert isinstance(refusal, RemoteProtocolError)
    assert "rank 0 announces a message of 3 bytes" in str(refusal)


def test_the_newest_common_round(on_ranks: Run) -> None:
    held = [[20, 40, 60], [40, 60], [20, 40]]
    assert on_ranks(3, lambda group: Talk(group).newest_common(held[group.rank()])) == [40] * 3
    assert on_ranks(2, lambda group: Talk(group).newest_common([[], [7]][group.rank()])) == [None] * 2


def test_a_rank_that_is_gone_is_told(on_ranks: Run) -> None:
    def body(group: dist.ProcessGroup) -> Any:
        return Talk(group).hear(10) if group.rank() else None

    error = on_ranks(2, body)[1]
    assert isinstance(error, PeerLost)
    assert "rank 1 of 2 lost the others" in str(error)


def test_a_flipped_bit_loses_the_rank_and_not_the_run(on_ranks: Run) -> None:
    """In the bytes, in what they mean, on either way."""

    def body(group: dist.ProcessGroup) -> Any:
        talk = Talk(_Flipping(group, number=group.rank()))
        return talk.collect([1], most=9) if talk.rank == 0 else talk.send(b"abc")

    def down(group: dist.ProcessGroup) -> Any:
        talk = Talk(_Flipping(group, number=0 if group.rank() else 9))
        return talk.announce(b"abc", STOP) if talk.rank == 0 else talk.hear(9)

    for rank, talked in ((0, body), (1, down)):
        error = on_ranks(2, talked)[rank]
        assert isinstance(error, PeerLost), error
        assert "does not fit its checksum" in str(error)


class _Flipping:
    """A group in which a bit of a message is flipped: of the header (0) or of what follows it (1)."""

    def __init__(self, group: dist.ProcessGroup, number: int) -> None:
        self._group, self._left = group, number

    def __getattr__(self, name: str) -> Any:
        return getattr(self._group, name)

    def _flip(self, tensor: Any) -> None:
        if self._left == 0:
            tensor[0] ^= 1
        self._left -= 1

    def send(self, tensors: list[Any], *place: int) -> Any:
        self._flip(tensors[0])
        return self._group.send(tensors, *place)

    def broadcast(self, tensor: Any, root: int) -> Any:
        work = self._group.broadcast(tensor, root)
        if self._group.rank():
            work.wait()
            self._flip(tensor)
        return work
