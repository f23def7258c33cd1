"""A folder has one owner, and whoever is refused has touched nothing."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from saddlebag.errors import ConfigError
from saddlebag.launch import ownership
from saddlebag.launch.compare.running import compare
from saddlebag.launch.compare.spec import CompareSection
from saddlebag.launch.drivers.collective import _begin
from saddlebag.launch.drivers.place import Place
from saddlebag.launch.drivers.ranks import start_ranks
from saddlebag.launch.drivers.server import run_server
from saddlebag.launch.drivers.supervisor import run_grpc
from saddlebag.launch.drivers.worker import run_worker
from saddlebag.launch.groupwise.serving import ServeOptions, serve
from saddlebag.launch.ownership import contents, forget_run, lend, owned, require_no_run
from saddlebag.launch.recipe.recipe import Recipe, recipe_from_dict
from saddlebag.proto.endpoint import ServerSecurity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HOLD = """
import sys, pathlib
from saddlebag.launch.ownership import owned
with owned(pathlib.Path(sys.argv[1]), "saddlebag server"):
    print("mine", flush=True)
    sys.stdin.read()
"""


def hold(folder: Path, **environment: str) -> subprocess.Popen[str]:
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], env={**os.environ, **environment}, **pipes)


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that owns `tmp_path`/out."""
    process = hold(tmp_path / "out")
    assert process.stdout is not None
    assert process.stdout.readline() == "mine\n"
    yield process
    process.kill()
    process.communicate()


def recipe() -> Recipe:
    problem = {"name": "bilinear", "n": 4, "regularisation": 0.5}
    table = {"workers": 2, "problem": problem, "method": {"name": "masha1", "step_size": 0.1}, "stop": {"max_rounds": 30}}
    return recipe_from_dict({**table, "server": {"address": "127.0.0.1:0"}, "checkpoint": {"every": 10}})


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


WRITERS: dict[str, Callable[[Path], Any]] = {
    "server": lambda out: run_server(recipe(), out, resume=True),
    "run": lambda out: run_grpc(recipe(), out, resume=True),
    "collective": lambda out: start_ranks(recipe(), out, timeout_s=10, force=True),
    "compare": lambda out: compare(recipe(), CompareSection(), out),
}


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_a_second_owner_is_told_of_the_first_and_harms_nothing(
    writer: Callable[[Path], Any], tmp_path: Path, other: subprocess.Popen[str]
) -> None:
    out = tmp_path / "out"
    (out / "metrics.jsonl").write_text('{"round": 1}\n')
    before = files(out)
    who = rf"{out} is in use by saddlebag server, process {other.pid} on {socket.gethostname()}, since 20\d\d-.*; end it first"
    with pytest.raises(ConfigError, match=who):
        writer(out)
    assert files(out) == before


