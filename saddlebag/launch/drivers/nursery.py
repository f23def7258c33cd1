"""A process that imports everything once and is forked for every server and worker of a run: they start in milliseconds.

It has one thread and no connection when it is forked, which is what makes a fork sound; where that does not hold, or the system
is not Linux, every process is started by itself, as slow and as right. Requests and what came of them go over a socket:

    {"argv": [...], "env": {...}} with two descriptors (the pipe to watch, the log)  ->  {"pid": 7}
    {"kill": 7}
    later                                                                            ->  {"pid": 7, "status": 0}
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from saddlebag.launch.recipe.plugins import load_plugins

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Forked", "Nursery", "tend"]

_MODULES = (
    "saddlebag.launch.drivers.server",
    "saddlebag.launch.drivers.worker",
    "saddlebag.launch.recipe.recipe",
    "saddlebag.proto.endpoint",
    "asyncio",
    "grpc.aio",
)
_LARGEST = 1 << 20  # of a message
_TASKS = Path("/proc/self/task")


class Nursery:
    """The side of the supervisor: `start` gives a process, or None where none can be forked.

    Args:
        also: modules to import beside those of every run, for example "torch".
    """

    def __init__(self, also: Sequence[str] = ()) -> None:
        self._line: socket.socket | None = None
        self._status: dict[int, int] = {}
        self._alive: set[int] = set()
        if sys.platform != "linux":
            return
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-m", "saddlebag", "nursery", "--fd", str(theirs.fileno()), *also]
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )

    def start(self, argv: Sequence[str], *, env: dict[str, str], watched: int, log: int) -> Forked | None:
        """A process of the command line.

        Args:
            argv: without the name of the program.
            env: what to add to its environment.
            watched: read end of the pipe that says whether the supervisor is alive; it is told by `--parent-fd`.
            log: where it writes.
        """
        if self._line is None:
            return None
        answer: dict[str, Any] = {}
        with contextlib.suppress(OSError):
            socket.send_fds(self._line, [json.dumps({"argv": [*argv], "env": env}).encode()], [watched, log])
            answer = self._heard(block=True)
            while "status" in answer:  # of an earlier one
                answer = self._heard(block=True)
        if "pid" not in answer:
            self._lost()
            return None
        self._alive.add(answer["pid"])
        return Forked(self, answer["pid"])

    def status(self, pid: int, *, block: bool = False) -> int | None:
        """How a process ended, as `subprocess` says it; None while it runs."""
        while pid not in self._status and self._line is not None and self._heard(block=block):
            pass
        return self._status.get(pid)

    def kill(self, pid: int) -> None:
        """End a process, unless it has ended."""
        if self._line is not None and pid not in self._status:
            with contextlib.suppress(OSError):
                self._line.send(json.dumps({"kill": pid}).encode())

    def close(self) -> None:
        """End the nursery; what it has started ends by itself, when its pipe closes."""
        if self._line is not None:
            self._line.close()
            self._line = None
            self._process.wait()

    def _heard(self, *, block: bool) -> dict[str, Any]:
        """The next message; nothing if there is none, or will be none."""
        if self._line is None:
            return {}
        try:
            text = self._line.recv(_LARGEST, 0 if block else socket.MSG_DONTWAIT)
        except BlockingIOError:
            return {}
        except OSError:
            text = b""
        if not text:
            self._lost()
            return {}
        message: dict[str, Any] = json.loads(text)
        if "status" in message:
            self._status[message["pid"]] = message["status"]
            self._alive.discard(message["pid"])
        return message

    def _lost(self) -> None:
        """The nursery is gone, and nobody will say how its children end: they are ended, to be started in another way."""
        self.close()
        for pid in self._alive:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
            self._status[pid] = -signal.SIGKILL
        self._alive.clear()


class Forked:
    """A process that a nursery started, used as `subprocess.Popen`."""

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self._nursery, self.pid = nursery, pid

    def poll(self) -> int | None:
        return self._nursery.status(self.pid)

    def kill(self) -> None:
        self._nursery.kill(self.pid)

    def wait(self) -> int | None:
        return self._nursery.status(self.pid, block=True)


def tend(fd: int, also: Sequence[str], run: Callable[[list[str]], None]) -> None:
    """Be the nursery until the supervisor hangs up.

    Args:
        fd: of the socket.
        also: further modules to import.
        run: carries a command line and raises `SystemExit`.
    """
    for module in (*_MODULES, *also):
        with contextlib.suppress(ImportError):  # whoever needs it will say so
            importlib.import_module(module)
    load_plugins()  # what is broken of them every process would say again
    if len([*_TASKS.iterdir()]) != 1:
        return  # a library has started threads, whose locks a fork would not carry over
    gc.collect()
    gc.freeze()  # pages of what is shared stay shared
    wakes, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    alive: set[int] = set()
    with socket.socket(fileno=fd) as line, contextlib.suppress(ConnectionError):
        while True:
            ready, _, _ = select.select([fd, wakes], [], [])
            if wakes in ready:
                os.read(wakes, 4096)
                _bury(line, alive)
            if fd in ready and not _answer(line, alive, (fd, wakes, wake), run):
                return


def _answer(line: socket.socket, alive: set[int], own: Sequence[int], run: Callable[[list[str]], None]) -> bool:
    """Do what the next message asks for; whether there was one. `own` are descriptors that no child may keep."""
    text, given, _, _ = socket.recv_fds(line, _LARGEST, 2)
    if not text:
        return False
    request = json.loads(text)
    if "kill" in request:
        if request["kill"] in alive:  # not yet waited for, so that the number is still its own
            os.kill(request["kill"], signal.SIGKILL)
        return True
    pid = os.fork()
    if pid == 0:
        _child(request, given, own, run)
    alive.add(pid)
    for descriptor in given:
        os.close(descriptor)
    line.send(json.dumps({"pid": pid}).encode())
    return True


def _bury(line: socket.socket, alive: set[int]) -> None:
    """Tell of every child that has ended."""
    while alive:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        alive.discard(pid)
        line.send(json.dumps({"pid": pid, "status": os.waitstatus_to_exitcode(status)}).encode())


def _child(request: dict[str, Any], given: list[int], own: Sequence[int], run: Callable[[list[str]], None]) -> NoReturn:
    """What a fork does: take the log and the environment, run the command line, and end without returning."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()  # Ctrl-C is the supervisor's business
        watched, log = given
        os.dup2(log, 1)
        os.dup2(log, 2)
        for descriptor in (*own, log):
            os.close(descriptor)
        os.environ.update(request["env"])
        run([*request["argv"], "--parent-fd", str(watched)])
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # a full disk; the status says enough
                stream.flush()
        os._exit(status)
