"""What is read is a file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from saddlebag.errors import DataError, StateError
from saddlebag.launch.data.decoding import opened
from saddlebag.launch.recipe.sections import _sha256
from saddlebag.launch.results.history import read_history
from saddlebag.proto.checkpoint import CheckpointStore
from saddlebag.proto.ordinary import ordinary

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """Whoever opened it would wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def test_a_file_is_one(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    assert ordinary(tmp_path / "x") == tmp_path / "x"
    with pytest.raises(FileNotFoundError):
        ordinary(tmp_path / "y")


def test_a_pipe_in_place_of_a_checkpoint_is_damage_and_the_one_before_is_taken(pipe: Path) -> None:
    store, notes = CheckpointStore(pipe.parent, "server"), list[str]()
    store.save(5, {}, {"round": 5})
    pipe.rename(store.path(10))
    saved = store.newest(notes.append)
    assert saved is not None
    assert saved[1]["round"] == 5
    assert "is damaged ([Errno 22] a pipe or a device, not a file" in notes[0]
    with pytest.raises(StateError, match="a pipe or a device"):
        store.facts(10)


def test_a_pipe_is_no_data_and_no_history(pipe: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: a pipe or a device, not a file"), opened(pipe):
        pass
    with pytest.raises(DataError, match="a pipe or a device"):
        _sha256(str(pipe))
    with pytest.raises(OSError, match="a pipe or a device"):
        read_history(pipe)
