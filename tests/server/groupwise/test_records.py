from __future__ import annotations

import shutil
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.errors import StateError
from saddlebag.proto.groupwise import join_labels, join_rows
from saddlebag.proto.v1 import groupwise_pb2 as pb
from saddlebag.server.groupwise import tickets as tickets_module
from saddlebag.server.groupwise.journal import Journal
from saddlebag.server.groupwise.records import RETRY_S, Records
from saddlebag.server.groupwise.service import GroupwiseService
from saddlebag.server.groupwise.store import ServiceStore

if TYPE_CHECKING:
    from pathlib import Path


def fill(core: Any, rows: Any, batches: int = 12) -> None:
    rng = np.random.default_rng(batches)
    for _ in range(batches):
        x_ND, member_NG, label_N = rows(rng, 7)
        first, _ = core.predict(x_ND, member_NG)
        core.feedback([first, first + 3], label_N[:2])


def bits(core: Any) -> Any:
    arrays, facts = core.capture()
    return {name: array.tobytes() for name, array in arrays.items()}, facts


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tickets_module, "PAGE_ROWS", 16)


@pytest.mark.usefixtures("small_pages")
def test_checkpoints_write_each_full_page_once_and_forget_old_ones(make_core: Any, rows: Any, tmp_path: Path) -> None:
    core, store = make_core(), ServiceStore(tmp_path)
    fill(core, rows)
    store.save(1, *core.capture())
    pages = {path: path.stat().st_mtime_ns for path in tmp_path.glob("tickets-*")}
    assert len(pages) >= 3
    fill(core, rows, 3)
    store.save(2, *core.capture())
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in pages.items())
    again = make_core()
    again.restore(*ServiceStore(tmp_path).load(2))
    assert bits(again) == bits(core)
    core.feedback(range(64), np.full(64, 0.5))
    for number in (3, 4):
        store.save(number, *core.capture())
    assert not any(path.exists() for path in sorted(pages)[:2])
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in tmp_path.iterdir())


@pytest.mark.usefixtures("small_pages")
def test_a_flipped_bit_in_any_file_of_a_checkpoint_is_refused(make_core: Any, rows: Any, tmp_path: Path) -> None:
    core, dice = make_core(), np.random.default_rng(0)
    fill(core, rows)
    ServiceStore(tmp_path).save(1, *core.capture())
    for path in tmp_path.iterdir():
        whole = path.read_bytes()
        for at in dice.integers(0, len(whole), 150):
            damaged = bytearray(whole)
            damaged[at] ^= 1 << int(dice.integers(8))
            path.write_bytes(damaged)
            with pytest.raises(StateError):
                make_core().restore(*ServiceStore(tmp_path).load(1))
        path.write_bytes(whole)
    make_core().restore(*ServiceStore(tmp_path).load(1))


@pytest.mark.usefixtures("small_pages")
def test_renamed_missing_and_old_files_are_named(make_core: Any, rows: Any, tmp_path: Path) -> None:
    core, store = make_core(), ServiceStore(tmp_path / "a")
    fill(core, rows)
    store.save(1, *core.capture())
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b" / "groupwise-000000000001.safetensors").rename(tmp_path / "b" / "groupwise-000000000002.safetensors")
    with pytest.raises(StateError, match="it says that it is groupwise-000000000001"):
        ServiceStore(tmp_path / "b").load(2)
    first, second, *_ = sorted((tmp_path / "a").glob("tickets-*"))
    shutil.copy(second, first)
    with pytest.raises(StateError, match="their digest differs"):
        ServiceStore(tmp_path / "a").load(1)
    first.unlink()
    with pytest.raises(StateError, match="cannot read the waiting tickets"):
        ServiceStore(tmp_path / "a").load(1)
    arrays, _ = core.capture()
    store._store.save(3, {"a": arrays["ledger.count_E"]}, {"recipe": "{}"})
    with pytest.raises(StateError, match="of version 1, this release reads 2"):
        store.load(3)


def test_calls_are_answered_while_a_checkpoint_is_written(make_core: Any, rows: Any, tmp_path: Path, monkeypatch: Any) -> None:
    core, gate, entered, save = make_core(), threading.Event(), threading.Event(), ServiceStore.save
    records = Records(core, tmp_path, every=4)
    records.checkpoint(0)
    monkeypatch.setattr(ServiceStore, "save", lambda *rest: (entered.set(), gate.wait(60), save(*rest)))
    captured: list[Any] = []
    for calls in range(10):
        if calls == 4:
            captured.append(bits(core))
        records.append(1, b"call", 0, calls)
        fill(core, rows, 1)
    assert entered.wait(60)
    assert records.writing
    assert records.store.numbers() == [0]
    assert [len(list(records.journal.read(number))) for number in records.journal.numbers()] == [4, 6]
    gate.set()
    records._writer.join()  # type: ignore[union-attr]
    assert records.store.numbers() == [0, 4]
    again = make_core()
    again.restore(*records.store.load(4))
    assert bits(again) == captured[0]


