"""Looks for promises that break: runs by seed, what they found, and the shortest script that still fails."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import TYPE_CHECKING

from saddlebag.errors import SaddlebagError
from saddlebag.launch.rehearsal.faults import Fault, run_with
from saddlebag.launch.rehearsal.promises import PromiseBroken, Promises
from saddlebag.launch.rehearsal.scenarios import Scenario, scenario_of
from saddlebag.launch.rehearsal.world import World

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Trial", "as_code", "replay", "shrunk", "trial"]


@dataclasses.dataclass
class Trial:
    """What one run came to.

    Attributes:
        failure: the promise that broke; empty for none.
        faults: that happened, by kind.
        states: hashes of the states that were reached.
        events: of the virtual clock.
        rounds: that ended on the server, those that were done again included.
        seconds: of virtual time.
    """

    failure: str
    faults: Counter[str]
    states: set[int]
    events: int
    rounds: int
    seconds: float


def replay(scenario: Scenario, seed: int, faults: Sequence[Fault]) -> Trial:
    """One run, the same each time."""
    happened: Counter[str] = Counter()
    world = World(scenario.job, seed, Promises(scenario.expected), scenario.settings())
    failure = ""
    try:
        run_with(world, faults, happened)
    except PromiseBroken as error:
        failure = str(error)
    except SaddlebagError as error:  # out of a check, such as that of a log
        failure = f"{type(error).__name__}: {error}"
    return Trial(failure, happened, world.states, world.clock.passed, world.rounds, world.clock.now)


def trial(seed: int, *, count: int = 40) -> Trial:
    """The run of a seed, with `count` faults planned."""
    scenario, faults = scenario_of(seed, count=count)
    return replay(scenario, seed, faults)


def _promise(failure: str) -> str:
    return failure.partition(":")[0]


def shrunk(scenario: Scenario, seed: int, faults: Sequence[Fault], *, tries: int = 400) -> list[Fault]:
    """A shorter script that breaks the same promise: halves are left out, then quarters, and in the end single faults."""
    promise = _promise(replay(scenario, seed, faults).failure)
    kept, width = list(faults), max(1, len(faults) // 2)
    while True:
        at, found = 0, False
        while at < len(kept) and tries > 0:
            fewer = kept[:at] + kept[at + width :]
            tries -= 1
            if _promise(replay(scenario, seed, fewer).failure) == promise:
                kept, found = fewer, True
            else:
                at += width
        if tries <= 0 or (width == 1 and not found):
            return kept
        width = max(1, width // 2)


def as_code(scenario: Scenario, seed: int, faults: Sequence[Fault]) -> str:
    """The script as a program."""
    lines = "".join(f"    {fault!r},\n" for fault in faults)
    return f"faults = [\n{lines}]\nprint(replay({scenario!r}, {seed}, faults).failure)"
