"""A clock that stands still while its process does."""

from __future__ import annotations

from saddlebag.proto.awake import Awake


def test_time_passes_while_somebody_asks_and_stands_still_meanwhile() -> None:
    now = [100.0]
    awake = Awake(lambda: now[0], tick_s=0.5)
    for _ in range(20):
        now[0] += 0.5
        awake()
    assert awake() == 110.0
    now[0] += 3600.0
    assert awake() == 111.0, "two ticks of a long pause count"
    assert awake.skipped() == 3599.0
    assert awake.skipped() == 0.0, "what was told is told once"


def test_steps_backwards_are_no_time() -> None:
    now = [100.0]
    awake = Awake(lambda: now[0], tick_s=0.5)
    now[0] = 40.0
    assert awake() == 100.0
    now[0] = 40.25
    assert (awake(), awake.skipped()) == (100.25, 0.0)


def test_it_begins_where_its_clock_is() -> None:
    """Times that were taken by the clock before can be compared with it."""
    assert Awake(lambda: 7.0)() == 7.0
