"""The journal of a service: every call is on disk before it is answered, so a killed service resumes where it was.

To make or rename a file may wait for the disk. So the next journal is made ahead, empty and under the name `journal-next.log`:
to begin it is to write its head, and it gets its own name later. After a crash between the two, its head tells its number.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from saddlebag.errors import StateError
from saddlebag.proto.checkpoint import require_in_place, writing
from saddlebag.proto.ordinary import ordinary
from saddlebag.server.groupwise.calls import begins, calls_in, head_of, number_in, record_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from saddlebag.server.groupwise.calls import Call


class Journal:
    """The journals of one folder; at most one is open for writing.

    A write that fails is taken back at once. Where that fails, too, every later call is refused until it succeeds: no record
    ever follows a torn one. After a failed fsync nobody knows what is on the disk, so nothing more is recorded at all.

    Args:
        directory: the folder.
        sync: wait for the disk at every record, so that a power cut loses no answered call; a killed process loses none
            in either case.
        mode: permissions of new files.
    """

    def __init__(self, directory: Path, *, sync: bool = False, mode: int = 0o600) -> None:
        self._directory, self._sync, self._mode = directory, sync, mode
        self._file: int | None = None
        self._number = self._whole = 0  # of the open one, and its bytes of whole records
        self._names: tuple[Path, ...] = ()  # that the open one may have
        self._ahead: int | None = None  # the file of the next one
        self._ended: list[int] = []  # files to be closed
        self._unnamed: int | None = None  # the number of the one that has the name of the next
        self._torn = self._lost = False

    def path(self, number: int) -> Path:
        return self._directory / f"journal-{number:012d}.log"

    def numbers(self) -> list[int]:
        """The calls with which journals begin, ascending."""
        names = (path.name for path in self._directory.glob("journal-*.log")) if self._directory.is_dir() else ()
        return sorted(int(name[8:20]) for name in names if name[8:20].isdecimal())

    def begin(self, number: int) -> None:
        """Start the journal of the calls after the first `number`; one of that number that is not open is replaced.

        Raises:
            StateError: the folder cannot be written; the journal before is still the open one.
        """
        if self._file is not None and self._number == number and not self._lost:
            return
        head = head_of(number)
        ahead = self._ahead is not None
        path, file, self._ahead = self._next if ahead else self.path(number), self._ahead, None
        try:
            file = self._made(path) if file is None else file
            _write(file, head)
            if self._sync:
                os.fsync(file)
        except OSError as error:
            if file is not None:
                os.close(file)
                with contextlib.suppress(OSError):
                    path.unlink()
            raise StateError(f"cannot write {path}: {error.strerror or error}") from error
        if self._file is not None:
            self._ended.append(self._file)
        self._file, self._number, self._whole, self._torn, self._lost = file, number, len(head), False, False
        self._names = (self.path(number), self._next, self.path(number))  # a thread may give it its name meanwhile
        if ahead:
            self._unnamed = number

    def settle(self) -> None:
        """After `begin`, what may wait for the disk: give the journal its name, and make the next one.

        No other call may run meanwhile but `append`.

        Raises:
            StateError: the folder cannot be written; the calls are on record, and the next `begin` makes its own file.
        """
        while self._ended:
            os.close(self._ended.pop())
        if self._unnamed is not None:
            with writing(self.path(self._unnamed)):
                self._next.replace(self.path(self._unnamed))
                self._unnamed = None
                if self._sync:
                    _sync_folder(self._directory)
        if self._ahead is None:
            with writing(self._next):
                self._ahead = self._made(self._next)

    def adopt(self) -> None:
        """Give a journal that was begun and not named its name; one that was only made is removed.

        Raises:
            StateError: it is damaged, or there is another journal of its number.
        """
        if not self._next.exists():
            return
        with writing(self._next):
            with ordinary(self._next).open("rb") as file:
                number = number_in(file)
                begun = begins(file, self._next, number)
            if not begun:
                self._next.unlink()
            elif self.path(number).exists():
                raise StateError(f"{self._next} and {self.path(number)} both begin with call {number}: restore the folder")
            else:
                self._next.replace(self.path(number))

    @property
    def _next(self) -> Path:
        return self._directory / "journal-next.log"

    def _made(self, path: Path) -> int:
        """An empty file."""
        self._directory.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, self._mode)
        if self._sync:
            try:
                _sync_folder(self._directory)
            except OSError:
                os.close(file)
                raise
        return file

    def append(self, kind: int, body: bytes, owner: int = 0) -> None:
        """Put a call on record.

        Raises:
            StateError: the disk is full, somebody has removed the file, or worse; the call must not be applied.
            LocalProtocolError: the request is longer than a connection allows.
        """
        assert self._file is not None, "begin first"
        record = record_of(kind, body, owner, self._whole)
        if self._torn:
            self._mend()
        try:
            _write(self._file, record)
            require_in_place(self._file, *self._names)
        except OSError as error:
            self._torn = True
            with contextlib.suppress(StateError):
                self._mend()
            raise StateError(f"cannot write the journal: {error.strerror or error}") from error
        if self._sync:
            try:
                os.fsync(self._file)
            except OSError as error:
                self._torn = self._lost = True
                raise StateError(f"cannot write the journal: {error.strerror or error}") from error
        self._whole += len(record)

    def _mend(self) -> None:
        """Take back what a failed write left."""
        if not self._torn:
            return
        assert self._file is not None
        if self._lost:
            raise StateError("the disk failed to keep the journal; start the service again")
        try:
            os.ftruncate(self._file, self._whole)
            os.lseek(self._file, self._whole, os.SEEK_SET)
        except OSError as error:
            raise StateError(f"the journal holds half a call that cannot be taken back: {error.strerror or error}") from error
        self._torn = False

    def read(self, number: int) -> Iterator[Call]:
        """The calls on record in one journal, up to one that was cut short.

        Raises:
            StateError: the file is no journal of this version and number, or damaged.
        """
        path = self.path(number)
        try:
            with ordinary(path).open("rb") as file:
                yield from calls_in(file, path, number)
        except OSError as error:
            raise StateError(f"cannot read {path}: {error.strerror or error}") from error

    def forget_before(self, number: int) -> None:
        """Remove journals that no kept checkpoint needs."""
        for old in self.numbers():
            if old < number:
                self.path(old).unlink(missing_ok=True)


def _write(file: int, data: bytes) -> None:
    written = os.write(file, data)
    if written != len(data):
        raise OSError(0, f"only {written} of {len(data)} bytes were written")


def _sync_folder(directory: Path) -> None:
    folder = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
