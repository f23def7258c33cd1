"""A whole run on one machine: starts a server and its workers, follows them, and starts again what was killed."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import secrets
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from saddlebag.errors import PeerLost, SaddlebagError
from saddlebag.launch.ownership import lend, owned
from saddlebag.launch.results.history import Follower
from saddlebag.launch.results.progress import PROGRESS, WAITING, read_progress, read_waiting
from saddlebag.proto.checkpoint import write_atomically
from saddlebag.proto.token import TOKEN, rank_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from saddlebag.algorithms import Record
    from saddlebag.launch.drivers.nursery import Forked, Nursery
    from saddlebag.launch.recipe.recipe import Recipe
    from saddlebag.launch.results.progress import Progress

__all__ = ["ADDRESS_FILE", "PHASES", "REFUSED", "SHARD", "Child", "run_grpc", "unsaid"]

ADDRESS_FILE = "address.json"
"""Where a server says which port it has, in its folder."""
PHASES = "worker-{}.json"
"""Where a worker says at its end how its time divided, in its folder."""

SHARD = "shard-{}"
"""The folder of one of several servers, in that of the run."""

REFUSED = 2
"""Exit status of a process that has told an error: starting it again would not help."""

_POLL_S = 0.05
_START_S = 120.0  # loading data and libraries on a slow machine
_END_S = 15.0  # for workers to leave after the server's end
_RESTARTS = 100  # of one process, before something is taken to be wrong


class Child:
    """One child and how to start it again; by a nursery, where one is given and can."""

    def __init__(
        self,
        name: str,
        command: Callable[[bool], list[str]],
        folder: Path,
        environment: Mapping[str, str] | None = None,
        nursery: Nursery | None = None,
    ) -> None:
        self.name, self._command, self._folder, self._log = name, command, folder, folder / f"{name}.log"
        self._environment, self._nursery = environment or {}, nursery
        self._child: subprocess.Popen[bytes] | Forked | None = None
        self._life: int | None = None  # write end of the pipe that the child watches
        self.starts = 0

    def start(self) -> None:
        """Start it; a second start resumes."""
        self.close_pipe()
        watched, self._life = os.pipe()
        try:
            with self._log.open("ab" if self.starts else "wb") as log:
                self._child = self._started(self._command(self.starts > 0), watched, log.fileno())
        finally:
            os.close(watched)
        self.starts += 1

    def _started(self, arguments: list[str], watched: int, log: int) -> subprocess.Popen[bytes] | Forked:
        env = {**self._environment, **lend(self._folder)}
        if self._nursery is not None:
            forked = self._nursery.start(arguments, env=env, watched=watched, log=log)
            if forked is not None:
                return forked
        return subprocess.Popen(
            [sys.executable, "-m", "saddlebag", *arguments, "--parent-fd", str(watched)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(watched,),
            env={**os.environ, **env},
            start_new_session=True,  # Ctrl-C is the supervisor's business
        )

    @property
    def pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    def status(self) -> int | None:
        """Its exit status, or None while it runs."""
        assert self._child is not None
        return self._child.poll()

    def last_words(self) -> str:
        """The last error it told, else the last line it wrote."""
        with contextlib.suppress(OSError):
            lines = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
            errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
            if errors or (lines and self.status() != REFUSED):
                return (errors or lines)[-1]
        return unsaid(self.name, self._log)

    def stop(self) -> None:
        """End it."""
        if self._child is not None and self._child.poll() is None:
            self._child.kill()  # state on disk is whole at every moment
            self._child.wait()
        self.close_pipe()

    def close_pipe(self) -> None:
        if self._life is not None:
            os.close(self._life)
            self._life = None


def unsaid(who: str, log: Path) -> str:
    """What is told of a process whose log does not say why it ended."""
    if not log.exists():
        return f"{who} ended, and the folder that it wrote to is gone: {log.parent}"
    return f"{who} ended and could not say why in {log}; is the disk full?"


def run_grpc(
    recipe: Recipe,
    out: Path,
    *,
    resume: bool = False,
    observe: Callable[[Record], None] = lambda record: None,
    progress: Callable[[Progress], None] = lambda progress: None,
    note: Callable[[str], None] = lambda text: None,
    waiting: Callable[[str], None] = lambda words: None,
    started: Callable[[dict[str, int]], None] = lambda pids: None,
    nursery: Nursery | None = None,
) -> dict[str, Any]:
    """Run a recipe's method with a local server and one process for each worker.

    A process that dies is started again and resumes from its checkpoint, on the same trajectory; when this process dies,
    the others end too. `progress` hears now and then how far the server is, `waiting` for whom it waits (an empty line for
    nobody), `started` the process ids after every start. `nursery` starts the processes, where one is kept for several runs.

    Raises:
        SaddlebagError: a process gave up with a clear error, which is passed on.
    """
    folders = _folders(out, recipe)
    with owned(out, "saddlebag run"):
        for stale in (ADDRESS_FILE, PROGRESS, WAITING, *map(PHASES.format, range(recipe.workers))):
            for folder in {out, *folders}:
                (folder / stale).unlink(missing_ok=True)
        processes: list[Child] = []
        try:
            for process in _children(recipe, out, resume, nursery):
                processes.append(process)
                process.start()
            started({process.name: process.pid for process in processes})
            _follow(processes, out, folders, _Told(observe, progress, note, waiting, started))
        finally:
            for process in processes:
                process.stop()
        result: dict[str, Any] = json.loads((out / "result.json").read_text())
        if len(folders) > 1:  # the lead knows what was of use, each shard all that has crossed its wires
            result["ledgers"] = [json.loads((folder / "result.json").read_text())["ledger"] for folder in folders]
        return result | {"phases": list(_phases(out, recipe.workers))}


def _children(recipe: Recipe, out: Path, resume: bool, nursery: Nursery | None) -> Iterator[Child]:
    """The servers, then each worker; to be started one by one, for workers are told where the servers listen."""
    file = out / "job.toml"
    write_atomically(file, recipe.to_toml().encode())
    secret, canonical = secrets.token_hex(32), recipe.canonical()  # this run's own: no other process may join it
    own, folders = {TOKEN: secret}, _folders(out, recipe)
    servers = []
    for number, folder in enumerate(folders):
        serve = functools.partial(_server_command, file, folder, recipe, number, resume)
        servers.append(Child("server" if len(folders) == 1 else f"server-{number}", serve, out, own, nursery))
    yield from servers
    address = ",".join(_address(server, folder) for server, folder in zip(servers, folders, strict=True))
    for rank in range(recipe.workers):
        command = functools.partial(_worker_command, file, out, rank, address)
        yield Child(f"worker-{rank}", command, out, {TOKEN: rank_token(secret, canonical, rank)}, nursery)


@dataclasses.dataclass(frozen=True)
class _Told:
    """Who is told what, as `run_grpc` says."""

    observe: Callable[[Record], None]
    progress: Callable[[Progress], None]
    note: Callable[[str], None]
    waiting: Callable[[str], None]
    started: Callable[[dict[str, int]], None]


def _follow(processes: list[Child], out: Path, folders: list[Path], told: _Told) -> None:
    """Pass on what happens until the servers, the first of them, have ended well; start again who dies."""
    servers, workers = processes[: len(folders)], processes[len(folders) :]
    follower = Follower(out / "metrics.jsonl")
    while any(server.status() != 0 for server in servers):
        time.sleep(_POLL_S)
        for record in follower.new():
            told.observe(record)
        if (seen := read_progress(out / PROGRESS)) is not None:
            told.progress(seen)
        told.waiting("; ".join(filter(None, (read_waiting(folder / WAITING) for folder in folders))))
        for process in processes:
            if _revive(process, told.note):
                told.started({p.name: p.pid for p in processes})
    _await_workers(workers)  # of several servers the first worker writes the last record
    for record in follower.new():
        told.observe(record)


def _folders(out: Path, recipe: Recipe) -> list[Path]:
    """Of the servers: the run's for one, folders in it for several."""
    shards = recipe.server.shards
    return [out] if shards == 1 else [out / SHARD.format(number) for number in range(shards)]


