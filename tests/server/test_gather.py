"""Sums formed while uplinks arrive equal sums formed at once, in worker order, whatever the order of arrival."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saddlebag.algorithms import Message
from saddlebag.compression import SERVER, Dense, Draws, RandK
from saddlebag.errors import RemoteProtocolError
from saddlebag.proto.codec import encode
from saddlebag.proto.frames import frames_of, read_frame
from saddlebag.server.gather import Gather

MEMBERS = (0, 2, 5)
D = 33


def uplink(worker: int, frame_bytes: int) -> list[bytes]:
    draws = Draws(3, 11, worker)
    x_D = np.random.default_rng(worker).standard_normal(D) * 10.0**worker
    message = Message((Dense(x_D.astype(np.float32)), RandK(k=5).encode(x_D, draws), Dense(x_D)))
    return list(frames_of(encode(message), epoch=0, round_=11, sender=worker + 1, frame_bytes=frame_bytes))


def expected() -> list[np.ndarray]:
    totals = [np.zeros(D) for _ in range(3)]
    for worker in MEMBERS:
        x_D = np.random.default_rng(worker).standard_normal(D) * 10.0**worker
        totals[0] += x_D.astype(np.float32)
        totals[1] += RandK(k=5).encode(x_D, Draws(3, 11, worker)).dense()
        totals[2] += x_D
    return [total / len(MEMBERS) for total in totals]


@given(st.randoms(use_true_random=False), st.sampled_from([8, 24, 100, 1000]), st.integers(0, 3))
def test_any_interleaving_and_resending(rng, frame_bytes: int, losses: int) -> None:
    gather = Gather(MEMBERS, (D, D, D), Draws(3, 11, SERVER))
    queues = {worker: uplink(worker, frame_bytes) for worker in MEMBERS}
    while any(queues.values()):
        worker = rng.choice([worker for worker, queue in queues.items() if queue])
        frame = queues[worker].pop(0)
        gather.take(worker, read_frame(frame), len(frame))
        if losses and not gather.has(worker) and rng.random() < 0.2:
            losses -= 1
            assert gather.abandon(worker) > 0
            queues[worker] = uplink(worker, frame_bytes)
    assert gather.complete
    assert gather.missing() == []
    assert all(gather.backlog(worker) == 0 for worker in MEMBERS)
    for mean, value_D in zip(gather.means(), expected(), strict=True):
        np.testing.assert_array_equal(mean.dense(), value_D)


@pytest.mark.parametrize("again", [8, 20, 28, 44, 1000])
def test_an_uplink_that_is_sent_again_in_other_frames_is_added_once(again: int) -> None:
    """What was added ends in the midst of a piece that comes again, whose rest alone counts."""
    gather = Gather(MEMBERS, (D, D, D), Draws(3, 11, SERVER))
    first, *_ = uplink(0, 100)
    gather.take(0, read_frame(first), len(first))
    gather.abandon(0)
    for worker, frame_bytes in ((0, again), (2, 100), (5, 100)):
        for frame in uplink(worker, frame_bytes):
            gather.take(worker, read_frame(frame), len(frame))
    for mean, value_D in zip(gather.means(), expected(), strict=True):
        np.testing.assert_array_equal(mean.dense(), value_D)


def test_pieces_wait_for_earlier_workers_and_are_accounted() -> None:
    gather = Gather(MEMBERS, (D, D, D), Draws(3, 11, SERVER))
    for frame in uplink(5, 40):
        gather.take(5, read_frame(frame), len(frame))
    assert gather.has(5)
    assert gather.backlog(5) >= D * 4
    for worker in (0, 2):
        assert not gather.complete
        for frame in uplink(worker, 40):
            gather.take(worker, read_frame(frame), len(frame))
    assert gather.complete
    assert gather.backlog(5) == 0


def test_frames_out_of_sequence_are_refused() -> None:
    gather = Gather(MEMBERS, (D, D, D), Draws(3, 11, SERVER))
    frames = uplink(0, 40)
    gather.take(0, read_frame(frames[0]), len(frames[0]))
    with pytest.raises(RemoteProtocolError, match="frame 2 where 1 was due"):
        gather.take(0, read_frame(frames[2]), len(frames[2]))
