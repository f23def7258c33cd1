"""States on disk and in snapshots: safetensors, written atomically, read with suspicion."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import math
import os
import re
from typing import IO, TYPE_CHECKING, Any

import numpy.typing as npt
from safetensors import SafetensorError

from saddlebag.errors import SaddlebagError, StateError, reason_of
from saddlebag.proto.digests import DIGEST, PLACE, with_digest
from saddlebag.proto.ordinary import ordinary
from saddlebag.proto.pieces import at_once, pieces, tensor_file
from saddlebag.proto.tensors import read_facts, read_tensors, view_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from saddlebag.proto.pieces import Pause
    from saddlebag.proto.reader import Buffer

__all__ = [
    "STATES",
    "WORKER_KEEPS",
    "CheckpointStore",
    "arrays_to_bytes",
    "bytes_to_arrays",
    "count",
    "crosses",
    "file_of",
    "require_in_place",
    "require_version",
    "restoring",
    "seconds",
    "superfluous",
    "write_atomically",
    "writing",
]

Arrays = dict[str, npt.NDArray[Any]]
_KEEP = 2  # checkpoints: a peer may be one checkpoint behind, see docs/protocol.md
_NAME = "file"  # the fact that says how the file is called
_DAMAGED = (AttributeError, KeyError, RecursionError, TypeError, ValueError)  # of bytes that are no file of ours
_LARGEST_COUNT = 1 << 48  # rounds, of which the draws keep 48 bits; epochs and bytes stay below
STATES = 2
"""The version of the states in a checkpoint; 1 had the fields of nested states side by side."""
WORKER_KEEPS = 4
"""Checkpoints of a worker: one that was idle saves after a multiple of `checkpoint.every`, so the server's last two leave two
newer ones behind them; the server needs one that is not newer than its own: the one before, where its newest is damaged."""


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Around what writes a file: an error of the system, which may not know the name, becomes a `StateError` that says it."""
    try:
        yield
    except OSError as error:
        raise StateError(f"cannot write {path}: {error.strerror or error}") from error


def require_in_place(file: int, *paths: Path) -> None:
    """Check that an open file still has its name: what goes into one that was removed or moved away is read by nobody.

    Args:
        file: its descriptor.
        paths: names that it may have.

    Raises:
        FileNotFoundError: it has none of them.
    """
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file), path.stat()):
                return
    raise FileNotFoundError(errno.ENOENT, "it was removed or moved away meanwhile", str(paths[0]))


@contextlib.contextmanager
def restoring(what: str) -> Iterator[None]:
    """Around what takes a state from the facts of a checkpoint: whatever somebody made of them, it ends in a `StateError`."""
    try:
        yield
    except SaddlebagError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise StateError(f"{what} is damaged: {error!r}") from error


def count(facts: Mapping[str, Any], name: str) -> int:
    """A whole number of a checkpoint's facts that counts something.

    Raises:
        StateError: it is missing, or no number from 0 to 2^48.
    """
    value = facts.get(name)
    if type(value) is not int or not 0 <= value <= _LARGEST_COUNT:
        raise StateError(f"the checkpoint is damaged: {name} must be a whole number from 0 to 2^48, got {value!r}")
    return value


def seconds(facts: Mapping[str, Any], name: str) -> float:
    """A time of a checkpoint's facts; 0 where an earlier release has written none.

    Raises:
        StateError: it is no number from 0 to infinity.
    """
    value = facts.get(name, 0.0)
    if type(value) not in (int, float) or not 0 <= value < math.inf:
        raise StateError(f"the checkpoint is damaged: {name} must be seconds, got {value!r}")
    return float(value)


def require_version(facts: Mapping[str, Any]) -> None:
    """Refuse a checkpoint whose states are written in another way.

    Raises:
        StateError: its version is not `STATES`.
    """
    version = facts.get("version", 1)
    if type(version) is not int or version != STATES:
        raise StateError(
            f"the checkpoint is of version {version!r}, this release reads version {STATES}: its states nest; "
            "finish the run with the release that began it, or begin anew with --force"
        )


