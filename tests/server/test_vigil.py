"""What people hear of a round that waits."""

from __future__ import annotations

import dataclasses

from saddlebag.server.effects import ServerSettings
from saddlebag.server.roster import BROKEN, GRACE_S, START_S, Missed
from saddlebag.server.vigil import Vigil, waiting_words

PAUSE = ServerSettings(num_workers=9, seed=1)
DROP = dataclasses.replace(PAUSE, on_lost="drop")


def test_for_whom_since_when_and_until_when() -> None:
    broken, new, silent = (
        Missed(1, BROKEN, 98.0, GRACE_S),
        Missed(2, "has not come", 80.0, START_S),
        Missed(3, "last heard of", 96.0, 10.0),
    )
    assert waiting_words(7, 90.0, [broken], PAUSE, 100.0) == (
        "round 7 waits 10 s for worker 1 (its stream broke 2 s ago; until it comes back)"
    )
    assert waiting_words(7, 90.0, [new, silent], PAUSE, 100.0) == (
        "round 7 waits 10 s for worker 2 (has not come 20 s since the start; taken for lost in 40 s); "
        "worker 3 (last heard of 4 s ago; taken for lost in 6 s)"
    )
    assert waiting_words(7, 90.0, [silent], DROP, 100.0) == (
        "round 7 waits 10 s for worker 3 (last heard of 4 s ago; 6 s more, then the run goes on without it)"
    )
    all_broken = [dataclasses.replace(broken, worker=rank) for rank in range(6)]
    assert waiting_words(7, 90.0, all_broken, PAUSE, 100.0) == (
        "round 7 waits 10 s for worker 0, 1, 2, 3 and 2 more (its stream broke 2 s ago; until it comes back)"
    )
    assert waiting_words(7, 90.0, [], PAUSE, 100.0) == ""


def test_a_table_hears_every_change_and_a_log_ever_more_rarely() -> None:
    told: list[str] = []
    noted: list[float] = []
    clock = [0.0]
    vigil = Vigil(told.append, lambda text: noted.append(clock[0]))
    for second in range(200):
        clock[0] = float(second)
        vigil.look(f"{second} s", clock[0])
    assert told == [f"{second} s" for second in range(200)]
    assert noted == [5.0, 10.0, 20.0, 40.0, 80.0, 140.0]
    vigil.look("", 200.0)
    vigil.look("", 201.0)
    assert told[200:] == [""]
    clock[0] = 300.0
    vigil.look("again", 300.0)
    assert noted[6:] == []
