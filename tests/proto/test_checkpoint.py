from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from saddlebag.errors import StateError
from saddlebag.proto import pieces as pieces_module
from saddlebag.proto.checkpoint import (
    STATES,
    CheckpointStore,
    arrays_to_bytes,
    bytes_to_arrays,
    require_version,
    write_atomically,
)

ARRAYS = {
    "z_D": np.array([1 / 3, -0.0, 5e-324, np.inf]),
    "value_D": np.array([1.5, -2.0], np.float32),
    "count": np.array(7, np.int64),
    "empty": np.empty((0, 3)),
    "matrix": np.arange(6.0).reshape(2, 3).T,
    "flags": np.array([True, False]),
    "words": np.array([2**64 - 1], np.uint64),
}
META: dict[str, Any] = {"epoch": 3, "recipe": '{"name": "größer"}', "nested": {"list": [1, 2.5, None]}}


def assert_same(found: dict[str, np.ndarray]) -> None:
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()


def test_arrays_survive_the_trip_bit_for_bit() -> None:
    data = arrays_to_bytes(ARRAYS, META)
    assert_same(bytes_to_arrays(data, "it"))
    assert arrays_to_bytes(ARRAYS, META) == data  # a function, so that checkpoints can be compared


def test_damaged_bytes_are_named() -> None:
    data = arrays_to_bytes(ARRAYS, META)
    rng = np.random.default_rng(0)
    damaged = [data[:end] for end in range(0, len(data), 7)] + [data + b"\0", b"\xff" * 100]
    for _ in range(3000):
        mutated = bytearray(data)
        mutated[rng.integers(0, 400)] = rng.integers(0, 256)  # the header's JSON
        damaged.append(bytes(mutated))
    refused: list[str] = []
    for bad in damaged:
        try:
            bytes_to_arrays(bad, "the server's snapshot")
        except StateError as error:  # and nothing else
            refused.append(str(error))
    assert len(refused) > 1000
    assert all(reason.startswith("the server's snapshot is damaged: ") for reason in refused)


def test_a_checkpoint_is_what_was_saved(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "new" / "folder", "server")
    assert store.rounds() == []
    store.save(5, ARRAYS, META)
    arrays, meta = store.load(5)
    assert_same(arrays)
    assert meta == META
    assert store.path(5).name == "server-000000000005.safetensors"


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, "worker")
    for round_ in (1, 2, 10, 30, 200):
        store.save(round_, ARRAYS, META)
        assert store.rounds()[-1] == round_
        assert len(store.rounds()) <= 2
    assert store.rounds() == [30, 200]
    assert len(list(tmp_path.iterdir())) == 2


def test_saving_keeps_checkpoints_of_a_later_round(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, "worker")
    for round_ in (30, 40, 35):
        store.save(round_, ARRAYS, META)
    assert store.rounds() == [30, 35, 40]  # forgetting a future is forget_after's decision


def test_a_future_can_be_forgotten(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, "worker")
    for round_ in (3, 4):
        store.save(round_, ARRAYS, META)
    store.forget_after(4)
    assert store.rounds() == [3, 4]
    store.forget_after(3)
    assert store.rounds() == [3]
    store.forget_after(0)
    assert store.rounds() == []


def test_names_do_not_meet(tmp_path: Path) -> None:
    one, two, dotted = (CheckpointStore(tmp_path, name) for name in ("worker-1", "worker-1-1", "worker.1"))
    one.save(1, ARRAYS, META)
    two.save(2, ARRAYS, META)
    (tmp_path / "worker-1-1.safetensors").write_bytes(b"")
    (tmp_path / "worker-1-000000000009.safetensors.bak").write_bytes(b"")
    assert (one.rounds(), two.rounds(), dotted.rounds()) == ([1], [2], [])
    one.forget_after(0)
    assert two.rounds() == [2]


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, "server")
    with pytest.raises(StateError, match=r"there is no checkpoint .*server-000000000001\.safetensors"):
        store.load(1)


