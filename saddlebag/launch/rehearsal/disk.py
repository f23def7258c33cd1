"""A disk in memory that can be slow, full, or cut off in the middle of a write; checkpoints as `CheckpointStore` keeps them.

What is kept are the bytes that would be in the file, written and read by the same functions, so a state that does not survive
its own format is noticed.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from saddlebag.errors import StateError
from saddlebag.proto.checkpoint import arrays_to_bytes, bytes_to_arrays, superfluous

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    from saddlebag.launch.rehearsal.clock import Work

__all__ = ["Disk"]

Arrays = dict[str, "npt.NDArray[Any]"]


class Disk:
    """The checkpoints of one process; it outlives the process.

    Args:
        keep: checkpoints that are kept.
        delay_s: how long the next write takes, asked each time.
    """

    def __init__(self, keep: int, delay_s: Callable[[], float]) -> None:
        self._keep, self._delay_s = keep, delay_s
        self._files: dict[int, bytes] = {}
        self._facts: dict[int, dict[str, Any]] = {}
        self.full = False
        self.writing: int | None = None  # the round whose file is being written
        self._coming = b""

    def rounds(self) -> list[int]:
        """The rounds at whose boundaries there is a checkpoint, ascending."""
        return sorted(self._files)

    def facts(self, round_: int) -> dict[str, Any]:
        """What a checkpoint says beside its arrays."""
        if round_ not in self._facts:
            data = self._files[round_]
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
            self._facts[round_] = json.loads(header["__metadata__"]["saddlebag"])
        return self._facts[round_]

    def load(self, round_: int) -> tuple[Arrays, dict[str, Any]]:
        """The arrays and facts of one checkpoint."""
        if round_ not in self._files:
            raise StateError(f"there is no checkpoint of round {round_}")
        return bytes_to_arrays(self._files[round_], f"the checkpoint of round {round_}"), self.facts(round_)

    def save(self, round_: int, arrays: Mapping[str, Any], meta: Mapping[str, Any]) -> Work:
        """Write one and forget all but the newest; a process that dies meanwhile leaves the old ones, see `cut`."""
        self.writing, self._coming = round_, arrays_to_bytes(arrays, meta)
        yield self._delay_s()
        if self.full:
            self.writing = None
            raise StateError(f"cannot write checkpoint {round_}: No space left on device")
        self._renamed()
        for old in superfluous(self._files, round_, self._keep):
            self._forget(old)

    def _renamed(self) -> None:
        assert self.writing is not None, "nobody else writes here"
        self._files[self.writing] = self._coming
        self._facts.pop(self.writing, None)
        self.writing = None

    def cut(self, renamed: bool) -> None:
        """The process dies now: the file that is being written has its name already, or is torn and nobody will read it."""
        if self.writing is not None and renamed and not self.full:
            self._renamed()
        self.writing = None

    def forget_after(self, round_: int) -> None:
        """Remove checkpoints of a future that will be computed again."""
        for later in [each for each in self._files if each > round_]:
            self._forget(later)

    def _forget(self, round_: int) -> None:
        del self._files[round_]
        self._facts.pop(round_, None)
