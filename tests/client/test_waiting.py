"""A worker that waits for its server says so, and ends in time; the clock is a list here."""

from __future__ import annotations

import asyncio

import pytest

from saddlebag.client.waiting import Waiting
from saddlebag.errors import PeerLost


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
