"""A round of secure aggregation in one process, with members that drop out where a test says."""

import hashlib

import numpy as np

from saddlebag.proto.secure.aggregation import Aggregation
from saddlebag.proto.secure.member import Member
from saddlebag.proto.secure.messages import Step
from saddlebag.proto.secure.ring import Ring


def entropy_of(seed):
    """A stream of bytes for one member of a test: different for every seed, the same in every run."""
    state = [hashlib.sha256(str(seed).encode()).digest()]

    def take(count):
        out = b""
        while len(out) < count:
            state[0] = hashlib.sha256(state[0]).digest()
            out += hashlib.sha256(b"out" + state[0]).digest()
        return out[:count]

    return take


class Round:
    """`levels` by rank; `dropped` says before which step a rank falls silent; `change` may alter what a member sends."""

    def __init__(self, levels, *, threshold, most, seed=0, context=b"round", change=lambda step, rank, data: data, size=None):
        ranks = sorted(levels)
        self.ring = Ring(len(levels[ranks[0]]) if size is None else size, most, len(ranks), context)
        self.levels, self.change = levels, change
        self.members = {
            rank: Member(rank, threshold=threshold, ring=self.ring, entropy=entropy_of((seed, rank))) for rank in ranks
        }
        self.server = Aggregation(ranks, threshold=threshold, ring=self.ring)
        self.told = dict.fromkeys(ranks, b"")
        self.sent = {}  # by step and rank: what the server saw

    def says(self, step, rank):
        member = self.members[rank]
        match step:
            case Step.KEYS:
                return member.keys()
            case Step.SHARES:
                return member.shares(self.told[rank])
            case Step.MASKED:
                return member.masked(self.told[rank], self.levels[rank])
            case _:
                return member.unmask(self.told[rank])

    def step(self, silent=()):
        step = self.server.step
        for rank in self.server.expected:
            if rank not in silent:
                data = self.change(step, rank, self.says(step, rank))
                self.sent[step, rank] = data
                self.server.take(step, rank, data)
        self.told = self.server.close()

    def run(self, dropped=None):
        dropped = dropped or {}
        for step in Step:
            self.step([rank for rank, when in dropped.items() if when <= step])
        return self.server.levels()


def some_levels(count, size, most, seed=0):
    rng = np.random.default_rng(seed)
    return {rank: rng.integers(-most, most + 1, size) for rank in range(count)}