def write_atomically(path: Path, data: bytes | Sequence[Buffer], *, mode: int = 0o666, pause: Pause = at_once) -> None:
    """Write a file so that a crash at any moment leaves the old file or the new one, whole.

    Args:
        path: of the file.
        data: its bytes, or pieces of them.
        mode: its permissions, less the process's umask.
        pause: called after each piece of bounded size.

    Raises:
        StateError: the disk is full, or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path):
        try:
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
                for piece in pieces((data,) if isinstance(data, bytes) else data, pause):
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def arrays_to_bytes(arrays: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any]) -> bytes:
    """Named arrays and JSON facts as one safetensors file, which holds its digest."""
    return b"".join(file_of(arrays, meta))


def file_of(arrays: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any], pause: Pause = at_once) -> list[Buffer]:
    """The same in buffers, which are views of the arrays; `pause` is called after each piece that has been read."""
    return with_digest(tensor_file(arrays, json.dumps({**meta, DIGEST: PLACE}, sort_keys=True)), pause)


def bytes_to_arrays(data: bytes | bytearray, what: str) -> Arrays:
    """The arrays of a file that `arrays_to_bytes` gave; of a bytearray, which is given away, views.

    Raises:
        StateError: the bytes are no such file, or not those that were written; `what` names them.
    """
    try:
        arrays, _ = view_tensors(data) if isinstance(data, bytearray) else read_tensors(io.BytesIO(data), len(data))
        return arrays
    except _DAMAGED as error:
        raise StateError(f"{what} is damaged: {error}") from error


def crosses(before: int, after: int, every: int) -> bool:
    """Whether a worker that comes from one boundary to another is due to save: it passes a multiple of `every`, or reaches one.

    Example:
        >>> crosses(8, 11, every=5), crosses(10, 11, every=5), crosses(8, 11, every=0)
        (True, False, False)
    """
    return every > 0 and after // every > before // every


def superfluous(rounds: Iterable[int], newest: int, keep: int) -> list[int]:
    """The rounds whose checkpoints go when that of `newest` has been written; later ones are another run's business.

    Example:
        >>> superfluous([10, 20, 30], 30, keep=2)
        [10]
    """
    return sorted(round_ for round_ in rounds if round_ < newest)[: -(keep - 1) or None]


class CheckpointStore:
    """The checkpoints of one process: a directory of `name-ROUND.safetensors`, the newest `keep` of which are kept.

    A file says its name, and holds the digest of every byte of it: one that is damaged or in another's place is refused.

    Attributes:
        pause: called after each piece of bounded size that `save` has read or written; nothing, unless it is set.
    """

    def __init__(self, directory: Path, name: str, *, keep: int = _KEEP, mode: int = 0o600) -> None:
        self._directory, self._name, self._keep, self._mode = directory, name, keep, mode
        self.pause: Pause = at_once
        self._pattern = re.compile(rf"{re.escape(name)}-(\d{{12}})\.safetensors")
        self._has_saved = False

    def path(self, round_: int) -> Path:
        return self._directory / f"{self._name}-{round_:012d}.safetensors"

    def rounds(self) -> list[int]:
        """The rounds at whose boundaries there is a checkpoint, ascending."""
        if not self._directory.is_dir():
            return []
        matches = (self._pattern.fullmatch(path.name) for path in self._directory.iterdir())
        return sorted(int(match[1]) for match in matches if match)

    def save(self, round_: int, arrays: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Write one and forget all but the newest.

        Raises:
            StateError: the disk is full, the folder cannot be written, or the state is too large for a file; the older ones are
            left as they are.
        """
        try:
            # the folder around it is made once: where it vanishes later, the run has lost what it held, and must not go on
            self._directory.mkdir(parents=not self._has_saved, exist_ok=True)
            for torn in self._directory.glob(f".{self._name}-*.tmp"):  # of a process that was killed while it wrote
                torn.unlink(missing_ok=True)
            path = self.path(round_)
            write_atomically(path, file_of(arrays, {**meta, _NAME: path.stem}, self.pause), mode=self._mode, pause=self.pause)
            self._has_saved = True
            for old in superfluous(self.rounds(), round_, self._keep):
                self.path(old).unlink(missing_ok=True)
        except (OSError, SafetensorError) as error:
            raise StateError(f"cannot write checkpoint {self.path(round_)}: {reason_of(error)}") from error

    def load(self, round_: int) -> tuple[Arrays, dict[str, Any]]:
        """The arrays and facts of one checkpoint.

        Raises:
            StateError: the file is missing, damaged or another one; it is left as it is.
        """
        path = self.path(round_)
        with self._open(round_) as (file, size):
            arrays, facts = read_tensors(file, size)
            facts.pop(DIGEST, None)
            if facts.get("round", round_) != round_:
                raise ValueError(f"it says that it is of round {facts['round']!r}")
            if (name := facts.pop(_NAME, None)) != path.stem:
                raise ValueError(f"it says that it is {name}")
            return arrays, facts

    def newest(self, note: Callable[[str], None]) -> tuple[Arrays, dict[str, Any]] | None:
        """The arrays and facts of the newest checkpoint that is sound; None where there is none at all.

        Args:
            note: told, in a line, of each that is not.

        Raises:
            StateError: there are some, and none is sound.
        """
        failure = None
        for round_ in reversed(self.rounds()):
            try:
                return self.load(round_)
            except StateError as error:
                failure = error
                note(f"{error}: the one before is taken")
        if failure is not None:
            raise StateError(
                f"no checkpoint of {self._name} in {self._directory} is sound; remove them to begin anew"
            ) from failure
        return None

    def sound_rounds(self, note: Callable[[str], None]) -> list[int]:
        """The rounds of the checkpoints that are sound, ascending; every byte is read. `note` as in `newest`."""
        sound = []
        for round_ in self.rounds():
            try:
                self.load(round_)
                sound.append(round_)
            except StateError as error:
                note(f"{error}: it is left out")
        return sound

    def facts(self, round_: int) -> dict[str, Any]:
        """The facts alone, without reading the arrays; errors as `load`."""
        with self._open(round_) as (file, size):
            facts = read_facts(file, size)
            facts.pop(DIGEST, None)
            return facts

    @contextlib.contextmanager
    def _open(self, round_: int) -> Iterator[tuple[IO[bytes], int]]:
        """The file, and its length."""
        path = self.path(round_)
        try:
            with ordinary(path).open("rb") as file:
                yield file, os.fstat(file.fileno()).st_size
        except FileNotFoundError as error:
            raise StateError(f"there is no checkpoint {path}") from error
        except (OSError, *_DAMAGED) as error:
            raise StateError(f"checkpoint {path} is damaged ({error})") from error

    def forget_after(self, round_: int) -> None:
        """Remove checkpoints of a future that will be computed again."""
        for later in self.rounds():
            if later > round_:
                self.path(later).unlink(missing_ok=True)
