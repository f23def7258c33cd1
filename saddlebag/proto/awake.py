"""A clock that stands still while its process does: who was stopped, or had no processor, has waited for nobody."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["TICK_S", "Awake"]

TICK_S = 0.1
"""How often the shells ask, so that time passes."""


class Awake:
    """Seconds by a clock, without those in which nobody asked.

    Leases and patience run by it. A machine that was suspended, a process that was stopped, or one of many on too few
    processors, would else find all its peers silent for as long, and give them up before it reads what they have sent.

    Args:
        clock: in seconds; steps backwards count as no time.
        tick_s: the time is asked for at least so often where the process runs; of a longer pause twice that counts.

    Example:
        >>> now = [100.0]
        >>> awake = Awake(lambda: now[0], tick_s=0.5)
        >>> now[0] = 100.5
        >>> awake()
        100.5
        >>> now[0] = 700.0
        >>> awake(), awake.skipped()
        (101.5, 598.5)
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, tick_s: float = TICK_S) -> None:
        self._clock, self._most_s = clock, 2 * tick_s
        self._at = self._value = clock()
        self._skipped_s = 0.0

    def __call__(self) -> float:
        """The time now."""
        now = self._clock()
        passed_s = max(0.0, now - self._at)
        counted_s = min(passed_s, self._most_s)
        self._at, self._value = now, self._value + counted_s
        self._skipped_s += passed_s - counted_s
        return self._value

    def skipped(self) -> float:
        """Seconds that were left out since this was asked last."""
        skipped_s, self._skipped_s = self._skipped_s, 0.0
        return skipped_s
