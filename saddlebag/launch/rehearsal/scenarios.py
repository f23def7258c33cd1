"""Small runs to look for faults with: families of methods, policies and machines, drawn from a seed."""

from __future__ import annotations

import dataclasses
import functools
import random
from typing import TYPE_CHECKING, Any

from saddlebag.launch.job import Job
from saddlebag.launch.recipe.recipe import recipe_from_dict
from saddlebag.launch.rehearsal.faults import draw
from saddlebag.launch.rehearsal.promises import Reference, reference
from saddlebag.launch.rehearsal.world import Settings

if TYPE_CHECKING:
    from saddlebag.launch.rehearsal.faults import Fault

__all__ = ["METHODS", "Scenario", "kinds_for", "scenario_of"]

_RAND: dict[str, Any] = {"name": "rand_k", "fraction": 0.25}
_GRID: dict[str, Any] = {"name": "grid"}
_TOP: dict[str, Any] = {"name": "top_k", "k": 2}
METHODS: dict[str, dict[str, Any]] = {
    "masha1": {"name": "masha1", "step_size": 0.1, "probability": 0.1, "up": _RAND, "down": {"name": "natural"}},
    "masha1, one takes part": {
        "name": "masha1",
        "step_size": 0.1,
        "probability": 0.1,
        "participants": 1,
        "up": _RAND,
        "down": {"name": "identity"},
    },
    "masha1, two take part, auto": {
        "name": "masha1",
        "step_size": "auto",
        "probability": 0.2,
        "participants": 2,
        "up": _RAND,
        "down": {"name": "natural"},
    },
    "masha2": {"name": "masha2", "step_size": 0.1, "probability": 0.2, "up": _TOP, "down": _TOP},
    "ogda": {"name": "ogda", "step_size": 0.1},
    "extragradient": {"name": "extragradient", "step_size": 0.1},
    "innovations, auto": {"name": "innovations", "step_size": "auto", "up": _GRID, "down": {"name": "grid", "step": 0.5}},
    "three_pillars": {
        "name": "three_pillars",
        "step_size": 0.3,
        "participants": 2,
        "probability": 0.2,
        "up": {"name": "identity"},
        "down": {"name": "identity"},
    },
    "compressed_adamw, local steps": {
        "name": "compressed_adamw",
        "step_size": 0.05,
        "memory": "innovations",
        "momentum_up": 0.5,
        "local_steps": 2,
        "local_step_size": 0.02,
        "local_rule": "adamw_kept",
        "up": _TOP,
        "down": _GRID,
    },
    "diloco, a quorum": {
        "name": "diloco",
        "step_size": 0.7,
        "momentum": 0.6,
        "local_steps": 3,
        "local_step_size": 0.02,
        "up": _TOP,
        "down": _GRID,
    },
    "compressed_sgd, a quorum": {"name": "compressed_sgd", "step_size": 0.05, "momentum": 0.0, "up": _TOP, "down": _GRID},
}
"""Families of methods, by a name for people."""
_QUORUM = (("quorum", 2), ("grace_s", 0.003), ("weights", "samples"))
ROUNDS = 24


@dataclasses.dataclass(frozen=True)
class Scenario:
    """What is run, without what goes wrong.

    Attributes:
        method: a key of `METHODS`.
        every: rounds between checkpoints.
        on_lost: "pause" or "drop".
        lease_s: of a worker.
        frame_bytes: of an uplink; small ones make a message of many frames.
        window: bytes of a stream before its sender waits.
        threaded_s: how long the end of a round takes beside the streams; None for no time.
        write_s: how long writing a checkpoint takes at least.
        workers: how many.
    """

    method: str
    every: int = 5
    on_lost: str = "pause"
    lease_s: float = 10.0
    frame_bytes: int = 1 << 20
    window: int = 1 << 16
    threaded_s: float | None = None
    write_s: float = 0.002
    workers: int = 3

    def settings(self) -> Settings:
        server: tuple[tuple[str, Any], ...] = (
            ("on_lost", self.on_lost),
            ("lease_s", self.lease_s),
            ("round_deadline_s", 3600.0),
        )
        server += _QUORUM if self.merges else ()
        return Settings(
            frame_bytes=self.frame_bytes,
            window=self.window,
            threaded_s=self.threaded_s,
            write_s=self.write_s,
            server=server,
            backlog_bytes=64,
            busy_s=0.02,
            late_writes=0.2,
        )

    @property
    def merges(self) -> bool:
        """Whether rounds close at a quorum: then no trajectory is promised but that of the log."""
        return "quorum" in self.method

    @property
    def expected(self) -> Reference | None:
        """The undisturbed run, where the policy promises its trajectory."""
        return _reference(self.method, self.every, self.workers) if self.on_lost == "pause" and not self.merges else None

    @property
    def job(self) -> Job:
        return _job(self.method, self.every, self.workers)


@functools.cache
def _job(method: str, every: int, workers: int) -> Job:
    """Drops are decided by the core's settings; what a drop makes of a method that needs everybody is none of ours."""
    return Job.lead(
        recipe_from_dict(
            {
                "workers": workers,
                "seed": 7,
                "problem": {"name": "bilinear", "n": 4, "regularisation": 0.2},
                "method": METHODS[method],
                "stop": {"max_rounds": ROUNDS, "every": 7},
                "checkpoint": {"every": every},
            }
        ),
        "grpc",
    )


@functools.cache
def _reference(method: str, every: int, workers: int) -> Reference:
    return reference(_job(method, every, workers))


_PROCESSES = ("kill", "kill", "kill", "vanish", "stop", "slow_disk", "disk_full", "clock_step")
_ALWAYS = (
    *_PROCESSES,
    "cut",
    "cut",
    "half",
    "silence",
    "delay",
    "throttle",
    "slow_reader",
    "corrupt",
    "late_join",
    "deaf",
    "refused",
)


def kinds_for(scenario: Scenario) -> tuple[str, ...]:
    """What may go wrong there without anybody being told an error, but for a full disk; who loses its state costs an epoch."""
    return (*_ALWAYS, "wipe", "wipe") if scenario.on_lost == "drop" else _ALWAYS


def scenario_of(seed: int, *, count: int) -> tuple[Scenario, list[Fault]]:
    """A scenario and a script of so many faults, by a seed."""
    rng = random.Random(seed)
    drop = rng.random() < 0.3
    scenario = Scenario(
        method=rng.choice(list(METHODS)),
        every=rng.choice([1, 2, 5, 16]),
        on_lost="drop" if drop else "pause",
        lease_s=rng.choice([0.2, 1.0, 3.0]) if drop else 10.0,
        frame_bytes=rng.choice([16, 64, 1 << 20]),
        window=rng.choice([64, 1 << 16]),
        threaded_s=rng.choice([None, None, 0.001, 0.01]),
        write_s=rng.choice([0.0005, 0.002, 0.03, 0.2]),
    )
    gap_s = rng.choice([0.003, 0.01, 0.04, 0.15])
    return scenario, draw(rng, scenario.workers, count, gap_s, kinds_for(scenario))
