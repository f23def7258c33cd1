from __future__ import annotations

from saddlebag.proto.pace import Pace, Patience


def stream(patience: Patience) -> Pace:
    pace = Pace(patience)
    pace.waits = True
    return pace


def seconds_until_stuck(pace: Pace, most: int = 100_000) -> int | None:
    return next((second for second in range(1, most) if pace.age(1.0)), None)


def test_a_worker_that_computes_is_not_stuck() -> None:
    assert seconds_until_stuck(stream(Patience(10.0))) is None


def test_a_frame_that_was_begun_and_does_not_come_is_noticed() -> None:
    pace = stream(Patience(10.0))
    pace.hear(1)
    assert seconds_until_stuck(pace) == 11
    assert seconds_until_stuck(pace) is None  # it says so once


def test_so_is_the_rest_of_a_message() -> None:
    pace = stream(Patience(10.0))
    pace.come()
    pace.waits = True
    assert pace.age(50.0) == ""
    pace.expect()
    assert seconds_until_stuck(pace) == 11


def test_who_does_not_read_blames_nobody() -> None:
    pace = Pace(Patience(10.0))
    pace.hear(5)
    assert seconds_until_stuck(pace) is None


def test_each_stuck_stream_doubles_the_time_and_a_frame_ends_that() -> None:
    patience = Patience(10.0)
    for wanted in (11, 21, 41):
        pace = stream(patience)
        pace.hear(1)
        assert seconds_until_stuck(pace) == wanted
    pace = stream(patience)
    pace.hear(1)
    pace.come()
    assert patience.allowed_s == 10.0


def test_a_slow_link_is_found_out() -> None:
    """Frames that take 30 s pass after two streams were ended, and none is ended afterwards."""
    patience, ended, came = Patience(10.0), 0, 0
    for _ in range(5):
        pace = stream(patience)
        pace.hear(1)
        if seconds_until_stuck(pace, most=30) is None:
            pace.come()
            came += 1
        else:
            ended += 1
    assert (ended, came) == (2, 3)
