from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from saddlebag.errors import StateError
from saddlebag.server.groupwise.calls import Call
from saddlebag.server.groupwise.journal import Journal

CALLS = [Call(1, 0, b"first"), Call(2, 2**64 - 1, b""), Call(3, 7, bytes(range(40))), Call(1, 7, b"last")]
HEAD = 32


def written(folder: Path, **options: Any) -> Journal:
    journal = Journal(folder, **options)
    journal.begin(12)
    for call in CALLS:
        journal.append(call.kind, call.request, call.owner)
    return journal


def test_what_was_recorded_is_read(tmp_path: Path) -> None:
    journal = written(tmp_path, sync=True)
    assert journal.numbers() == [12]
    assert list(journal.read(12)) == CALLS
    assert journal.path(12).stat().st_mode & 0o777 == 0o600


def test_a_file_that_ends_anywhere_holds_the_calls_before(tmp_path: Path) -> None:
    journal = written(tmp_path)
    path, whole = journal.path(12), journal.path(12).read_bytes()
    ends = [HEAD]
    for call in CALLS:
        ends.append(ends[-1] + 12 + 9 + len(call.request))
    assert ends[-1] == len(whole)
    for length in range(len(whole) + 1):
        for tail in (b"", bytes(50)):  # a power cut can leave zeros
            if tail and length not in (*ends, 0):
                continue
            path.write_bytes(whole[:length] + tail)
            assert list(journal.read(12)) == CALLS[: sum(end <= length for end in ends) - 1 if length >= HEAD else 0]


@pytest.mark.parametrize("bit", [0, 7])
def test_a_flipped_bit_anywhere_is_refused_by_name_and_loses_no_call(bit: int, tmp_path: Path) -> None:
    journal = written(tmp_path)
    path, whole = journal.path(12), journal.path(12).read_bytes()
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << bit
        path.write_bytes(damaged)
        with pytest.raises(StateError, match=r"damaged at byte \d+|no journal|of version"):
            list(journal.read(12))
        assert path.read_bytes() == damaged


def test_records_cannot_be_moved_left_out_or_taken_from_another_journal(tmp_path: Path) -> None:
    journal = written(tmp_path)
    path, whole = journal.path(12), journal.path(12).read_bytes()
    first = 12 + 9 + len(CALLS[0].request)
    path.write_bytes(whole[:HEAD] + whole[HEAD + first :])
    with pytest.raises(StateError, match=f"damaged at byte {HEAD}"):
        list(journal.read(12))
    path.write_bytes(whole)
    path.rename(journal.path(13))
    with pytest.raises(StateError, match="begins with call 12: the file was renamed"):
        list(journal.read(13))


