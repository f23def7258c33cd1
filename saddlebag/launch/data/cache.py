"""What processes of a run would each work out from the data, worked out once and kept beside the results."""

from __future__ import annotations

import contextlib
import hashlib
from typing import TYPE_CHECKING

from saddlebag.proto.checkpoint import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["CACHE", "Cache"]

CACHE = "cache"
"""The folder beside checkpoints and metrics. It may be deleted at any time."""
_SUM_BYTES = 32


class Cache:
    """Bytes by key in a folder; whoever comes first makes them, the others wait and read.

    A key names all that the bytes depend on. What does not fit its checksum is made again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, key: str, make: Callable[[], bytes]) -> bytes:
        """The bytes of a key."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / hashlib.sha256(key.encode()).hexdigest()
        with _alone(self._folder / "lock"):
            with contextlib.suppress(OSError):
                kept = path.read_bytes()
                if hashlib.sha256(kept[_SUM_BYTES:]).digest() == kept[:_SUM_BYTES]:
                    return kept[_SUM_BYTES:]
            made = make()
            write_atomically(path, hashlib.sha256(made).digest() + made)
            return made


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One process at a time, where the system can; elsewhere several do the same work."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with path.open("wb") as file:
        with contextlib.suppress(OSError):  # some network file systems know no locks
            fcntl.flock(file, fcntl.LOCK_EX)  # given back when the file is closed, also by a kill
        yield
