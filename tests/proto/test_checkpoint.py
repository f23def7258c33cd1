from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from safetensors import SafetensorError

from saddlebag.errors import StateError
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
    with pytest.raises(StateError, match=r"checkpoint .*server-000000000002\.safetensors is damaged .*; remove it"):
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
    """Safetensors refuses headers above 100 MB."""

    def refuse(*arguments: object) -> bytes:
        raise SafetensorError("Error while serializing: HeaderTooLarge")

    monkeypatch.setattr(safetensors.numpy, "save", refuse)
    with pytest.raises(StateError, match=r"cannot write checkpoint .*HeaderTooLarge"):
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
