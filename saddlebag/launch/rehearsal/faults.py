"""Faults of a run in virtual time: what goes wrong, where and when; a script of them is data, so it can be repeated and cut."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

from saddlebag.launch.rehearsal.network import KEEP_ALIVE_S

if TYPE_CHECKING:
    import random
    from collections import Counter
    from collections.abc import Callable, Sequence

    from saddlebag.launch.rehearsal.network import Connection
    from saddlebag.launch.rehearsal.world import World

__all__ = ["KINDS", "Fault", "draw", "run_with"]


@dataclasses.dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        at: when, in seconds of virtual time.
        kind: a key of `KINDS`.
        who: "server", or a worker's rank.
        seconds: how long it lasts, or how long until the process is started again.
        chance: in [0, 1), where a fault has a choice of its own.
    """

    at: float
    kind: str
    who: str
    seconds: float = 0.0
    chance: float = 0.0


def _kill(fault: Fault, world: World) -> bool:
    return world.kill(fault.who, again_s=fault.seconds, renamed=fault.chance < 0.5)


def _wipe(fault: Fault, world: World) -> bool:
    """A worker comes back on another disk: without its state."""
    if killed := world.kill(fault.who, again_s=fault.seconds, renamed=False):
        world.disks[fault.who].forget_after(-1)
    return killed


def _vanish(fault: Fault, world: World) -> bool:
    """The machine is gone without a word: whoever talked to it notices by keep-alive."""
    return world.kill(fault.who, again_s=fault.seconds, renamed=fault.chance < 0.5, silent_s=max(KEEP_ALIVE_S, world.lease_s))


def _stop(fault: Fault, world: World) -> bool:
    if world.alive(fault.who):
        world.hosts[fault.who].stop(fault.seconds)
    return world.alive(fault.who)


def _cut(fault: Fault, world: World) -> bool:
    return _break(fault, world, 0.0, 0.0)


def _half(fault: Fault, world: World) -> bool:
    """One side notices that the connection is gone, the other one only later."""
    client, server = (0.0, fault.seconds) if fault.chance < 0.5 else (fault.seconds, 0.0)
    return _break(fault, world, client, server)


def _break(fault: Fault, world: World, client_s: float, server_s: float) -> bool:
    if (connection := _connected(fault, world)) is None:
        return False
    connection.break_(client_s=client_s, server_s=server_s)
    return True


def _silence(fault: Fault, world: World) -> bool:
    """Nothing arrives for a while; then everything does."""
    link = world.links[int(fault.who)]
    link.held_until = max(link.held_until, world.clock.now + fault.seconds)
    return True


def _delay(fault: Fault, world: World) -> bool:
    link, extra_s = world.links[int(fault.who)], 0.1 * fault.chance
    link.extra_s += extra_s

    def over() -> None:
        link.extra_s -= extra_s

    world.clock.after(fault.seconds, over)
    return True


def _throttle(fault: Fault, world: World) -> bool:
    link = world.links[int(fault.who)]
    link.throttles += 1

    def over() -> None:
        link.throttles -= 1

    world.clock.after(fault.seconds, over)
    return True


def _slow_reader(fault: Fault, world: World) -> bool:
    worker = world.workers[fault.who]
    worker.read_delay_s += 0.05

    def over() -> None:
        worker.read_delay_s = max(0.0, worker.read_delay_s - 0.05)

    world.clock.after(fault.seconds, over)
    return world.alive(fault.who)


def _late_join(fault: Fault, world: World) -> bool:
    """A join that was sent before comes once more, on a way of its own."""
    worker = world.workers[fault.who]
    if worker.asked is not None and world.alive("server"):
        server = world.server
        asked = worker.asked
        world.clock.after(fault.seconds, lambda: asked() if world.server is server and world.alive("server") else None)
        return True
    return False


