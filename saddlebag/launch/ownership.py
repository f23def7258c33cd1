"""Who writes in a folder: one process at a time, and a second one is told who the first is before it touches anything.

The owner holds a lock (flock) on a small file in the folder. The kernel releases it however the process ends, so nothing that a
killed process leaves behind keeps anybody out; what is written in the file, who and since when, is for people. Children of an
owner may work in its folders: `lend` gives them its word, for their environment.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import secrets
import shutil
import socket
from typing import TYPE_CHECKING, Any

from saddlebag.errors import ConfigError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = [
    "FOLDER",
    "contents",
    "forget_run",
    "holds_run",
    "holds_service",
    "lend",
    "owned",
    "require_no_run",
    "require_no_service",
]

FOLDER = "folder"
"""Name of the lock on a folder as a whole; workers and ranks, which share one, have names of their own."""
_WORD = "SADDLEBAG_OWNER"
_PREFIX, _SUFFIX = ".saddlebag-", ".lock"


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Owner:
    """What a lock's file says."""

    pid: int
    host: str
    since: str
    what: str
    word: str

    def __str__(self) -> str:
        return f"{self.what}, process {self.pid} on {self.host}, since {self.since}"


def contents(folder: Path) -> list[Path]:
    """What a folder holds beside locks; nothing where there is none.

    Raises:
        ConfigError: it is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; give another folder with --out")
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if not (path.name.startswith(_PREFIX) and path.name.endswith(_SUFFIX))]


def lend(folder: Path) -> dict[str, str]:
    """What the environment of a child must hold that may work in a folder of this process."""
    with contextlib.suppress(OSError):
        descriptor = os.open(_lock(folder, FOLDER), os.O_RDONLY)
        try:
            owner = _read(descriptor)
        finally:
            os.close(descriptor)
        if owner is not None and owner.pid == os.getpid():
            return {_WORD: owner.word}
    return {}


def require_no_run(folder: Path, *, resume: bool, force: bool) -> None:
    """Refuse to begin a run where one is.

    Raises:
        ConfigError: the folder holds a run, or is a file, and neither `resume` nor `force` is set; or both are; or a prediction
            service keeps its state there.
    """
    if resume and force:
        raise ConfigError("--resume and --force exclude each other")
    require_no_service(folder)
    if holds_run(folder) and not (resume or force):
        raise ConfigError(f"{folder} holds a run; --resume continues it, --force replaces it, --out takes another folder")


def holds_run(folder: Path) -> bool:
    """Whether a folder holds a run, or what one that was ended left behind."""
    found = {path.name: path for path in contents(folder)}
    lines, checkpoints = found.get("metrics.jsonl"), found.get("checkpoints")
    begun = lines is not None and lines.stat().st_size > 0
    saved = checkpoints is not None and any((*checkpoints.glob("server-*"), *checkpoints.glob("rank-*")))
    return begun or saved or "result.json" in found


def holds_service(folder: Path) -> bool:
    """Whether a prediction service keeps its state in a folder."""
    return any(path.name.startswith(("groupwise-", "journal-")) for path in contents(folder))


def require_no_service(folder: Path) -> None:
    """Refuse to write among the state of a prediction service.

    Raises:
        ConfigError: it is there.
    """
    if holds_service(folder):
        raise ConfigError(f"{folder} holds the state of 'saddlebag groupwise serve'; give another folder with --out")


def forget_run(folder: Path) -> None:
    """Remove the run that a folder of this process holds: what `require_no_run` looks for."""
    for name in ("metrics.jsonl", "result.json"):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def _lock(folder: Path, name: str) -> Path:
    return folder / f"{_PREFIX}{name}{_SUFFIX}"


@contextlib.contextmanager
def owned(folder: Path, what: str, *, name: str = FOLDER) -> Iterator[None]:
    """Own a folder, or the files of one name in it; folders that are made for it and stay empty go again.

    Args:
        folder: need not exist.
        what: the command, for whoever is refused.
        name: of what is owned there.

    Raises:
        ConfigError: another process owns it, or it cannot be made.
    """
    path = _lock(folder, name)
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        descriptor = _locked(path, what)
    except OSError as error:
        _remove_empty(made)
        raise ConfigError(f"{folder} cannot be used: {error.strerror or error}; give another folder with --out") from error
    try:
        yield
    finally:
        if descriptor is not None:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            os.close(descriptor)
        _remove_empty(made)


def _remove_empty(folders: list[Path]) -> None:
    with contextlib.suppress(OSError):  # it holds something
        for folder in folders:
            folder.rmdir()


def _locked(path: Path, what: str) -> int | None:
    """The descriptor that holds the lock; None where an ancestor of this process does, and has lent the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if not _is_free(descriptor, path):
                owner = _read(descriptor)
                if owner is not None and owner.word == os.environ.get(_WORD) and owner.pid != os.getpid():
                    os.close(descriptor)
                    return None
                raise ConfigError(
                    f"{path.parent} is in use by {owner or 'another process'}; end it first, or give another folder with --out"
                )
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    _write(descriptor, what)
                    return descriptor
        except (OSError, ConfigError):
            os.close(descriptor)
            raise
        os.close(descriptor)  # its last owner has just removed it: the lock is on nothing


def _is_free(descriptor: int, path: Path) -> bool:
    """Take the lock if nobody has it; on a file system without locks, believe what the file says."""
    if fcntl is not None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            return False
        except OSError:  # some network file systems
            pass
    owner = _read(descriptor)
    return owner is None or (owner.host == socket.gethostname() and not _lives(owner.pid))


def _lives(pid: int) -> bool:
    if os.name == "nt":  # there, a signal of 0 is one that ends
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return pid != os.getpid()


def _read(descriptor: int) -> _Owner | None:
    with contextlib.suppress(OSError, ValueError, TypeError):
        values: dict[str, Any] = json.loads(os.pread(descriptor, 4096, 0))
        return _Owner(**values)
    return None


def _write(descriptor: int, what: str) -> None:
    since = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S %z")
    owner = _Owner(pid=os.getpid(), host=socket.gethostname(), since=since, what=what, word=secrets.token_hex(8))
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(dataclasses.asdict(owner)).encode(), 0)
