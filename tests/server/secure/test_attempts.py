"""Attempts at a round without a network: who begins anew, who is waited for, and which sums are ever unmasked."""

import numpy as np
import pytest

from saddlebag.errors import BrokenStream, PeerLost, RemoteProtocolError
from saddlebag.proto.frames import frames_of, read_frame
from saddlebag.proto.secure.member import Member
from saddlebag.proto.secure.messages import Step
from saddlebag.proto.secure.ring import Ring
from saddlebag.server.secure.attempts import Answer, Attempts, Outcome

RANKS = range(4)


class Bench:
    """Four members that add up their ranks."""

    def __init__(self, threshold=3):
        self.ring = Ring(5, 7, len(RANKS), b"round")
        self.pool = Attempts(threshold, len(RANKS))
        self.pool.prepare(0, self.ring, [(3, 0.5), (2, 1.0)])
        self.pool.open(tuple(RANKS), 0.0)
        self.threshold = threshold
        self.members = {rank: self.new(rank) for rank in RANKS}
        self.attempt = dict.fromkeys(RANKS, 0)

    def new(self, rank):
        return Member(rank, threshold=self.threshold, ring=self.ring)

    def keys(self, rank):
        self.pool.say(rank, Step.KEYS, 0, self.members[rank].keys())

    def told(self, rank, step):
        answer = self.pool.answer(rank, 0, step, self.attempt[rank])
        assert answer is not None
        if step is Step.KEYS:
            self.attempt[rank] = answer.attempt
        return answer

    def shares(self, rank):
        told = self.told(rank, Step.KEYS)
        self.pool.say(rank, Step.SHARES, told.attempt, self.members[rank].shares(told.data))

    def vector(self, rank, attempt=None):
        data = self.members[rank].masked(self.told(rank, Step.SHARES).data, np.full(5, rank))
        attempt = self.attempt[rank] if attempt is None else attempt
        for raw in frames_of([data], epoch=0, round_=0, sender=rank + 1, attempt=attempt):
            self.pool.take(rank, read_frame(raw), len(raw), 0.0)

    def unmask(self, rank):
        data = self.members[rank].unmask(self.told(rank, Step.MASKED).data)
        self.pool.say(rank, Step.UNMASK, self.attempt[rank], data)

    def upto(self, last, ranks=RANKS):
        for step in (self.keys, self.shares, self.vector, self.unmask)[: last + 1]:
            for rank in ranks:
                step(rank)


def test_the_means_are_those_of_the_levels_part_by_part():
    bench = Bench()
    bench.upto(Step.UNMASK)
    said = bench.pool.close(0, 0.0)
    assert [mean.dense().tolist() for mean in said.means] == [[0.75] * 3, [1.5] * 2]
    assert [entry.worker for entry in said.counted] == list(RANKS)
    assert bench.pool.last == [1, 1, 1, 1]
    assert said.data_bytes == 4 * bench.ring.num_bytes < said.frame_bytes


@pytest.mark.parametrize("step", [Step.KEYS, Step.SHARES])
def test_who_begins_anew_begins_another_attempt_of_all(step):
    bench = Bench()
    bench.upto(step, RANKS[:3] if step is Step.KEYS else RANKS)
    before = bench.pool.stage[0]
    bench.members[1] = bench.new(1)
    bench.keys(1)
    assert bench.pool.stage[0] == before + 1
    if step is Step.SHARES:
        assert bench.pool.answer(0, 0, Step.SHARES, before) == Answer(Outcome.AGAIN)
        assert bench.pool.missing() == [0, 2, 3]
    else:  # nobody has been told these keys yet
        assert bench.pool.missing() == [3]


def test_who_begins_anew_when_its_vector_has_come_is_in_the_sum_all_the_same():
    bench = Bench()
    bench.upto(Step.MASKED)
    bench.members[1] = bench.new(1)
    bench.keys(1)
    assert bench.pool.missing() == [0, 2, 3]
    for rank in (0, 2, 3):
        bench.unmask(rank)
    assert len(bench.pool.close(0, 0.0).counted) == 4


def test_keys_that_come_when_the_sum_is_there_change_nothing_of_it():
    bench = Bench()
    bench.upto(Step.UNMASK)
    before = bench.pool.stage
    bench.members[2] = bench.new(2)
    bench.keys(2)
    assert bench.pool.stage == before
    assert bench.pool.due(0.0)
    assert len(bench.pool.close(0, 0.0).counted) == 4
    bench.pool.prepare(1, bench.ring, [(5, 1.0)])
    bench.pool.open(tuple(RANKS), 0.0)
    assert bench.pool.missing() == [0, 1, 3]  # they are for the next round


