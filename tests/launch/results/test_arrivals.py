"""The log of arrivals: what is written is read, and a server that goes on from a round keeps what still holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from saddlebag.algorithms.merging import Arrivals, Counted
from saddlebag.errors import RemoteProtocolError, StateError
from saddlebag.launch.results.arrivals import ArrivalLog, read_arrivals
from saddlebag.proto.counted import counted_bytes, read_counted

if TYPE_CHECKING:
    from pathlib import Path

ROUNDS = [
    Arrivals(round=number, counted=(Counted(worker=0, age=0, samples=5), Counted(worker=3, age=number))) for number in range(4)
]


def written(path: Path) -> None:
    with ArrivalLog(path, upto_round=-1) as log:
        log.add(ROUNDS[0])
        log.add(ROUNDS[1])
        log.add(Arrivals(round=2, counted=(), joined=(3,)))
        log.add(ROUNDS[2])
        log.add(Arrivals(round=3, counted=(), joined=(1,)))
        log.add(ROUNDS[3])


def test_what_is_written_is_read_by_round(tmp_path: Path) -> None:
    written(tmp_path / "log")
    found = read_arrivals(tmp_path / "log")
    assert [entry.counted for entry in found] == [entry.counted for entry in ROUNDS]
    assert [entry.joined for entry in found] == [(), (), (3,), (1,)]


def test_a_server_that_goes_on_from_a_round_forgets_what_follows(tmp_path: Path) -> None:
    path = tmp_path / "log"
    written(path)
    with path.open("a") as file:
        file.write('{"round": 4, "coun')  # it was killed
    with ArrivalLog(path, upto_round=2) as log:
        assert log.joined == (3,)
        log.add(ROUNDS[2])
    found = read_arrivals(path)
    assert [(entry.round, entry.joined) for entry in found] == [(0, ()), (1, ()), (2, (3,))], "who began there has begun"
    ArrivalLog(path, upto_round=-1)
    assert not path.exists()


@pytest.mark.parametrize(
    "line", ["", "[]", '{"round": "x"}', '{"round": 1, "counted": [[1]]}', '{"round": 1, "joined": ["a"]}']
)
def test_a_line_that_is_none_is_named(line: str, tmp_path: Path) -> None:
    (tmp_path / "log").write_text('{"round": 0, "counted": [[0, 0, 1, 65536]]}\n' + line + "\n")
    with pytest.raises(StateError, match="line 2, is no line of a log of arrivals"):
        read_arrivals(tmp_path / "log")


def test_entries_survive_their_bytes() -> None:
    assert read_counted(counted_bytes(ROUNDS[3].counted), 3) == ROUNDS[3].counted
    assert read_counted(b"", 0) == ()


@pytest.mark.parametrize(
    "raw",
    [
        b"\x00",
        b"\x00\x00\x01",
        b"\x01\x00\x01\x01\x01\x00\x01\x01",
        b"\x00\x05\x01\x01",
        b"\x00\x00\x00\x01",
        b"\x00\x00\x01\x00",
        b"\xff",
    ],
)
def test_bytes_that_are_none_are_refused(raw: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        read_counted(raw, 4)
