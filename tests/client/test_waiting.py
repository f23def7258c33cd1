"""A worker that waits for its server says so, and ends in time; the clock is a list here."""

from __future__ import annotations

import asyncio

import pytest

from saddlebag.client.waiting import Waiting
from saddlebag.errors import PeerLost
from saddlebag.proto.awake import Awake


def waiting(now: list[float], notes: list[str], **options: float) -> Waiting:
    return Waiting("worker 1", "a:1", 60.0, notes.append, clock=lambda: now[0], **options)


def test_what_is_awaited_since_when_and_until_when() -> None:
    now = [100.0]
    worker = waiting(now, [])
    worker.failed("nothing listens there")
    now[0] += 12
    assert worker.words() == "worker 1: waiting for a:1 since 12 s, 48 s more at most: nothing listens there"
    worker.met()
    assert worker.words() is None
    worker.failed("the server ended the stream")
    assert worker.words() == "worker 1: waiting for a:1 since 12 s, 48 s more at most: the server ended the stream"


def test_pauses_grow_to_a_second_until_the_run_goes_on() -> None:
    worker = waiting([0.0], [])
    assert [worker.failed("x") for _ in range(7)] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    worker.progressed()
    assert worker.failed("x") == 0.05


def test_patience_ends_with_the_last_reason() -> None:
    now = [0.0]
    worker = waiting(now, [])
    now[0] = 60.0
    worker.failed("nothing listens there")
    now[0] = 60.5
    with pytest.raises(PeerLost, match="no server at a:1 for 60 s; last answer: nothing listens there"):
        worker.failed("nothing listens there")


def test_a_connection_that_was_there_is_no_wait() -> None:
    """A round may take longer than the patience: when the server dies in it, the worker begins to wait then."""
    now = [0.0]
    worker = waiting(now, [])
    worker.met()
    now[0] = 3600.0
    assert worker.failed("Connection reset by peer") == 0.05
    now[0] += 59.0
    worker.failed("nothing listens there")
    now[0] += 2.0
    with pytest.raises(PeerLost):
        worker.failed("nothing listens there")


def test_a_run_that_goes_on_without_this_worker_is_no_lost_server() -> None:
    """Epoch after epoch begins before its snapshot comes: what is counted is the time without an answer."""
    now = [0.0]
    worker = waiting(now, [])
    for _ in range(200):
        worker.met()
        worker.superseded()
        now[0] += worker.failed("the server ended the stream")
    assert now[0] > 100.0


def test_connections_without_progress_make_the_next_one_wait_longer() -> None:
    worker = waiting([0.0], [])
    slacks = []
    for _ in range(9):
        slacks.append(worker.slack)
        worker.met()
        worker.failed("ping timeout")
    assert slacks == [1, 2, 4, 8, 16, 32, 64, 64, 64]
    worker.failed("nothing listens there")
    assert worker.slack == 64, "no connection, no evidence"
    worker.progressed()
    assert worker.slack == 1


def test_a_process_that_was_stopped_has_not_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("saddlebag.client.waiting.Awake", lambda: Awake(lambda: now[0]))
    worker = Waiting("worker 1", "a:1", 60.0, lambda text: None)
    worker.failed("nothing listens there")
    now[0] = 3600.0
    worker.failed("nothing listens there")  # no PeerLost: it asks again


def test_the_words_are_told_while_nobody_answers_and_not_after() -> None:
    async def main() -> list[str]:
        notes: list[str] = []
        heard = asyncio.Event()

        def note(text: str) -> None:
            notes.append(text)
            if len(notes) == 2:
                heard.set()

        worker = Waiting("worker 1", "a:1", 60.0, note, say_every_s=0.001)
        async with worker.spoken():
            await asyncio.wait_for(heard.wait(), 30)
            worker.met()
            told = len(notes)
            for _ in range(20):
                await asyncio.sleep(0.001)
            assert len(notes) == told
        return notes

    assert all(note.startswith("worker 1: waiting for a:1 since 0 s, 60 s more at most") for note in asyncio.run(main()))
