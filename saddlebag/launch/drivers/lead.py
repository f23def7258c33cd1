"""The lead of a sharded run, which is worker 0: it has the whole iterate at every boundary, judges, and keeps what is kept."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from saddlebag.algorithms import DIVERGED, Record, Spent
from saddlebag.algorithms.slicing import joined
from saddlebag.launch.results.history import read_history
from saddlebag.launch.results.outputs import Outputs
from saddlebag.launch.results.progress import PROGRESS, throttled, write_progress
from saddlebag.launch.results.results import METRICS, RESULT
from saddlebag.proto.checkpoint import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from saddlebag.client.shards import SliceCore
    from saddlebag.compression import Vector
    from saddlebag.launch.job import Job

__all__ = ["Cost", "Lead"]


_ALL = 2**63  # rounds


class Cost(NamedTuple):
    """What a run has cost up to a boundary, over all its shards: encoded messages, and the seconds of the slowest."""

    up_bytes: int = 0
    down_bytes: int = 0
    seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class _Whole:
    """What a judge reads of the replicas of all slices at one boundary."""

    parts: Sequence[Any]

    @property
    def iteration(self) -> int:
        return min(int(part.iteration) for part in self.parts)

    @functools.cached_property
    def z_D(self) -> Vector:
        """Of all slices; made where somebody asks."""
        return np.concatenate([part.z_D for part in self.parts])


@dataclasses.dataclass(frozen=True)
class _Before:
    """What a judge reads of the boundary before."""

    iteration: int


class Lead:
    """Judges a sharded run at each boundary (`watch`, for `Meeting`), and writes its history and result under a folder.

    Args:
        job: the whole one.
        out: the folder.
        cost: asks the shards, which stand at the boundary of a round, or beyond it: then it is None.
    """

    def __init__(self, job: Job, out: Path, cost: Callable[[int], Cost | None]) -> None:
        self._job, self._out, self._ask = job, out, cost
        self._judge = job.judge(watch=lambda rounds, replica, verdict: self._kept(rounds).watch(rounds, replica, verdict))
        self._cores: Sequence[SliceCore] = ()
        self._before: _Before | None = None
        self._outputs: Outputs | None = None
        self._last = (0, 0)  # round and iteration of the last record
        self._cost, self._ended, self._begin = Cost(), False, time.monotonic()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Lead:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def follow(self, cores: Sequence[SliceCore]) -> None:
        """The cores of this worker, which stand still whenever `watch` is called."""
        self._cores = cores

    def watch(self, round_: int) -> bool:
        """Whether the run ends at this boundary; what was recorded before a shard went back is not recorded again.

        Raises:
            BrokenStream: a shard does not say what the run has cost.
        """
        outputs, whole, stop = self._kept(round_), _Whole([core.replica for core in self._cores]), self._job.recipe.stop
        before, self._before = self._before or _Before(whole.iteration - 1), _Before(whole.iteration)
        if round_ < self._last[0]:  # judged before some slices went back, or this process began
            return False
        spent = None
        if stop.max_bytes is not None or stop.max_seconds is not None:
            if (cost := self._ask(round_)) is None:
                return False
            spent = Spent(cost.up_bytes + cost.down_bytes, cost.seconds)
        verdict = self._judge(round_, before, whole, spent)
        if verdict.merits is not None and (cost := self._ask(round_)) is not None:
            self._cost = cost
            self._record(outputs, (round_, whole.iteration), verdict.merits, ends=verdict.reason is not None)
        if verdict.reason is not None:
            self._end(verdict.reason, round_)
        return self._ended

    def over(self) -> None:
        """All shards have ended. Where this is news, an uplink or a downlink could not be sent."""
        if self._ended or (self._out / RESULT).exists():
            return
        round_ = min(core.round for core in self._cores)
        whole = _Whole([core.replica for core in self._cores])
        verdict = self._judge.overflow(round_, whole)
        if verdict.merits is not None:
            self._record(self._kept(round_), (round_, whole.iteration), verdict.merits, ends=verdict.reason is not None)
        self._end(DIVERGED, round_)

    def _kept(self, round_: int) -> Outputs:
        """What is written, from the first boundary at which all slices stand."""
        if self._outputs is None:
            if round_ == 0:
                (self._out / RESULT).unlink(missing_ok=True)
            tell = throttled(functools.partial(write_progress, self._out / PROGRESS))
            upto = round_ and _ALL  # what was recorded later stands: the rounds between are computed again, to the same bits
            ways: dict[str, Any] = {"upto_round": upto, "progress": tell}
            self._outputs = self._stack.enter_context(Outputs(self._job.recipe, self._job.problem, self._out, **ways))
            lines = read_history(self._out / METRICS)
            self._last = max(((line["round"], line["iteration"]) for line in lines), default=(0, 0))
        return self._outputs

    def _record(self, outputs: Outputs, at: tuple[int, int], merits: Mapping[str, float], *, ends: bool) -> None:
        """A line of the history, at a round and an iteration; none for what has one, but for the end's."""
        (round_, iteration), (last_round, last_iteration) = at, self._last
        if round_ > last_round and (ends or iteration > last_iteration):
            outputs.record(Record(round_, iteration, merits, self._cost.up_bytes, self._cost.down_bytes))
            self._last = at

    def _end(self, reason: str, round_: int) -> None:
        """Write the result, before any shard hears of the end."""
        method, problem = self._job.method, self._job.problem
        result = self._job.result(
            driver="grpc",
            reason=reason,
            rounds=round_,
            replica=joined(method.init_replica(problem.start()), [core.replica for core in self._cores]),
            up_bytes=self._cost.up_bytes,
            down_bytes=self._cost.down_bytes,
            shards=len(self._cores),
            elapsed_s=time.monotonic() - self._begin,
        )
        write_atomically(self._out / RESULT, (json.dumps(result, indent=2) + "\n").encode())
        self._ended = True
