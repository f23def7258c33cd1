from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.errors import RemoteProtocolError, StateError
from saddlebag.proto.groupwise import join_labels, join_rows
from saddlebag.proto.v1 import groupwise_pb2 as pb
from saddlebag.server.groupwise.service import GroupwiseService

if TYPE_CHECKING:
    from pathlib import Path


def predict_request(x_ND: Any, member_NG: Any) -> bytes:
    features, groups = join_rows(x_ND, member_NG)
    return pb.PredictRequest(features=features, groups=groups, weights=True).SerializeToString()


def feedback_request(tickets: Any, labels: Any) -> bytes:
    encoded = join_labels(tickets, labels)
    return pb.FeedbackRequest(tickets=encoded[0], labels=encoded[1]).SerializeToString()


def script(rows: Any, length: int) -> list[tuple[str, bytes]]:
    """A fixed sequence of calls: batches, and labels for random tickets of the past."""
    rng, calls, given = np.random.default_rng(1), [], 0
    for _ in range(length):
        if given == 0 or rng.random() < 0.5:
            count = int(rng.integers(1, 9))
            calls.append(("predict", predict_request(*rows(rng, count)[:2])))
            given += count
        else:
            count = int(rng.integers(1, 9))
            calls.append(("feedback", feedback_request(rng.integers(0, given, count), rng.random(count))))
    return calls


def bits(service: GroupwiseService) -> Any:
    arrays, facts = service.core.capture()
    return {name: array.tobytes() for name, array in arrays.items()}, facts


def test_a_service_killed_at_any_moment_resumes_with_every_bit(make_core: Any, rows: Any, tmp_path: Path) -> None:
    calls = script(rows, 120)
    undisturbed = GroupwiseService(make_core())
    for kind, raw in calls:
        getattr(undisturbed, kind)(raw)
    dice = random.Random(0)
    service, done = GroupwiseService(make_core(), tmp_path, checkpoint_every=16), 0
    while done < len(calls):
        getattr(service, calls[done][0])(calls[done][1])
        done += 1
        if dice.random() < 0.2:  # killed: nothing is closed; perhaps in the middle of the next record
            assert service.records is not None
            if service.records._writer is not None:  # a thread of this process cannot be killed
                service.records._writer.join()
            journal = service.records.journal
            whole = journal._whole
            journal.append(1, b"the next call")
            newest = journal.path(journal.numbers()[-1])
            newest.write_bytes(newest.read_bytes()[: dice.randrange(whole, newest.stat().st_size)])
            service = GroupwiseService(make_core(), tmp_path, checkpoint_every=16)
            assert service.calls == done
    assert bits(service) == bits(undisturbed)


def test_a_crash_between_the_cut_and_its_checkpoint_loses_nothing(make_core: Any, rows: Any, tmp_path: Path) -> None:
    calls = script(rows, 30)
    service = GroupwiseService(make_core(), tmp_path, checkpoint_every=1000)
    for kind, raw in calls:
        getattr(service, kind)(raw)
    assert service.records is not None
    service.records.journal.begin(service.calls)  # and no checkpoint yet
    resumed = GroupwiseService(make_core(), tmp_path)
    assert bits(resumed) == bits(service)


def _flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def _emptied(path: Path) -> None:
    path.write_bytes(b"")


def _replaced(path: Path) -> None:
    path.write_bytes(min(path.parent.glob("groupwise-*")).read_bytes())


def _a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _removed(path: Path) -> None:
    path.unlink()


def _two_checkpoints(make_core: Any, rows: Any, folder: Path) -> GroupwiseService:
    service = GroupwiseService(make_core(), folder, checkpoint_every=1000)
    calls = script(rows, 30)
    for at, (kind, raw) in enumerate(calls):
        getattr(service, kind)(raw)
        if at == 20:
            service.checkpoint()
    return service


@pytest.mark.parametrize("harm", [_flipped, _emptied, _replaced, _a_folder, _removed])
def test_where_the_newest_checkpoint_is_damaged_the_one_before_leads_to_every_bit(
    harm: Any, make_core: Any, rows: Any, tmp_path: Path
) -> None:
    service = _two_checkpoints(make_core, rows, tmp_path)
    newest = max(tmp_path.glob("groupwise-*"))
    harm(newest)
    notes: list[str] = []
    resumed = GroupwiseService(make_core(), tmp_path, note=notes.append)
    assert bits(resumed) == bits(service)
    assert (newest.name in "".join(notes)) == (harm is not _removed), "the damaged one is named"


