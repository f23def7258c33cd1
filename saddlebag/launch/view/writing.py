"""The page of runs as a file, once or for as long as they go."""

from __future__ import annotations

import datetime
import time
from typing import TYPE_CHECKING

from saddlebag.launch.view.gather import gather
from saddlebag.launch.view.page import page_of
from saddlebag.proto.checkpoint import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

__all__ = ["write_view"]


def write_view(
    folders: Sequence[Path], out: Path, *, every_s: float | None = None, wait: Callable[[float], None] = time.sleep
) -> None:
    """Write the page; with `every_s` again and again until all runs have ended, and the page loads itself anew meanwhile.

    A run that was killed has not ended: whoever watches it stops by Ctrl-C, and leaves a page that is complete.

    Raises:
        DataError: a folder holds no run.
        StateError: the file cannot be written.
    """
    going = every_s is not None
    try:
        while going:
            curves = gather(folders)
            going = not all(curve.result for curve in curves)
            if going:
                _write(folders, out, every_s)
                wait(every_s or 0.0)
    finally:
        _write(folders, out, None)


def _write(folders: Sequence[Path], out: Path, again_s: float | None) -> None:
    when = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, page_of(gather(folders), again_s=again_s, when=when).encode())