def test_the_version_before_is_refused_by_name(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.path(0).write_bytes(b"saddlebag journal 1\n" + bytes(30))
    with pytest.raises(StateError, match="of version 1, this release reads version 2"):
        list(journal.read(0))
    journal.path(0).write_bytes(b"something else")
    with pytest.raises(StateError, match="no journal"):
        list(journal.read(0))


class Disk:
    """A disk that fills up: the next writes take so many bytes, or raise."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room: int | None = None
        self.truncates = True
        write, truncate = os.write, os.ftruncate

        def short(file: int, data: bytes) -> int:
            if self.room is None:
                return write(file, data)
            if self.room == 0:
                raise OSError(28, "No space left on device")
            return write(file, data[: self.room])

        def cut(file: int, length: int) -> None:
            if not self.truncates:
                raise OSError(5, "Input/output error")
            truncate(file, length)

        monkeypatch.setattr(os, "write", short)
        monkeypatch.setattr(os, "ftruncate", cut)


@pytest.mark.parametrize("room", [0, 1, 12, 20])
def test_after_a_failed_write_the_journal_is_whole_or_refuses(
    room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, journal = Disk(monkeypatch), written(tmp_path)
    disk.room, disk.truncates = room, False
    with pytest.raises(StateError, match="cannot write the journal"):
        journal.append(1, b"lost")
    disk.room = None
    with pytest.raises(StateError, match="half a call that cannot be taken back"):
        journal.append(1, b"not answered either")
    assert list(journal.read(12)) == CALLS
    disk.truncates = True
    journal.append(1, b"answered")
    assert list(journal.read(12)) == [*CALLS, Call(1, 0, b"answered")]


def test_after_a_failed_fsync_nothing_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = written(tmp_path, sync=True)

    def fail(file: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fail)
        with pytest.raises(StateError, match="Input/output error"):
            journal.append(1, b"lost")
    with pytest.raises(StateError, match="start the service again"):
        journal.append(1, b"not answered either")


def test_a_journal_that_cannot_begin_leaves_the_one_before_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, journal = Disk(monkeypatch), written(tmp_path)
    disk.room = 3
    for number in (12, 16):  # the first is open and is not touched
        if number == 16:
            with pytest.raises(StateError, match="only 3 of 32 bytes"):
                journal.begin(number)
        else:
            journal.begin(number)
    disk.room = None
    journal.append(1, b"more")
    assert journal.numbers() == [12]
    assert list(journal.read(12)) == [*CALLS, Call(1, 0, b"more")]


def test_with_sync_a_journal_is_on_the_disk_before_its_first_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its head when it is begun; its names when it is made and when it is given its own."""
    journal, synced, fsync = written(tmp_path, sync=True), list[str](), os.fsync

    def spy(file: int) -> None:
        synced.append("folder" if os.fstat(file).st_nlink > 1 else "file")
        fsync(file)

    monkeypatch.setattr(os, "fsync", spy)
    steps = []
    for step in (journal.settle, lambda: journal.begin(16), lambda: journal.append(1, b"x"), journal.settle):
        step()
        steps.append(tuple(synced))
        synced.clear()
    assert steps == [("folder",), ("file",), ("file",), ("folder", "folder")]
    assert list(journal.read(16)) == [Call(1, 0, b"x")]


def test_a_journal_made_ahead_is_begun_by_a_write_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = written(tmp_path)
    journal.settle()
    with monkeypatch.context() as slow:
        for name in ("open", "close", "unlink", "rename", "replace", "fsync"):  # what may wait for the disk
            slow.setattr(os, name, None)
        journal.begin(16)
        journal.append(1, b"more")
    journal.settle()
    assert journal.numbers() == [12, 16]
    assert list(journal.read(16)) == [Call(1, 0, b"more")]
    assert (tmp_path / "journal-next.log").stat().st_mode & 0o777 == 0o600


def test_a_journal_that_cannot_get_its_name_is_never_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = written(tmp_path)
    journal.settle()

    def fail(*rest: object) -> None:
        raise OSError(5, "Input/output error")

    journal.begin(16)
    journal.append(1, b"sixteen")
    for number in (17, 18):  # each makes its own file
        with monkeypatch.context() as broken:
            broken.setattr(Path, "replace", fail)
            with pytest.raises(StateError, match=r"cannot write .*journal-000000000016\.log: Input/output error"):
                journal.settle()
        journal.begin(number)
        journal.append(1, b"later")
    journal.settle()
    assert journal.numbers() == [12, 16, 17, 18]
    assert list(journal.read(16)) == [Call(1, 0, b"sixteen")]


def test_a_full_disk_leaves_the_journal_before_open_and_none_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, journal = Disk(monkeypatch), written(tmp_path)
    journal.settle()
    disk.room = 3
    with pytest.raises(StateError, match=r"cannot write .*journal-next\.log: only 3 of 32 bytes"):
        journal.begin(16)
    disk.room = None
    journal.append(1, b"more")
    assert list(journal.read(12)) == [*CALLS, Call(1, 0, b"more")]
    journal.begin(17)
    journal.settle()
    assert journal.numbers() == [12, 17]


def test_a_damaged_journal_without_its_name_is_refused(tmp_path: Path) -> None:
    journal = written(tmp_path)
    journal.path(12).rename(tmp_path / "journal-next.log")
    whole = (tmp_path / "journal-next.log").read_bytes()
    for at in range(HEAD):
        damaged = bytearray(whole)
        damaged[at] ^= 4
        (tmp_path / "journal-next.log").write_bytes(damaged)
        with pytest.raises(StateError, match=r"journal-next.log is no journal|journal-next.log is of version"):
            Journal(tmp_path).adopt()
    (tmp_path / "journal-next.log").write_bytes(whole)
    journal.path(12).write_bytes(whole)
    with pytest.raises(StateError, match="both begin with call 12: restore the folder"):
        Journal(tmp_path).adopt()
    journal.path(12).unlink()
    Journal(tmp_path).adopt()
    assert list(journal.read(12)) == CALLS


@pytest.mark.parametrize("how", ["removed", "moved", "replaced"])
def test_a_journal_without_its_name_answers_nobody(how: str, tmp_path: Path) -> None:
    """A restart would not find what is written to it."""
    journal = written(tmp_path)
    path = journal.path(12)
    path.rename(tmp_path / "elsewhere")
    if how == "removed":
        (tmp_path / "elsewhere").unlink()
    elif how == "replaced":
        path.write_bytes(b"another file")
    for _ in range(2):
        with pytest.raises(StateError, match="cannot write the journal: it was removed or moved away meanwhile"):
            journal.append(1, b"not answered")
    if how == "moved":
        (tmp_path / "elsewhere").rename(path)
        journal.append(1, b"answered")
        assert list(journal.read(12)) == [*CALLS, Call(1, 0, b"answered")]
