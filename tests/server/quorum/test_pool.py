"""Uplinks that wait for their round: when it closes, and how many steps whoever comes in between is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.algorithms import Message
from saddlebag.algorithms.merging import WHOLE
from saddlebag.compression import SERVER, Dense, Draws
from saddlebag.proto.codec import encode
from saddlebag.proto.frames import frames_of, read_frame
from saddlebag.server.quorum.pool import Pace, Pool

if TYPE_CHECKING:
    from collections.abc import Callable

EVERY, ROUND_S = 20, 4.0


class Even:
    """Rounds may be merged; all that a pool asks of a method."""

    unmergeable = ""

    @staticmethod
    def late_weight(age: int) -> float:
        return 1.0 / (1 + age)


def pool_of(workers: int, gone: Callable[[int], bool] = lambda worker: False, **given: Any) -> Pool:
    pace = Pace(**{"quorum": workers, "grace_s": 0.0, "weights": "samples", "balance": True, **given})
    pool = Pool(Even(), (3,), Draws(0, 0, SERVER), pace, workers, gone)
    for worker in range(workers):
        pool.begins(worker, 0, 0.0)
    pool.open(range(workers), 0.0)
    return pool


def say(pool: Pool, worker: int, steps: int, now: float, round_: int = 0) -> None:
    buffers = encode(Message((Dense(np.ones(3)),)))
    about: dict[str, Any] = {"epoch": 0, "round_": round_, "sender": worker + 1, "samples": steps, "steps": steps}
    for raw in map(bytes, frames_of(buffers, **about)):
        pool.take(worker, read_frame(raw), len(raw), now)


def round_of(pool: Pool, *steps: int) -> None:
    for worker, count in enumerate(steps):
        say(pool, worker, count, ROUND_S)
    pool.close(0, ROUND_S)
    pool.open(range(len(steps)), ROUND_S)


@pytest.mark.parametrize(
    ("worker", "after_s", "share"),
    [
        (0, 0.0, 1.0),  # at the beginning of a round: all of the steps
        (0, 1.0, 0.75),  # then what is left of it
        (1, 1.0, 0.75 / 4),  # of a slower machine, by its own rate
        (0, 3.5, 1.0),  # too little is left: for the next round
        (1, 9.0, 0.25),  # the round is overdue
    ],
)
def test_who_comes_back_in_a_round_ends_with_the_others(worker: int, after_s: float, share: float) -> None:
    pool = pool_of(2)
    round_of(pool, EVERY, EVERY // 4)
    assert pool.first_share(worker, ROUND_S + after_s) == round(share * WHOLE)


def test_without_rates_or_balance_all_steps_are_made() -> None:
    assert pool_of(2).first_share(1, 1.0) == WHOLE
    plain = pool_of(2, balance=False)
    round_of(plain, EVERY, EVERY // 4)
    assert plain.first_share(1, ROUND_S + 1.0) == WHOLE


def test_a_round_gives_no_time_to_the_dead() -> None:
    dead: set[int] = set()
    pool = pool_of(3, dead.__contains__, quorum=2, grace_s=60.0)
    say(pool, 0, EVERY, ROUND_S)
    say(pool, 1, EVERY, ROUND_S)
    assert not pool.due(ROUND_S + 59.0), "worker 2 may yet come"
    dead.add(2)
    assert pool.due(ROUND_S)
