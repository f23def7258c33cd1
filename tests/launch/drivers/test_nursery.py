"""Processes that are forked: their ends are told, as those of processes that are started."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from saddlebag.launch.drivers.nursery import Nursery
from saddlebag.launch.drivers.supervisor import Child, run_grpc
from saddlebag.launch.recipe.recipe import load_recipe

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every process is started by itself"),
    pytest.mark.e2e,
]


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with contextlib.closing(Nursery()) as made:
        yield made


def child(tmp_path: Path, nursery: Nursery | None, *arguments: str) -> Child:
    return Child("it", lambda again: [*arguments], tmp_path, nursery=nursery)


WAITS = ("worker", "bilinear", "--rank", "0", "--server", "localhost:9")  # for a server, for a minute


@pytest.mark.parametrize("forked", [True, False])
def test_an_error_is_told_with_its_status(tmp_path: Path, nursery: Nursery, forked: bool) -> None:
    made = child(tmp_path, nursery if forked else None, "worker", "gone.toml", "--rank", "0", "--server", "localhost:9")
    made.start()
    assert made._child is not None
    made._child.wait()
    assert made.status() == 2
    assert made.last_words() == "cannot read the recipe gone.toml: No such file or directory"
    made.stop()


def test_a_killed_one_is_told_and_starts_again(tmp_path: Path, nursery: Nursery) -> None:
    made = child(tmp_path, nursery, *WAITS)
    made.start()
    first = made.pid
    assert made.status() is None
    os.kill(first, signal.SIGKILL)
    assert made._child is not None
    made._child.wait()
    assert made.status() == -signal.SIGKILL
    made.start()
    assert made.pid != first
    assert made.status() is None
    made.stop()
    assert made.status() == -signal.SIGKILL


def test_it_ends_when_the_supervisors_pipe_closes(tmp_path: Path, nursery: Nursery) -> None:
    made = child(tmp_path, nursery, *WAITS)
    made.start()
    made.close_pipe()
    assert made._child is not None
    made._child.wait()
    assert made.status() == 1


def test_without_its_nursery_a_child_ends_and_the_next_start_is_an_ordinary_one(tmp_path: Path) -> None:
    lone = Nursery()
    made = child(tmp_path, lone, *WAITS)
    made.start()
    lone._process.kill()
    assert made._child is not None
    made._child.wait()
    assert made.status() == -signal.SIGKILL
    made.start()
    assert made.status() is None
    made.stop()
    lone.close()


def test_the_bits_are_those_of_processes_that_are_started(tmp_path: Path, nursery: Nursery) -> None:
    """And of a run whose nursery is killed, so that its processes end and are started by themselves."""
    recipe = load_recipe("bilinear", ["workers=2", "driver=grpc", "stop={max_rounds=20}"]).jobs()[0]
    results, lone = [], Nursery()

    def kill(pids: dict[str, int]) -> None:
        lone._process.kill()

    for name, way, started in (("forked", nursery, None), ("started", None, None), ("orphaned", lone, kill)):
        (tmp_path / name).mkdir()
        given = {"started": started} if started else {}
        results.append(run_grpc(recipe, tmp_path / name, nursery=way, **given))
    for result in results[1:]:
        for key in ("digest", "merits", "up_bytes", "down_bytes", "rounds"):
            assert result[key] == results[0][key]
