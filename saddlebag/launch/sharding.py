"""The job of one of several servers, and what a worker of all of them makes of it: `server.shards`.

    shard_of(job, number)       the job of one server: its slice of the problem, the method on it
    shards_of(job)              all of them
    Agreement(job).take(...)    what the servers say that they have agreed on, each for itself

What cannot be divided is refused here, by name, before a process starts.
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from saddlebag.algorithms.judging import Verdict
from saddlebag.algorithms.slicing import SliceOfProblem, cut, differences, require_sliceable, sliced
from saddlebag.errors import ConfigError, RemoteProtocolError
from saddlebag.launch.build import build_method
from saddlebag.launch.job import Job
from saddlebag.launch.recipe.fields import at

if TYPE_CHECKING:
    from collections.abc import Callable

    from saddlebag.algorithms import AnyMethod, Problem, Spent
    from saddlebag.launch.recipe.recipe import Recipe

__all__ = ["Agreement", "ShardJob", "require_shards", "shard_of", "shards_of"]

_SHARD = "shard"  # beside the numbers that are agreed on: which of how many a server is


class _Onlooker:
    """The judge of a shard, which sees no whole iterate: the run ends where the lead says."""

    def __init__(self, watch: Callable[[int, Any, Verdict], None]) -> None:
        self._watch = watch

    def __call__(self, rounds: int, before: Any, after: Any, spent: Spent | None = None) -> Verdict:
        del before, spent
        self._watch(rounds, after, nothing := Verdict(None, None))
        return nothing

    def passes(self, rounds: int, before: Any, spent: Spent | None = None) -> bool:
        """Always: its verdict is one of nothing."""
        del rounds, before, spent
        return True


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardJob(Job):
    """The job of one server of several: problem and method are those of its slice.

    Attributes:
        number: of the shard, from 0.
        here: its coordinates.
    """

    number: int
    here: slice

    def judge(self, watch: Callable[[int, Any, Verdict], None] = lambda rounds, replica, verdict: None) -> Any:
        """One that lets the run go on."""
        return _Onlooker(watch)


def shard_of(job: Job, number: int) -> ShardJob:
    """The job of one server of a whole job's.

    Raises:
        ConfigError: there is no such shard, or the job cannot be divided.
    """
    shards = job.recipe.server.shards
    if not 0 <= number < shards:
        raise ConfigError(f"--shard must lie in [0, {shards}), for server.shards = {shards}; got {number}")
    return shards_of(job)[number]


def shards_of(job: Job) -> list[ShardJob]:
    """The jobs of all servers of a whole job; errors as `shard_of`."""
    require_sliceable(job.method, job.problem)
    slices, shards = cut(job.problem, job.recipe.server.shards), job.recipe.server.shards
    return [
        ShardJob(
            recipe=job.recipe,
            problem=SliceOfProblem(job.problem, here),
            method=_sliced(job.method, here, job.problem.dimension),
            agreed=json.dumps({**json.loads(job.agreed or "{}"), _SHARD: [number, shards]}, sort_keys=True),
            number=number,
            here=here,
        )
        for number, here in enumerate(slices)
    ]


def _sliced(method: AnyMethod, here: slice, d: int) -> AnyMethod:
    with at(f"the slice of coordinates {here.start} to {here.stop - 1}"):
        return sliced(method, here, d)


def require_shards(resolved: Recipe, problem: Problem) -> list[str]:
    """Refuse what cannot be divided among the recipe's shards, and say how the run differs from that of one server.

    Args:
        resolved: a recipe of one method, with numbers.
        problem: the recipe's.

    Raises:
        ConfigError: a setting, the method, a compressor or the problem does not allow it; the message names it.
    """
    if resolved.server.shards == 1:
        return []
    job = Job(recipe=resolved, problem=problem, method=build_method(resolved, problem), agreed="")
    parts = shards_of(job)
    parts[0].server_core(0.0)  # refuses settings
    found = differences(job.method, [part.here for part in parts], problem.dimension)
    return [
        f"{resolved.label}: each shard has a compressor {name!r} of its own, "
        "which does not send what one of the whole vector would"
        for name in found
    ]


class Agreement:
    """The numbers that the shards have agreed on, and the methods with them; each must say the same, and who it is.

    Args:
        job: that waits for them.
    """

    def __init__(self, job: Job) -> None:
        self._job, self._said = job, ""
        self._methods: list[AnyMethod] = []

    def take(self, number: int, said: str) -> AnyMethod:
        """The method of a slice, by what the shard there has said.

        Raises:
            ConfigError: it is another shard, or its numbers are others.
            RemoteProtocolError: it has said no such thing.
        """
        try:
            numbers = json.loads(said)
            shard = numbers.pop(_SHARD, [0, 1])
        except (ValueError, AttributeError, TypeError, RecursionError) as error:
            raise RemoteProtocolError(f"the server's resolved settings are malformed: {error}") from error
        if shard != [number, self._job.recipe.server.shards]:
            raise ConfigError(
                f"the server for slice {number} is shard {shard}, expected {[number, self._job.recipe.server.shards]}; "
                "give the servers' addresses in the order of their shards"
            )
        agreed = json.dumps(numbers, sort_keys=True)
        if not self._methods:
            self._methods, self._said = [part.method for part in shards_of(self._job.agreeing(agreed))], agreed
        if agreed != self._said:
            raise ConfigError(f"the shards have agreed on different numbers: {self._said} and {agreed}, of shard {number}")
        return self._methods[number]
