"""What a service keeps in its folder: a journal of every call, and checkpoints that are written beside the calls.

A checkpoint begins with a cut: the journal of the calls after it is begun, and the state is captured, which copies little.
A thread writes what was captured, a small piece at a time with a pause after each, so that calls go on as without it; until
it is on disk, the checkpoint before and the journals since lead to the same state. A checkpoint that fails is tried again
after `RETRY_S`, and harms nobody: the calls are in the journals.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from saddlebag.errors import StateError
from saddlebag.proto.pieces import at_once
from saddlebag.server.groupwise.journal import Journal
from saddlebag.server.groupwise.store import ServiceStore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import Any

    import numpy.typing as npt

    from saddlebag.proto.pieces import Pause
    from saddlebag.server.groupwise.calls import Call
    from saddlebag.server.groupwise.core import GroupwiseCore

PAUSE_S = 0.001
"""What the writer's thread leaves to the calls after each piece of 256 KiB."""
RETRY_S = 10.0
"""After a checkpoint that failed, the next is tried no sooner."""


class Records:
    """The folder of one service.

    Args:
        core: the state.
        directory: the folder.
        every: calls between checkpoints.
        sync, mode: see `Journal`.
        note: told, in a line, of a checkpoint that is damaged, or failed; then from the thread that writes.
        clock: seconds, monotonic.

    Attributes:
        failure: why the last checkpoint failed; empty after one that did not.
    """

    def __init__(
        self,
        core: GroupwiseCore,
        directory: Path,
        *,
        every: int = 4096,
        sync: bool = False,
        mode: int = 0o600,
        note: Callable[[str], None] = lambda text: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._core, self._every, self._note, self._clock = core, every, note, clock
        self.store, self.journal = ServiceStore(directory, mode=mode), Journal(directory, sync=sync, mode=mode)
        self.failure = ""
        self._begun = 0
        self._retry_at = 0.0
        self._defect: Exception | None = None
        self._writer: threading.Thread | None = None

    def recover(self, again: Callable[[Call], None]) -> int:
        """Bring the core to where checkpoint and journals lead; returns how many calls that were.

        A damaged checkpoint is named, and the one before is taken: the journals since lead to the same state.

        Raises:
            StateError: no checkpoint is sound; or one is of another version, or of another meaning; or a journal is damaged or
                missing.
        """
        self.journal.adopt()
        calls, journals = self._restored(), self.journal.numbers()
        for number in journals:
            if number < calls:
                continue
            if number > calls:
                raise StateError(f"calls {calls} to {number} are on no journal in {self.journal.path(number).parent}")
            for call in self.journal.read(number):
                again(call)
                calls += 1
        return calls

    def _restored(self) -> int:
        """Take the newest sound checkpoint; returns after how many calls it was."""
        failure = None
        for number in reversed(self.store.numbers()):
            if number not in self.journal.numbers():  # it had its name before the checkpoint was written
                path = self.journal.path(number)
                raise StateError(f"{path} is missing: restore it; to give up the calls in it, put an empty file there")
            try:
                state = self.store.load(number)
            except StateError as error:
                failure = failure or error
                self._note(f"{error}; the checkpoint before and the journal since are taken, if they are whole")
                continue
            self._core.restore(*state)
            return number
        if failure is not None:
            raise failure
        return 0

    def append(self, kind: int, request: bytes, owner: int, calls: int) -> None:
        """Put the call after the first `calls` on record; where a checkpoint is due, cut first.

        Raises:
            StateError: the journal cannot be written; the call must not be applied.
        """
        if self._defect is not None:
            raise StateError(f"a checkpoint failed: {type(self._defect).__name__}: {self._defect}") from self._defect
        due = calls - self._begun >= (1 if self.failure else self._every)
        if due and not self.writing and self._clock() >= self._retry_at:
            self._cut(calls)
        self.journal.append(kind, request, owner)

    @property
    def writing(self) -> bool:
        """Whether a checkpoint is being written."""
        return self._writer is not None and self._writer.is_alive()

    def checkpoint(self, calls: int) -> None:
        """Write the state after `calls` calls, and wait for it.

        Raises:
            StateError: the disk does not take it.
        """
        if self._writer is not None:
            self._writer.join()
        self.journal.begin(calls)
        self.journal.settle()
        self._begun = calls
        self._save(calls, *self._core.capture(), at_once)

    def _cut(self, calls: int) -> None:
        try:
            self.journal.begin(calls)
        except StateError as error:
            self._fail(error)
            return
        self._begun = calls
        arrays, facts = self._core.capture()
        self._writer = threading.Thread(target=self._write, args=(calls, arrays, facts), name="checkpoint")
        self._writer.start()

    def _write(self, calls: int, arrays: Mapping[str, npt.NDArray[Any]], facts: Mapping[str, Any]) -> None:
        try:
            _pause()  # whoever starts a thread waits for it to run: the calls go first
            self.journal.settle()
            self._save(calls, arrays, facts, _pause)
        except StateError as error:
            self._fail(error)
        except Exception as error:  # the next call ends the service
            self._defect = error

    def _save(self, calls: int, arrays: Mapping[str, npt.NDArray[Any]], facts: Mapping[str, Any], pause: Pause) -> None:
        self.store.save(calls, arrays, facts, pause)
        self.journal.forget_before(self.store.numbers()[0])
        self.failure = ""

    def _fail(self, error: StateError) -> None:
        self._retry_at = self._clock() + RETRY_S
        self.failure = str(error)
        self._note(f"{error}; tried again in {RETRY_S:g} s, the journal keeps every answered call")


def _pause() -> None:
    time.sleep(PAUSE_S)