def _phases(out: Path, workers: int) -> Iterator[dict[str, Any]]:
    """What the workers said of their time."""
    for rank in range(workers):
        with contextlib.suppress(OSError, ValueError):  # a worker that was killed at the very end has said nothing
            yield json.loads((out / PHASES.format(rank)).read_text())


def _revive(process: Child, note: Callable[[str], None]) -> bool:
    """Start a process again if it died; whether it did."""
    status = process.status()
    if status is None or status == 0:
        return False
    if status == REFUSED:
        raise SaddlebagError(process.last_words())
    if process.starts > _RESTARTS:
        raise PeerLost(f"{process.name} died {process.starts} times, last with: {process.last_words()}")
    cause = f"was killed by signal {-status}" if status < 0 else f"exited with {status}: {process.last_words()}"
    note(f"{process.name} {cause}; starting it again")
    process.start()
    return True


def _await_workers(workers: list[Child]) -> None:
    deadline = time.monotonic() + _END_S
    while any(worker.status() is None for worker in workers) and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def _server_command(file: Path, folder: Path, recipe: Recipe, number: int, resume: bool, again: bool) -> list[str]:
    address = recipe.server.address
    with contextlib.suppress(OSError, ValueError):  # a server that starts again keeps its port
        address = json.loads((folder / ADDRESS_FILE).read_text())["address"]
    shard = ["--shard", str(number)] if recipe.server.shards > 1 else []
    command = ["server", str(file), "--out", str(folder), "--address", address, *shard]
    return [*command, *(["--resume"] if resume or again else [])]


def _worker_command(file: Path, out: Path, rank: int, address: str, _again: bool) -> list[str]:
    return ["worker", str(file), "--rank", str(rank), "--server", address, "--out", str(out)]


def _address(server: Child, out: Path) -> str:
    """Where the server listens, once it does."""
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        status = server.status()
        if status is not None:
            raise SaddlebagError(server.last_words())
        with contextlib.suppress(OSError, ValueError):
            return str(json.loads((out / ADDRESS_FILE).read_text())["address"])
        time.sleep(_POLL_S / 5)
    raise PeerLost(f"the server did not start within {_START_S:g} s; see {out / 'server.log'}")
