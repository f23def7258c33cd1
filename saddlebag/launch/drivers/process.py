"""Settings of a process that carries a part of a run."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading

__all__ = ["tune_process", "watch_parent"]

_SWITCH_INTERVAL_S = 2e-4  # threads of gRPC wait this long for the interpreter, not the default 5 ms
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8


def tune_process() -> None:
    """Settings of a process that moves large messages: short hand-overs, and freed memory is kept for the next chunk."""
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    with contextlib.suppress(OSError, AttributeError):  # Linux: many small processes interrupt each other less
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    with contextlib.suppress(OSError, AttributeError):  # glibc only
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in (
            (_M_MMAP_THRESHOLD, 32 << 20),  # the most glibc allows: fresh memory costs as much as a pass over a vector
            (_M_TRIM_THRESHOLD, 256 << 20),
            (_M_TOP_PAD, 16 << 20),
            (_M_ARENA_MAX, 1),
        ):
            mallopt(parameter, value)


def watch_parent(fd: int) -> None:
    """End this process when the other end of a pipe is closed, that is, when the parent is gone, however it went."""

    def wait() -> None:
        with contextlib.suppress(OSError):
            os.read(fd, 1)
        os._exit(1)

    threading.Thread(target=wait, name="watch-parent", daemon=True).start()