def test_a_killed_owner_keeps_nobody_out(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    with owned(tmp_path / "out", "saddlebag run"):
        assert contents(tmp_path / "out") == []


def test_a_child_that_was_lent_the_folder_works_there_and_no_other(tmp_path: Path) -> None:
    with owned(tmp_path, "saddlebag run"):
        child, stranger = hold(tmp_path, **lend(tmp_path)), hold(tmp_path)
        assert child.communicate("")[0] == "mine\n"
        said = stranger.communicate("")
    assert said[0] == ""
    assert f"is in use by saddlebag run, process {os.getpid()}" in said[1]


def test_a_process_does_not_own_a_folder_twice(tmp_path: Path) -> None:
    with owned(tmp_path, "saddlebag run"), pytest.raises(ConfigError, match="in use by saddlebag run"), owned(tmp_path, "x"):
        pass


def test_folders_made_for_nothing_go_again(tmp_path: Path) -> None:
    with owned(tmp_path / "a" / "b", "saddlebag run"):
        assert (tmp_path / "a" / "b").is_dir()
    assert list(tmp_path.iterdir()) == []
    with owned(tmp_path / "a" / "b", "saddlebag run"):
        (tmp_path / "a" / "b" / "result.json").write_text("{}")
    assert contents(tmp_path / "a" / "b") == list((tmp_path / "a" / "b").iterdir())


def test_workers_share_a_folder_and_a_rank_has_one_process(tmp_path: Path) -> None:
    with owned(tmp_path, "saddlebag server"), owned(tmp_path, "worker 0", name="worker-0"):
        with owned(tmp_path, "worker 1", name="worker-1"):
            pass
        with pytest.raises(ConfigError, match="in use by worker 0"):
            run_worker(recipe(), 0, "127.0.0.1:1", out=tmp_path)


@pytest.mark.parametrize("folder", ["file", "file/below"])
def test_a_file_is_no_folder(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="give another folder with --out"), owned(tmp_path / folder, "saddlebag run"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(("pid", "host", "free"), [(2**22 + 1, "", True), (1, "", False), (2**22 + 1, "another", False)])
def test_without_locks_the_file_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pid: int, host: str, free: bool
) -> None:
    """A dead process of this machine has gone; of another machine nothing is known."""
    monkeypatch.setattr(ownership, "fcntl", None)
    owner = {"pid": pid, "host": host or socket.gethostname(), "since": "1 May", "what": "saddlebag run", "word": ""}
    (tmp_path / ".saddlebag-folder.lock").write_text(json.dumps(owner))
    if free:
        with owned(tmp_path, "saddlebag server"):
            return
    with pytest.raises(ConfigError, match=f"in use by saddlebag run, process {pid}"), owned(tmp_path, "saddlebag server"):
        pass


RUNS = [
    "metrics.jsonl",
    "result.json",
    "checkpoints/server-000000000010.safetensors",
    "checkpoints/rank-0-000000000010.safetensors",
]


@pytest.mark.parametrize("name", RUNS)
def test_a_run_is_not_overwritten_unasked(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("something")
    before = files(tmp_path)
    for writer in (
        lambda: run_server(recipe(), tmp_path),
        lambda: start_ranks(recipe(), tmp_path, timeout_s=10),
        lambda: _begin(_place("job"), tmp_path, resume=False, force=False),
    ):
        with pytest.raises(ConfigError, match="holds a run; --resume continues it, --force replaces it"):
            writer()
    assert files(tmp_path) == before
    require_no_run(tmp_path, resume=True, force=False)
    require_no_run(tmp_path, resume=False, force=True)
    with pytest.raises(ConfigError, match="exclude each other"):
        require_no_run(tmp_path, resume=True, force=True)
    forget_run(tmp_path)
    require_no_run(tmp_path, resume=False, force=False)


def _place(job: str) -> Place:
    numbers = {"rank": 0, "ranks": 2, "local_rank": 0, "local_ranks": 2, "node": 0, "nodes": 1}
    return Place(**numbers, host="localhost", port=1, agent_serves=True, job=job)


def test_what_torchrun_starts_again_goes_on_and_another_job_does_not(tmp_path: Path) -> None:
    _begin(_place("first"), tmp_path, resume=False, force=False)
    (tmp_path / "metrics.jsonl").write_text('{"round": 1}\n')
    _begin(_place("first"), tmp_path, resume=False, force=False)
    for _ in range(2):  # a refusal stays one when torchrun tries again
        with pytest.raises(ConfigError, match="holds a run"):
            _begin(_place("second"), tmp_path, resume=False, force=False)
    _begin(_place("second"), tmp_path, resume=True, force=False)


REFUSED = [
    ("127.0.0.1:99999", "the port must lie in"),
    ("nowhere", "the port is missing"),
    ("0.0.0.0:0", "can be reached from other machines"),
    ("{taken}", "cannot listen on"),
]


@pytest.mark.parametrize(("address", "said"), REFUSED)
def test_a_refused_address_leaves_nothing(tmp_path: Path, address: str, said: str) -> None:
    study = tmp_path / "study.toml"
    study.write_text(GROUPWISE)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = address.format(taken=f"127.0.0.1:{taken.getsockname()[1]}")
        options = ServeOptions(address=address, directory=tmp_path / "out", security=ServerSecurity())
        with pytest.raises(ConfigError, match=said):
            run_server(recipe(), tmp_path / "out", address=address)
        with pytest.raises(ConfigError, match=said):
            serve(study, [], options, lambda text: None)
    assert [path.name for path in tmp_path.iterdir()] == ["study.toml"]


GROUPWISE = """
[data]
source = "synthetic"
rows = 50
"""


@pytest.mark.parametrize("name", [*RUNS, "recipe.toml"])
def test_a_service_or_a_comparison_begins_in_no_folder_of_a_run(tmp_path: Path, name: str) -> None:
    """A comparison would have replaced the run's recipe, a service mixed its checkpoints with the run's."""
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("something")
    before = files(tmp_path)
    options = ServeOptions(address="127.0.0.1:0", security=ServerSecurity(), directory=tmp_path)
    with pytest.raises(ConfigError, match="holds a run or a study; give another folder"):
        serve(tmp_path / "none.toml", [], options, lambda text: None)
    with pytest.raises(ConfigError, match="exists and holds no comparison"):
        compare(recipe(), CompareSection(), tmp_path)
    assert files(tmp_path) == before


def test_no_run_begins_among_the_state_of_a_service(tmp_path: Path) -> None:
    (tmp_path / "journal-000000000000.log").write_text("answered calls")
    before = files(tmp_path)
    for begin in (
        lambda: run_server(recipe(), tmp_path, force=True),
        lambda: start_ranks(recipe(), tmp_path, timeout_s=10, force=True),
        lambda: compare(recipe(), CompareSection(), tmp_path),
    ):
        with pytest.raises(ConfigError, match="give another folder with --out"):
            begin()
    assert files(tmp_path) == before
