"""Two threads that hand over: every order of events that a lost connection can make."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from saddlebag.client.link.meeting import Meeting
from saddlebag.client.shell import Leaving
from saddlebag.compression import Draws
from saddlebag.errors import PeerLost

if TYPE_CHECKING:
    from collections.abc import Callable

    from saddlebag.compression import Vector


def beside(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def ask(meeting: Meeting, round_: int, found: list[Vector]) -> threading.Thread:
    def asked() -> None:
        with contextlib.suppress(Leaving):
            found.append(meeting.operator(np.full(2, float(round_)), Draws(0, round_, 0)))

    return beside(asked)


def test_a_change_goes_up_and_the_next_point_comes_back() -> None:
    meeting, found = Meeting(), list[np.ndarray]()
    first = ask(meeting, 0, found)
    assert meeting.next_point()[0].tolist() == [0.0, 0.0]
    meeting.bring(np.array([1.0, 2.0]))
    first.join(5)
    second = ask(meeting, 1, found)
    point_D, over = meeting.next_point()
    assert (point_D.tolist(), over, found[0].tolist(), meeting.round) == ([1.0, 1.0], False, [1.0, 2.0], 1)
    meeting.leave()
    second.join(5)


def test_a_round_that_is_asked_for_again_gets_the_same_answer_at_once() -> None:
    meeting, found = Meeting(), list[np.ndarray]()
    thread = ask(meeting, 4, found)
    meeting.bring(np.ones(2))
    thread.join(5)
    assert meeting.operator(np.zeros(2), Draws(0, 4, 0)) is found[0]


def test_answers_are_forgotten_after_so_many_rounds() -> None:
    meeting, found = Meeting(), list[np.ndarray]()
    for round_ in range(4):
        thread = ask(meeting, round_, found)
        meeting.bring(np.full(2, float(round_)))
        thread.join(5)
    assert meeting.operator(np.zeros(2), Draws(0, 2, 0)).tolist() == [2.0, 2.0]
    again = ask(meeting, 1, found)  # a server that came back much younger: it gets what the program does next
    meeting.next_point()
    meeting.bring(np.full(2, 9.0))
    again.join(5)
    assert found[-1].tolist() == [9.0, 9.0]


def test_a_change_waits_for_a_worker_that_is_on_its_way_back() -> None:
    meeting, found = Meeting(), list[np.ndarray]()
    meeting.bring(np.ones(2))
    ask(meeting, 3, found).join(5)
    assert found[0].tolist() == [1.0, 1.0]


def test_a_program_that_leaves_ends_the_asking() -> None:
    meeting = Meeting()
    meeting.leave()
    with pytest.raises(Leaving):
        meeting.operator(np.zeros(2), Draws(0, 0, 0))


def test_an_end_and_a_failure_reach_the_program() -> None:
    ended, failed = Meeting(), Meeting()
    ended.bring(np.ones(2))
    ended.close(np.full(2, 7.0), None)
    point_D, over = ended.next_point()
    assert (point_D.tolist(), over) == ([7.0, 7.0], True)
    failed.close(np.zeros(2), PeerLost("no server"))
    with pytest.raises(PeerLost, match="no server"):
        failed.next_point()