def test_killed_before_the_journal_has_its_name_no_call_is_lost(make_core: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """The cut writes a head alone; the writer's thread gives the name. What is on disk in between leads to the same calls."""
    folder, gate = tmp_path / "a", threading.Event()
    records = Records(make_core(), folder, every=3)
    records.checkpoint(0)
    settle = Journal.settle
    monkeypatch.setattr(Journal, "settle", lambda journal: (gate.wait(60), settle(journal)))
    for calls in range(5):
        records.append(1, b"call %d" % calls, 0, calls)
    assert {path.name for path in folder.glob("journal-*")} == {"journal-000000000000.log", "journal-next.log"}
    for name, expected in (("whole", 5), ("torn", 4), ("headless", 3), ("empty", 3)):
        copy = tmp_path / name
        shutil.copytree(folder, copy)
        whole = (copy / "journal-next.log").read_bytes()
        cut = {"whole": len(whole), "torn": len(whole) - 1, "headless": 31, "empty": 0}[name]
        (copy / "journal-next.log").write_bytes(whole[:cut])
        for _ in range(2):  # to read what is there changes nothing
            found: list[Any] = []
            assert Records(make_core(), copy).recover(found.append) == expected
            assert [call.request for call in found] == [b"call %d" % calls for calls in range(expected)]
            assert not (copy / "journal-next.log").exists()
    gate.set()
    records._writer.join()  # type: ignore[union-attr]
    found = []
    assert Records(make_core(), folder).recover(found.append) == 5
    assert [call.request for call in found] == [b"call 3", b"call 4"]


def test_a_checkpoint_that_fails_is_tried_again_at_a_stated_pace(make_core: Any, tmp_path: Path, monkeypatch: Any) -> None:
    tries: list[int] = []
    notes: list[str] = []
    now, save = [0.0], ServiceStore.save

    def full(store: Any, number: int, *rest: Any) -> None:
        tries.append(number)
        raise StateError("cannot write tickets: No space left on device")

    records = Records(make_core(), tmp_path, every=4, note=notes.append, clock=lambda: now[0])
    records.checkpoint(0)
    monkeypatch.setattr(ServiceStore, "save", full)

    def call(calls: int) -> None:
        records.append(1, b"call", 0, calls)
        if records._writer is not None:
            records._writer.join()

    for calls in range(30):
        call(calls)
    assert tries == [4]
    assert notes == [
        "cannot write tickets: No space left on device; tried again in 10 s, the journal keeps every answered call"
    ]
    assert "No space" in records.failure
    now[0] = RETRY_S
    call(30)
    assert tries == [4, 30]
    monkeypatch.setattr(ServiceStore, "save", save)
    now[0] = 2 * RETRY_S
    call(31)
    assert records.failure == ""
    found: list[Any] = []
    core = make_core()
    assert Records(core, tmp_path).recover(found.append) == 32
    assert len(found) == 1


def test_a_defect_in_the_writers_thread_ends_the_service(make_core: Any, tmp_path: Path, monkeypatch: Any) -> None:
    def broken(*rest: Any) -> None:
        raise MemoryError("no room")

    records = Records(make_core(), tmp_path, every=1)
    records.checkpoint(0)
    monkeypatch.setattr(ServiceStore, "save", broken)
    records.append(1, b"call", 0, 0)
    records.append(1, b"call", 0, 1)
    records._writer.join()  # type: ignore[union-attr]
    with pytest.raises(StateError, match="MemoryError: no room"):
        records.append(1, b"call", 0, 2)


def test_other_limits_hold_from_the_restart_on_and_not_for_what_was_answered(make_core: Any, rows: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    service = GroupwiseService(make_core(max_pending=1000), tmp_path)
    for _ in range(3):
        features, groups = join_rows(*rows(rng, 10)[:2])
        service.predict(pb.PredictRequest(features=features, groups=groups).SerializeToString())
    tickets, labels = join_labels([0, 1], [0.5, 0.5])
    service.feedback(pb.FeedbackRequest(tickets=tickets, labels=labels).SerializeToString())
    resumed = GroupwiseService(make_core(max_pending=5), tmp_path)
    assert (resumed.core.learned, resumed.core.tickets.pending, resumed.core.tickets.forgotten) == (2, 5, 23)