def test_who_is_gone_is_not_waited_for_until_it_comes():
    bench = Bench()
    bench.upto(Step.KEYS, (0, 1, 2))
    bench.pool.drop([3], gone=True)
    assert bench.pool.step is Step.SHARES
    for step in (bench.shares, bench.vector, bench.unmask):
        for rank in (0, 1, 2):
            step(rank)
    assert [entry.worker for entry in bench.pool.close(0, 0.0).counted] == [0, 1, 2]
    bench.pool.open(tuple(RANKS), 0.0)
    assert bench.pool.missing() == [0, 1, 2]
    bench.members[3] = bench.new(3)
    bench.keys(3)
    assert bench.pool.missing() == [0, 1, 2]
    assert bench.pool.gone == set()
    bench.pool.open(tuple(RANKS), 0.0)
    assert bench.pool.missing() == [0, 1, 2, 3]  # keys are for one attempt


def test_with_too_few_to_mask_the_round_waits_and_with_too_few_to_unmask_it_ends():
    bench = Bench()
    bench.upto(Step.KEYS)
    bench.pool.drop([2, 3], gone=True)
    bench.shares(0)
    bench.shares(1)
    assert bench.pool.step is Step.KEYS  # of another attempt, which waits for a third
    bench = Bench()
    bench.upto(Step.MASKED)
    bench.unmask(0)
    bench.pool.drop([1, 2, 3], gone=True)
    assert bench.pool.due(0.0)
    with pytest.raises(PeerLost, match="needs 3 workers, and 1 have sent unmask"):
        bench.pool.close(0, 0.0)


def test_frames_of_an_attempt_that_is_over_are_left_aside_and_gaps_are_broken_streams():
    bench = Bench()
    bench.upto(Step.SHARES)
    bench.vector(0, attempt=bench.pool.stage[0] - 1)
    assert bench.pool.missing() == [0, 1, 2, 3]
    here = {"epoch": 0, "round_": 0, "sender": 2, "attempt": bench.pool.stage[0]}
    frame = read_frame(next(iter(frames_of([bytes(bench.ring.num_bytes)], **here))))
    with pytest.raises(RemoteProtocolError, match=r"worker 1's vector must have \d+ bytes, got 3"):
        bench.pool.take(1, frame._replace(total=3), 1, 0.0)
    with pytest.raises(BrokenStream, match="worker 1 sent frame 1 where 0 was due"):
        bench.pool.take(1, frame._replace(sequence=1), 1, 0.0)


def test_another_round_is_over_for_who_asks_about_this_one():
    bench = Bench()
    assert bench.pool.answer(1, 5, Step.SHARES, 1) == Answer(Outcome.OVER)
    assert bench.pool.answer(1, 0, Step.KEYS, 0) is None


@pytest.mark.parametrize("step", [Step.KEYS, Step.SHARES])
def test_who_keeps_sending_new_keys_is_named_and_the_round_goes_on_with_the_last(step):
    bench = Bench()
    bench.upto(step, RANKS[:3] if step is Step.KEYS else RANKS)
    told = r"round 0 has begun anew for worker 1 16 times; it keeps its last keys"
    for _ in range(16):
        bench.members[1] = bench.new(1)
        bench.keys(1)
        if step is Step.SHARES:
            bench.members = {rank: bench.new(rank) for rank in RANKS} | {1: bench.members[1]}
            for rank in (0, 2, 3):
                bench.keys(rank)
            for rank in RANKS:
                bench.shares(rank)
    kept, bench.members[1] = bench.members[1], bench.new(1)
    with pytest.raises(RemoteProtocolError, match=told):
        bench.keys(1)
    assert bench.pool.stage[0] == 1 + 16, "for the others as often, and no more"
    bench.members[1] = kept
    if step is Step.KEYS:
        bench.keys(3)
        for rank in RANKS:
            bench.shares(rank)
    for rank in RANKS:
        bench.vector(rank)
    for rank in RANKS:
        bench.unmask(rank)
    assert [mean.dense().tolist() for mean in bench.pool.close(0, 0.0).means] == [[0.75] * 3, [1.5] * 2]


def test_another_round_forgets_who_began_anew():
    bench = Bench()
    for _ in range(2):
        for _ in range(17):
            bench.members[1] = bench.new(1)
            bench.keys(1)
        bench.pool.open(tuple(RANKS), 0.0)
