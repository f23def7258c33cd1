"""Virtual time: events in order, tasks as generators, and the hosts that tasks live and die with.

A task is a generator that yields what it waits for: seconds (a float), or a `Signal`. Nothing here knows the real time, so a
run is a function of its seed, and an hour of waiting costs nothing.
"""

from __future__ import annotations

import functools
import heapq
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Generator

__all__ = ["Clock", "Ended", "Host", "Lock", "Signal", "Task", "Work"]

Work: TypeAlias = "Generator[Signal | float, None, Any]"
"""What a task does: yields what it waits for."""


class Ended(BaseException):
    """Thrown into a task whose call or stream is over: what asyncio calls cancelled."""


class Signal:
    """Tasks wait here; `ring` wakes all that wait now."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[tuple[Task, int]] = []

    def join(self, task: Task, turn: int) -> None:
        """A task waits from now on; `turn` tells this wait from its later ones."""
        self._waiting.append((task, turn))

    def ring(self) -> None:
        waiting, self._waiting = self._waiting, []
        for task, turn in waiting:
            task.wake(turn)


class Clock:
    """Events of a run, by virtual time in seconds; those of one instant come in an order drawn from `rng`.

    Args:
        rng: of the order.
        busy_s: a fifth of the tasks that are ready wait up to a fifth of this for others.
    """

    def __init__(self, rng: random.Random, busy_s: float = 0.0) -> None:
        self._random, self._busy_s = rng.random, busy_s
        self._events: list[tuple[float, float, int, Callable[[], object]]] = []
        self._count = 0
        self.now = 0.0
        self.passed = 0  # events that have happened

    def after(self, delay_s: float, call: Callable[[], object]) -> None:
        """Call when `delay_s` seconds have passed."""
        self._count += 1
        heapq.heappush(self._events, (self.now + delay_s, self._random(), self._count, call))

    def turn_s(self) -> float:
        """How long a task that is ready waits for others that are ready, too: mostly not at all."""
        return max(0.0, self._random() - 0.8) * self._busy_s if self._busy_s else 0.0

    def step(self) -> bool:
        """Let the next event happen; False when there is none."""
        if not self._events:
            return False
        self.now, _, _, call = heapq.heappop(self._events)
        self.passed += 1
        call()
        return True


class Host:
    """A process: its tasks end with it, and wait while it is stopped."""

    def __init__(self, clock: Clock, name: str, failed: Callable[[Exception], None]) -> None:
        self.clock, self.name, self.alive = clock, name, True
        self.failed = failed  # told of what a task raises
        self.running: Task | None = None
        self._stops = 0
        self._deferred: list[Callable[[], None]] = []

    @property
    def stopped(self) -> bool:
        return self._stops > 0

    def spawn(self, work: Work) -> Task:
        """Begin a task: it runs until it first waits before this returns."""
        return Task(self, work)

    def defer(self, call: Callable[[], None]) -> None:
        """Call once the process goes on."""
        self._deferred.append(call)

    def stop(self, seconds: float) -> None:
        """Nothing runs here for a while."""
        self._stops += 1
        self.clock.after(seconds, self._go_on)

    def _go_on(self) -> None:
        self._stops -= 1
        if not self._stops:
            deferred, self._deferred = self._deferred, []
            for call in deferred:
                self.clock.after(0.0, call)


class Task:
    """A generator that lives on a host."""

    def __init__(self, host: Host, work: Work) -> None:
        self._host, self._work = host, work
        self._turn = 0
        self._thrown: BaseException | None = None
        self.ended = False
        self.end = Signal()
        self._resume(0)

    def wake(self, turn: int) -> None:
        """What it waited for at that turn has come."""
        if turn == self._turn and not self.ended:
            self._host.clock.after(0.0, functools.partial(self._resume, turn))

    def throw(self, error: BaseException) -> None:
        """End its wait with an exception; of several, the first counts."""
        if not self.ended and self._thrown is None:
            self._thrown = error
            self._host.clock.after(0.0, functools.partial(self._resume, self._turn))

    def untold(self) -> None:
        """Forget an exception that it has not been told yet."""
        self._thrown = None

    def _resume(self, turn: int) -> None:
        host = self._host
        if turn != self._turn or self.ended or not host.alive:
            return
        if host.stopped:
            host.defer(functools.partial(self._resume, turn))
            return
        self._turn += 1
        before, host.running = host.running, self
        thrown, self._thrown = self._thrown, None
        try:
            awaited = next(self._work) if thrown is None else self._work.throw(thrown)
        except (StopIteration, Ended):
            self._finish()
        except Exception as error:
            self._finish()
            host.failed(error)
        else:
            self._wait(awaited)
        finally:
            host.running = before

    def _wait(self, awaited: Signal | float) -> None:
        if self._thrown is not None:  # while it ran
            awaited = 0.0
        if isinstance(awaited, Signal):
            awaited.join(self, self._turn)
        else:
            self._host.clock.after(awaited, functools.partial(self._resume, self._turn))

    def _finish(self) -> None:
        self.ended = True
        self.end.ring()


class Lock:
    """One task at a time; who waits comes in no particular order."""

    def __init__(self) -> None:
        self._held, self._free = False, Signal()

    def acquire(self) -> Work:
        while self._held:
            yield self._free
        self._held = True

    def release(self) -> None:
        self._held = False
        self._free.ring()
