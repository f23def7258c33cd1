"""Progress between evaluations: pace, what is left, and that a run tells it in both drivers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from saddlebag.algorithms import Stop
from saddlebag.launch.recipe.recipe import recipe_from_dict
from saddlebag.launch.results import progress as module
from saddlebag.launch.results.progress import (
    Pace,
    Progress,
    read_progress,
    read_waiting,
    throttled,
    write_progress,
    write_waiting,
)
from saddlebag.launch.results.table import Board
from saddlebag.launch.running import run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_pace_counts_from_the_first_word_and_passes_old_ones_over(clock: list[float]) -> None:
    pace, stop = Pace(), Stop(max_rounds=100, max_iterations=30)
    assert (pace.rounds_per_s(), pace.left_s(stop), pace.progress) == (None, None, None)
    pace.tell(Progress(10, 5))
    assert (pace.rounds_per_s(), pace.left_s(stop)) == (None, None)
    clock[0] += 10
    pace.tell(Progress(30, 15))
    clock[0] += 4
    pace.tell(Progress(30, 15))
    pace.tell(Progress(20, 10))
    assert pace.rounds_per_s() == 2.0
    assert pace.left_s(stop) == 15 / 1.0 - 4, "the limit on iterations comes first, and 4 s have passed since the last word"
    assert pace.left_s(Stop(max_rounds=100)) == 70 / 2.0 - 4
    assert pace.left_s(Stop(merit=1e-3)) is None, "nothing is known of the merit"
    clock[0] += 1000
    assert pace.left_s(stop) == 0


def test_bytes_and_seconds_end_a_run_too(clock: list[float]) -> None:
    """Ten rounds a second, of 50 bytes each for a worker."""
    pace = Pace()
    for number in range(1, 102):
        pace.tell(Progress(number, number), num_bytes=50.0 * number)
        clock[0] += 0.1
    assert pace.left_s(Stop(max_bytes=10_000)) == pytest.approx((200 - 101) / 10 - 0.1)
    assert pace.left_s(Stop(max_seconds=25.0)) == pytest.approx(25.0 - 10.1)
    assert pace.left_s(Stop(max_bytes=10_000, max_seconds=25.0, max_rounds=111)) == pytest.approx(0.9)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_what_is_left_follows_the_merits_slope(clock: list[float], noise: float) -> None:
    """A factor of ten every 1,000 rounds at 100 rounds a second, from 1 to 1e-6: 60 s, of which 40 s are over."""
    pace, stop = Pace(), Stop(merit=1e-6, max_rounds=1_000_000)
    for number in range(401):
        wobble = 10 ** (noise * (-1) ** number)
        pace.tell(Progress(10 * number, 10 * number), 10 ** (-number / 100) * wobble)
        clock[0] += 0.1
    assert pace.left_s(stop) == pytest.approx(20.0, rel=0.01 if not noise else 0.1)
    assert pace.left_s(Stop(merit=1e-6, max_rounds=4_500)) == pytest.approx(4.9, abs=0.01), "a limit that comes before"
    assert pace.left_s(Stop(max_rounds=14_000)) == pytest.approx(99.9, abs=0.01)


@pytest.mark.parametrize("merits", [[1.0, 1.0, 1.0, 1.0], [1.0, 2.0, 3.0, 4.0], [1.0]])
def test_nothing_is_said_to_be_left_of_a_merit_that_does_not_fall(clock: list[float], merits: list[float]) -> None:
    pace = Pace()
    for number, merit in enumerate(merits):
        pace.tell(Progress(number, number), merit)
        clock[0] += 1
    assert pace.left_s(Stop(merit=1e-6, max_rounds=20_000)) is None


def test_a_long_history_is_thinned(clock: list[float]) -> None:
    pace = Pace()
    for number in range(10_000):
        pace.tell(Progress(number, number), 10 ** (-number / 10_000))
        clock[0] += 0.01
    assert len(pace._merits) <= 128
    assert pace.left_s(Stop(merit=1e-2)) == pytest.approx(100.0, rel=0.01)


def test_words_are_spaced(clock: list[float]) -> None:
    heard: list[Progress] = []
    tell = throttled(heard.append, 2.0)
    for round_ in range(8):
        tell(Progress(round_, round_))
        clock[0] += 0.75
    assert [progress.round for progress in heard] == [0, 3, 6]


def test_a_file_carries_progress(tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    assert read_progress(path) is None
    write_progress(path, Progress(7, 3))
    assert read_progress(path) == Progress(7, 3)
    path.write_text('{"rounds": 7}')
    assert read_progress(path) is None
    write_progress(tmp_path / "gone" / "progress.json", Progress(1, 1))


@pytest.mark.parametrize("driver", ["simulate", pytest.param("grpc", marks=pytest.mark.e2e)])
def test_a_run_whose_merits_are_never_due_tells_how_it_goes(
    tmp_path: Path, driver: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table: dict[str, Any] = {
        "workers": 2,
        "driver": driver,
        "problem": {"name": "bilinear", "n": 5, "regularisation": 0.5},
        "method": {"name": "extragradient", "step_size": "1/L"},
        "stop": {"max_rounds": 400, "every": 1_000_000},
    }
    recipe = recipe_from_dict(table)
    monkeypatch.setattr("saddlebag.launch.results.table._SAY_EVERY_S", 0.0)
    board = Board(["extragradient"], stop=recipe.stop, workers=2, title="")
    run(recipe, tmp_path / "out", board)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "extragradient: starting 2 workers"
    assert "extragradient: round limit, relative_error" in lines[-1]
    told = [line for line in lines if line.startswith("extragradient: round ") and "rounds/s" in line]
    assert lines[1].startswith("extragradient: round "), "long before the only evaluation, at the end"
    if driver == "simulate":
        assert len(told) == 399
        assert " left" in told[0]


def test_for_whom_a_run_waits_stands_in_the_log_and_below_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, clock = tmp_path / "waiting.txt", [1000.0]
    assert read_waiting(path) == ""
    write_waiting(path, "round 7 waits 3 s for worker 1 [gone]")
    assert read_waiting(path) == "round 7 waits 3 s for worker 1 [gone]"
    monkeypatch.setattr("saddlebag.launch.results.table.time.monotonic", lambda: clock[0])
    board = Board(["masha1"], stop=Stop(max_rounds=9), workers=2, title="")
    board.begin("masha1", {"merit": 1.0})
    tell = board.waiting("masha1")
    for _ in range(100):
        tell(read_waiting(path))
        clock[0] += 0.5
    assert (
        board._table().caption
        == "merit: merit; up and down: bytes of each worker\nmasha1: round 7 waits 3 s for worker 1 \\[gone]"
    )
    tell("")
    assert board._table().caption == "merit: merit; up and down: bytes of each worker"
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["masha1: starting 2 workers", *["masha1: round 7 waits 3 s for worker 1 [gone]"] * 2], (
        "at once, and every 30 s"
    )