def _full(fault: Fault, world: World) -> bool:
    disk = world.disks[fault.who]
    disk.full = True

    def over() -> None:
        disk.full = False

    world.clock.after(fault.seconds, over)
    return True


def _slow_disk(fault: Fault, world: World) -> bool:
    world.disk_extra_s[fault.who] += 0.2 * fault.chance

    def over() -> None:
        world.disk_extra_s[fault.who] -= 0.2 * fault.chance

    world.clock.after(fault.seconds, over)
    return True


def _clock_step(fault: Fault, world: World) -> bool:
    """The server's machine was suspended, or its clock goes back."""
    world.clock_steps += 200.0 * (fault.chance - 0.3)
    return True


def _corrupt(fault: Fault, world: World) -> bool:
    worker = world.workers.get(fault.who)
    if worker is None or worker.connection is None or not worker.connection.open:
        return False
    pipe = worker.connection.up if fault.chance < 0.5 else worker.connection.down
    pipe.corrupt += 1
    return True


def _deaf(fault: Fault, world: World) -> bool:
    """A flipped bit of a length: one end takes all that follows for one long frame, and the connection stays."""
    connection = _connected(fault, world)
    if connection is not None:
        connection.deaf.add(fault.chance < 0.5)
    return connection is not None


def _refused(fault: Fault, world: World) -> bool:
    """A flipped bit in what the ends of a connection remember of names: its heartbeats are refused from now on."""
    connection = _connected(fault, world)
    if connection is not None:
        connection.refuses = True
    return connection is not None


def _connected(fault: Fault, world: World) -> Connection | None:
    """The connection of a worker's stream, if there is one."""
    worker = world.workers.get(fault.who)
    connection = worker.connection if worker is not None and worker.host.alive else None
    return connection if connection is not None and connection.open else None


KINDS: dict[str, Callable[[Fault, World], bool]] = {
    "kill": _kill,
    "vanish": _vanish,
    "wipe": _wipe,
    "stop": _stop,
    "cut": _cut,
    "half": _half,
    "silence": _silence,
    "delay": _delay,
    "throttle": _throttle,
    "slow_reader": _slow_reader,
    "late_join": _late_join,
    "disk_full": _full,
    "slow_disk": _slow_disk,
    "clock_step": _clock_step,
    "corrupt": _corrupt,
    "deaf": _deaf,
    "refused": _refused,
}
"""What can go wrong, by name."""
_OF_WORKERS = ("cut", "half", "silence", "delay", "throttle", "slow_reader", "late_join", "corrupt", "wipe", "deaf", "refused")
_LASTS_S = {"kill": 0.3, "wipe": 0.1, "vanish": 0.5, "stop": 0.5, "half": 1.0, "silence": 0.3, "delay": 0.3, "throttle": 0.2}


def draw(rng: random.Random, num_workers: int, count: int, gap_s: float, kinds: Sequence[str]) -> list[Fault]:
    """A script: so many faults, `gap_s` apart in the mean."""
    faults, at = [], 0.0
    for _ in range(count):
        at += rng.expovariate(1 / gap_s)
        kind = rng.choice(kinds)
        workers = [str(rank) for rank in range(num_workers)]
        who = "server" if kind == "clock_step" else rng.choice(workers if kind in _OF_WORKERS else ["server", *workers])
        faults.append(Fault(at, kind, who, rng.random() * _LASTS_S.get(kind, 0.3), rng.random()))
    return faults


def run_with(world: World, faults: Sequence[Fault], happened: Counter[str]) -> None:
    """Run to the end with these faults on the way; counts those that found something to happen to.

    Raises:
        PromiseBroken: one of the promises does not hold.
    """

    def happen(fault: Fault) -> None:
        happened[fault.kind] += KINDS[fault.kind](fault, world)

    for fault in faults:
        world.clock.after(fault.at, functools.partial(happen, fault))
    world.run(max((fault.at + fault.seconds for fault in faults), default=0.0))
