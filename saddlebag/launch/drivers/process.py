"""Settings of a process that carries a part of a run."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading

from saddlebag.errors import ConfigError

__all__ = ["MOST_PROCESSES", "require_few", "tune_process", "watch_parent"]

_SWITCH_INTERVAL_S = 2e-4  # threads of gRPC wait this long for the interpreter, not the default 5 ms
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8

MOST_PROCESSES = 1024
"""Workers that `saddlebag run` starts on one machine at most, each of them a process."""


def require_few(workers: int) -> None:
    """Refuse to start more processes than a machine bears.

    Raises:
        ConfigError: the recipe has more workers than `MOST_PROCESSES`.
    """
    if workers > MOST_PROCESSES:
        raise ConfigError(
            f"workers = {workers:,} would be as many processes on this machine, at most {MOST_PROCESSES:,} are started; "
            "--driver simulate has them in one"
        )


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