def test_where_no_checkpoint_is_sound_the_newest_is_named(make_core: Any, rows: Any, tmp_path: Path) -> None:
    _two_checkpoints(make_core, rows, tmp_path)
    for path in tmp_path.glob("groupwise-*"):
        _flipped(path)
    before = {path: path.read_bytes() for path in tmp_path.glob("*-0*")}
    with pytest.raises(StateError, match=f"{max(tmp_path.glob('groupwise-*')).name} is damaged"):
        GroupwiseService(make_core(), tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.glob("*-0*")} == before


def test_a_journal_that_is_gone_is_missed(make_core: Any, rows: Any, tmp_path: Path) -> None:
    """Its calls were answered: without a word their tickets would be given out twice."""
    service = _two_checkpoints(make_core, rows, tmp_path)
    newest = max(tmp_path.glob("journal-0*"))
    newest.unlink()
    with pytest.raises(StateError, match=f"{newest.name} is missing: restore it"):
        GroupwiseService(make_core(), tmp_path)
    newest.touch()  # as the message says, to give them up
    assert GroupwiseService(make_core(), tmp_path).calls < service.calls


def test_a_damaged_journal_is_refused_and_left_alone(make_core: Any, rows: Any, tmp_path: Path) -> None:
    service = GroupwiseService(make_core(), tmp_path, checkpoint_every=1000)
    for kind, raw in script(rows, 10):
        getattr(service, kind)(raw)
    path = tmp_path / "journal-000000000000.log"
    damaged = bytearray(path.read_bytes())
    damaged[40] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(StateError, match="damaged at byte"):
        GroupwiseService(make_core(), tmp_path)
    assert path.read_bytes() == damaged


def test_a_call_that_cannot_be_recorded_is_not_applied(make_core: Any, rows: Any, tmp_path: Path) -> None:
    service = GroupwiseService(make_core(), tmp_path)
    assert service.records is not None

    def full(kind: int, body: bytes, owner: int) -> None:
        raise StateError("cannot write the journal: no space left")

    service.records.journal.append = full  # type: ignore[method-assign]
    with pytest.raises(StateError, match="no space left"):
        service.predict(script(rows, 1)[0][1])
    assert service.core.tickets.next == 0


@pytest.mark.parametrize(
    "raw",
    [
        b"\xff\xff",
        predict_request(np.ones((1, 2)), np.ones((1, 5), bool)),
        predict_request(np.ones((1, 3)), np.ones((1, 9), bool)),
        predict_request(np.ones((1, 3)), np.ones((1, 7), bool)),
        b"",
    ],
    ids=["garbage", "columns", "groups", "padding", "empty"],
)
def test_malformed_requests_are_refused_and_leave_no_trace(make_core: Any, raw: bytes, tmp_path: Path) -> None:
    service = GroupwiseService(make_core(), tmp_path)
    before = (tmp_path / "journal-000000000000.log").read_bytes()
    with pytest.raises(RemoteProtocolError):
        service.predict(raw)
    with pytest.raises(RemoteProtocolError):
        service.stream(raw)
    assert service.core.tickets.next == 0
    assert (tmp_path / "journal-000000000000.log").read_bytes() == before


def test_any_bytes_are_answered_or_refused(make_core: Any) -> None:
    service, dice = GroupwiseService(make_core()), random.Random(0)
    whole = [
        predict_request(np.ones((3, 3)), np.ones((3, 5), bool)),
        feedback_request([0, 1], [0.5, 0.5]),
    ]
    for _ in range(3000):
        raw = bytearray(dice.choice(whole))
        for _ in range(dice.randrange(4)):
            raw[dice.randrange(len(raw))] = dice.randrange(256)
        raw = raw[: dice.randrange(len(raw) + 1)]
        for call in (service.predict, service.feedback, service.stream):
            try:
                call(bytes(raw))
            except RemoteProtocolError:
                continue