GOOD = arrays_to_bytes(ARRAYS, META)
DAMAGED = {
    "empty": b"",
    "short": GOOD[:5],
    "without its data": GOOD[: len(GOOD) // 2],
    "without its last byte": GOOD[:-1],
    "garbage": bytes(range(256)) * 20,
    "zeros": bytes(1000),
    "huge header": b"\xff" * 8 + GOOD[8:],
    "JSON is cut": GOOD.replace(b"{", b"[", 1),
    "without our facts": GOOD.replace(b'"saddlebag"', b'"somebody3"'),
    "facts are no JSON": GOOD.replace(b'{\\"epoch', b'?\\"epoch'),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_file_is_named_and_left_in_place(kind: str, tmp_path: Path) -> None:
    assert DAMAGED[kind] != GOOD
    store = CheckpointStore(tmp_path, "server")
    store.save(1, ARRAYS, META)
    store.path(2).write_bytes(DAMAGED[kind])
    with pytest.raises(StateError, match=r"checkpoint .*server-000000000002\.safetensors is damaged "):
        store.load(2)
    assert store.path(2).read_bytes() == DAMAGED[kind]
    assert_same(store.load(1)[0])


def test_a_folder_in_the_place_of_a_checkpoint_is_damage(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, "server")
    store.path(2).mkdir()
    with pytest.raises(StateError, match="is damaged"):
        store.load(2)


@pytest.mark.parametrize("point", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_a_crash_leaves_the_old_file(point: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*args: object) -> None:
        raise error

    path = tmp_path / "state"
    write_atomically(path, b"old")
    monkeypatch.setattr(*((os, "fsync") if point == "fsync" else (Path, "replace")), crash)
    with pytest.raises(StateError if isinstance(error, OSError) else type(error), match=r"cannot write .*state|^$"):
        write_atomically(path, b"new and longer")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_state_that_is_no_file_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Safetensors refuses headers above 100 MB, and arrays of some types."""
    with pytest.raises(StateError, match=r"cannot write checkpoint .*'name' is of type <U1"):
        CheckpointStore(tmp_path, "server").save(3, {"name": np.array("x")}, META)
    monkeypatch.setattr(pieces_module, "_MOST_HEADER", 500)
    with pytest.raises(StateError, match=r"cannot write checkpoint .*its names take \d+ bytes, the format allows 500"):
        CheckpointStore(tmp_path, "server").save(3, ARRAYS, META)


def test_the_bytes_are_on_the_disk_before_the_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, order = tmp_path / "state", []
    fsync, replace = os.fsync, Path.replace

    def spy_fsync(descriptor: int) -> None:
        order.append("folder" if os.fstat(descriptor).st_nlink > 1 else "file")
        fsync(descriptor)

    def spy_replace(self: Path, target: Path) -> Path:
        order.append("replace")
        assert self.parent == target.parent  # on one file system, or it would not be atomic
        assert self.read_bytes() == b"new"
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(Path, "replace", spy_replace)
    write_atomically(path, b"new")
    assert order == ["file", "replace", "folder"]


def test_a_half_written_file_of_a_killed_process_is_no_checkpoint(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, "server")
    store.save(1, ARRAYS, META)
    (tmp_path / ".server-000000000002.safetensors.77.tmp").write_bytes(b"half")
    assert store.rounds() == [1]


@pytest.mark.parametrize("facts", [{}, {"version": 1}, {"version": STATES + 1}, {"version": None}, {"version": float(STATES)}])
def test_states_of_another_version_are_refused_with_the_reason(facts: dict[str, Any]) -> None:
    """Checkpoints of the first version say none."""
    require_version({"version": STATES})
    with pytest.raises(
        StateError, match=r"is of version .*, this release reads version 2: its states nest; finish the run"
    ) as error:
        require_version(facts)
    assert "\n" not in str(error.value)


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Some bits flipped, bytes set, cut, doubled, moved or zeroed: what disks and people do to files."""
    out = bytearray(data)
    at = int(rng.integers(len(out)))
    match rng.integers(6):
        case 0 | 1:
            out[at] ^= 1 << int(rng.integers(8))
        case 2:
            out[at : at + 8] = rng.bytes(len(out[at : at + 8]))
        case 3:
            del out[at : at + int(rng.integers(1, 9))]
        case 4:
            out[at:at] = rng.bytes(int(rng.integers(1, 9)))
        case _:
            out[at : at + 64] = bytes(len(out[at : at + 64]))
    return bytes(out)


def test_no_damage_is_loaded(tmp_path: Path) -> None:
    """Wherever it is: in the header, in an array, in the facts, in the digest itself."""
    store, rng, refused = CheckpointStore(tmp_path, "server"), np.random.default_rng(1), 0
    store.save(3, ARRAYS, META)
    good = store.path(3).read_bytes()
    for _ in range(1500):
        bad = damaged(good, rng)
        store.path(3).write_bytes(bad)
        if bad == good:
            continue
        with pytest.raises(StateError, match=r"checkpoint .*server-000000000003\.safetensors is damaged \("):
            store.load(3)
        refused += 1
    assert refused > 1400
    store.path(3).write_bytes(good)
    assert_same(store.load(3)[0])


@given(st.data())
def test_no_flipped_bit_of_a_snapshot_is_loaded(data: st.DataObject) -> None:
    hurt = bytearray(GOOD)
    for at in data.draw(st.sets(st.integers(0, 8 * len(GOOD) - 1), min_size=1, max_size=4)):
        hurt[at // 8] ^= 1 << at % 8
    with pytest.raises(StateError, match=r"^it is damaged: "):
        bytes_to_arrays(bytes(hurt), "it")


def test_files_that_were_swapped_are_noticed(tmp_path: Path) -> None:
    one, two = CheckpointStore(tmp_path, "worker-1"), CheckpointStore(tmp_path, "worker-2")
    for store in (one, two):
        store.save(3, ARRAYS, {**META, "round": 3})
        store.save(4, ARRAYS, {**META, "round": 4})
    one.path(3).rename(tmp_path / "kept")
    two.path(3).rename(one.path(3))
    with pytest.raises(StateError, match="it says that it is worker-2-000000000003"):
        one.load(3)
    two.path(4).rename(two.path(3))
    with pytest.raises(StateError, match="it says that it is of round 4"):
        two.load(3)


def test_the_newest_that_is_sound_is_taken_and_the_others_are_named(tmp_path: Path) -> None:
    store, notes = CheckpointStore(tmp_path, "server", keep=3), list[str]()
    assert store.newest(notes.append) is None
    for round_ in (1, 2, 3):
        store.save(round_, {"x_D": np.full(4, float(round_))}, {"round": round_})
    for round_, after in ((3, 2.0), (2, 1.0)):
        hurt = bytearray(store.path(round_).read_bytes())
        hurt[-3] ^= 4
        store.path(round_).write_bytes(hurt)
        notes.clear()
        found = store.newest(notes.append)
        assert found is not None
        assert found[0]["x_D"][0] == found[1]["round"] == after
        assert [f"-{each:012d}." in note for each, note in zip((3, 2), notes, strict=False)] == [True] * (4 - round_)
        assert store.sound_rounds(notes.append) == list(range(1, round_))
    store.path(1).write_bytes(b"")
    with pytest.raises(StateError, match=r"no checkpoint of server in .* is sound"):
        store.newest(notes.append)


def test_a_file_without_a_digest_is_refused(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, "server")
    facts = {"saddlebag": json.dumps({**META, "round": 1, "file": "server-000000000001"})}
    store.path(1).write_bytes(safetensors.numpy.save({"x_D": np.ones(3)}, facts))
    with pytest.raises(StateError, match="it has no digest; releases before protocol version 2 wrote none"):
        store.load(1)


@pytest.mark.parametrize("how", ["removed", "moved"])
def test_a_folder_that_vanishes_ends_the_writer_and_is_not_made_anew(how: str, tmp_path: Path) -> None:
    """Made anew it would hold the end of a run without its beginning, and no lock."""
    folder = tmp_path / "run"
    store = CheckpointStore(folder / "checkpoints", "server")
    store.save(5, ARRAYS, META)
    folder.rename(tmp_path / "elsewhere") if how == "moved" else shutil.rmtree(folder)
    with pytest.raises(StateError, match=r"cannot write checkpoint .*server-000000000010.safetensors: No such file"):
        store.save(10, ARRAYS, META)
    assert not folder.exists()


def test_old_checkpoints_may_be_removed_under_a_living_run(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "run" / "checkpoints", "server")
    store.save(5, ARRAYS, META)
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    store.save(10, ARRAYS, META)
    assert store.rounds() == [10]


def test_facts_that_are_nested_too_deep_are_damage(tmp_path: Path) -> None:
    """JSON's reader ends them with an error of its own kind."""
    store = CheckpointStore(tmp_path, "server")
    for facts in ("[" * 100_000, '{"a":' * 100_000):
        store.path(5).write_bytes(safetensors.numpy.save(ARRAYS, {"saddlebag": facts}))
        for read in (store.facts, store.load):
            with pytest.raises(StateError, match="damaged"):
                read(5)
