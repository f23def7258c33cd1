"""Processes that are killed or stopped, and waiting for what comes of it: what `kills.py` and `groups.py` share."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

__all__ = ["LONGEST_S", "Hits", "alive", "family", "name_of", "until"]

LONGEST_S = 600.0  # of waiting for anything; a bound, no measurement


def until(condition: Callable[[], Any], what: str) -> None:
    """Wait for something that happens."""
    deadline = time.monotonic() + LONGEST_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {LONGEST_S:g} s for {what}"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for does not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def family(pid: int) -> Iterator[int]:
    """A process and all that it has begun."""
    yield pid
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            yield from family(int(child))


def name_of(pid: int, top: int) -> str:
    """What a process of a run is, by where it writes."""
    if pid == top:
        return "supervisor"
    try:
        log = Path(os.readlink(f"/proc/{pid}/fd/1")).name
    except OSError:
        return "gone"
    kind = log.partition(".")[0].partition("-")[0] if log.endswith(".log") else "nursery"
    return {"ranks": "torchrun or a rank"}.get(kind, kind)


class Hits:
    """Signals and whom they met; stopped processes go on after a while."""

    def __init__(self, rng: random.Random) -> None:
        self._rng, self.counted = rng, Counter[str]()
        self._stopped: list[tuple[float, int]] = []

    def hit(self, pid: int, who: str) -> bool:
        """Kill a process (True) or stop it; False where it was stopped, or has gone."""
        killed = self._rng.random() < 0.6
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL if killed else signal.SIGSTOP)
            self.counted[f"{'SIGKILL' if killed else 'SIGSTOP'} {who}"] += 1
            if not killed:
                self._stopped.append((time.monotonic() + self._rng.uniform(0.02, 0.6), pid))
            return killed
        return False

    def go_on(self, *, now: bool = False) -> None:
        """Wake who was stopped long enough."""
        for at, pid in list(self._stopped):
            if now or time.monotonic() >= at:
                self._stopped.remove((at, pid))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
