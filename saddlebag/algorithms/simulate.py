"""The in-process driver: all workers and the server in one loop. The reference for every other driver."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from saddlebag.algorithms.participation import Arrears, Selective, catch_up, catch_up_sizes, participants
from saddlebag.compression import SERVER, Draws, Mean, Sum
from saddlebag.errors import ConfigError, NotFiniteError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from saddlebag.algorithms.base import AnyMethod, Message, Problem

__all__ = ["DIVERGED", "ForeseesVerdicts", "Judge", "Outcome", "Record", "Stop", "Verdict", "Wire", "form_means", "simulate"]

DIVERGED = "diverged"
"""Why a run ended whose merit or messages grew without bound."""
_TOO_LARGE = 1e6  # times the merit at the start


class Wire(Protocol):
    """What lies between two halves: a message goes in, the message as received and its size in bytes come out."""

    def carry(self, message: Message, sizes: tuple[int, ...], draws: Draws) -> tuple[Message, int]: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stop:
    """When a run ends.

    Attributes:
        merit: stop once the problem's first merit is at most this.
        max_rounds, max_iterations: stop after so many; at least one of the three limits is given.
        every: iterations between evaluations of the merit.

    Example:
        >>> import saddlebag as sb
        >>> sb.Stop(merit=1e-6, max_rounds=1000, every=10)
        Stop(merit=1e-06, max_rounds=1000, max_iterations=None, every=10)
    """

    merit: float | None = None
    max_rounds: int | None = None
    max_iterations: int | None = None
    every: int = 1

    def __post_init__(self) -> None:
        if self.merit is None and self.max_rounds is None and self.max_iterations is None:
            raise ConfigError("stop needs one of merit, max_rounds and max_iterations")
        for name in ("max_rounds", "max_iterations", "every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"stop.{name} must be at least 1, got {value}")
        if self.merit is not None and not self.merit > 0:
            raise ConfigError(f"stop.merit must be positive, got {self.merit}")


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The merits at a round boundary, if they were due, and why the run ends there, if it does."""

    merits: Mapping[str, float] | None
    reason: str | None


@runtime_checkable
class ForeseesVerdicts(Protocol):
    """A judge that may know before a round that its verdict will be one of nothing."""

    def passes(self, rounds: int, before: Any) -> bool:
        """Whether the last of `rounds` rounds, which begins at `before`, ends neither with an evaluation nor the run."""


class Judge:
    """Evaluates merits when they are due and decides when a run ends: a function of (round, replica) alone.

    Merits are no part of the method: they are computed on the side and cost no counted traffic. `watch` is told the rounds,
    the replica and the verdict of every round, in whatever driver: for progress and pictures.
    """

    def __init__(
        self,
        problem: Problem,
        stop: Stop,
        *,
        watch: Callable[[int, Any, Verdict], None] = lambda rounds, replica, verdict: None,
    ) -> None:
        self._problem, self._stop, self._watch = problem, stop, watch
        at_start = problem.merits(problem.start())
        self._names = tuple(at_start)
        self._limit = _TOO_LARGE * (next(iter(at_start.values())) or 1.0)
        self._evaluated = -1

    def __call__(self, rounds: int, before: Any, after: Any) -> Verdict:
        """The verdict after `rounds` rounds, the last of which took the replica from `before` to `after`."""
        verdict = self._verdict(rounds, before, after)
        if verdict.merits is not None:
            self._evaluated = rounds
        self._watch(rounds, after, verdict)
        return verdict

    def overflow(self, rounds: int, replica: Any) -> Verdict:
        """The verdict on a run whose next round cannot be sent: its last boundary's merits, unless they were told already.

        Merits that have no value there are NaN.
        """
        merits: Mapping[str, float] | None = None
        if self._evaluated != rounds:
            try:
                with np.errstate(over="ignore", invalid="ignore"):
                    merits = self._problem.merits(replica.z_D)
            except NotFiniteError:
                merits = dict.fromkeys(self._names, math.nan)
        verdict = Verdict(merits, DIVERGED)
        self._watch(rounds, replica, verdict)
        return verdict

    def passes(self, rounds: int, before: Any) -> bool:
        """Whether the last of `rounds` rounds, which begins at `before`, will have a verdict of nothing, wherever it leads.

        No round takes the iteration further than by one.
        """
        stop, iteration = self._stop, before.iteration + 1
        over = rounds >= (stop.max_rounds or math.inf) or iteration >= (stop.max_iterations or math.inf)
        return not over and iteration % stop.every != 0

    def _verdict(self, rounds: int, before: Any, after: Any) -> Verdict:
        stop = self._stop
        reason = None
        if stop.max_rounds is not None and rounds >= stop.max_rounds:
            reason = "max_rounds"
        moved = after.iteration > before.iteration
        if stop.max_iterations is not None and after.iteration >= stop.max_iterations:
            reason = reason or "max_iterations"
        if reason is None and not (moved and after.iteration % stop.every == 0):
            return Verdict(None, None)
        merits = self._problem.merits(after.z_D)
        merit = next(iter(merits.values()))
        if stop.merit is not None and merit <= stop.merit:
            reason = "merit"
        elif not math.isfinite(merit) or merit > self._limit:
            reason = DIVERGED
        return Verdict(merits, reason)


@dataclasses.dataclass(frozen=True)
class Record:
    """One line of a run's history; bytes are encoded messages summed over the workers since the start.

    Example:
        >>> import saddlebag as sb
        >>> sb.Record(1, 1, {"relative_error": 0.5}, 100, 100).merits
        {'relative_error': 0.5}
    """

    round: int
    iteration: int
    merits: Mapping[str, float]
    up_bytes: int
    down_bytes: int


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    replica: Any
    rounds: int
    reason: str
    up_bytes: int
    down_bytes: int
    history: tuple[Record, ...]


def form_means(sizes: tuple[int, ...], messages: Iterator[Message], count: int) -> tuple[Mean, ...]:
    """The mean of each part over the messages, summed in the order in which they come: worker order."""
    sums = [Sum(size) for size in sizes]
    for message in messages:
        for total, payload in zip(sums, message.parts, strict=True):
            total.add(payload)
    return tuple(total.mean(count) for total in sums)


class _InProcess:
    """All workers and the server of a run, round by round."""

    def __init__(self, problem: Problem, method: AnyMethod, seed: int, wire: Wire) -> None:
        self._method, self._seed, self._wire = method, seed, wire
        self._operators = [problem.operator(worker) for worker in range(problem.num_workers)]
        self.replica = method.init_replica(problem.start())
        self._workers = [method.init_worker(self.replica) for _ in self._operators]
        self._server = method.init_server(self.replica)
        self._members, self._arrears = tuple(range(len(self._operators))), Arrears(len(self._operators))
        self.up_bytes = self.down_bytes = self.rounds = 0

    def round(self) -> None:
        """One round; raises `NotFiniteError`, and the round does not count, when a message cannot be sent."""
        method, replica, draws = self._method, self.replica, Draws(self._seed, self.rounds, SERVER)
        sizes, received, up_bytes = method.uplink_sizes(replica, draws), [], 0
        active = participants(method, replica, draws, self._members)
        self._bring(active)
        for worker in active:
            mine = draws.of(worker)
            self._workers[worker], up = method.worker_step(replica, self._workers[worker], self._operators[worker], mine)
            up, num_bytes = self._wire.carry(up, sizes, mine)
            received.append(up)
            up_bytes += num_bytes
        means = form_means(sizes, iter(received), len(received))
        self._server, down = method.server_step(replica, self._server, means, draws)
        down, down_bytes = self._wire.carry(down, method.downlink_sizes(replica, draws), draws)
        self.replica = method.replay(replica, down, draws)
        self.up_bytes += up_bytes
        self.down_bytes += down_bytes * len(received)
        self.rounds += 1
        self._arrears.receive(active, self.rounds, down_bytes)

    def _bring(self, workers: tuple[int, ...]) -> None:
        """Count what brings these workers to the present boundary; here they share one replica."""
        if all(self._arrears.boundary(worker) == self.rounds for worker in workers):
            return
        method, replica = self._method, self.replica
        assert isinstance(method, Selective)
        draws = Draws(self._seed, self.rounds, SERVER)
        _, num_bytes = self._wire.carry(catch_up(method, replica), catch_up_sizes(method, replica), draws)
        costs = self._arrears.costs(workers, self.rounds, num_bytes)
        self.down_bytes += sum(cost for cost, _ in costs.values())

    def end(self) -> None:
        """The run is over: everybody is brought to the last iterate."""
        self._bring(self._members)


def simulate(
    problem: Problem,
    method: AnyMethod,
    *,
    seed: int,
    stop: Stop,
    wire: Wire,
    observe: Callable[[Record], None] | None = None,
    watch: Callable[[int, Any, Verdict], None] = lambda rounds, replica, verdict: None,
    keep_history: bool = True,
) -> Outcome:
    """Run a method on a problem in this process.

    Every message passes through `wire`, so the trajectory is bit for bit that of processes on a network, and the byte
    counts are lengths of encoded messages. A run whose messages overflow ends as "diverged"; every run has a last record.
    `watch` is that of `Judge`.
    """
    judge, run = Judge(problem, stop, watch=watch), _InProcess(problem, method, seed, wire)
    history: list[Record] = []
    reason = None
    while reason is None:
        before = run.replica
        try:
            run.round()
        except NotFiniteError:
            verdict = judge.overflow(run.rounds, run.replica)
        else:
            verdict = judge(run.rounds, before, run.replica)
            if verdict.reason is not None:
                run.end()
        reason = verdict.reason
        if verdict.merits is not None:
            record = Record(run.rounds, run.replica.iteration, verdict.merits, run.up_bytes, run.down_bytes)
            if keep_history:
                history.append(record)
            if observe is not None:
                observe(record)
    return Outcome(run.replica, run.rounds, reason, run.up_bytes, run.down_bytes, tuple(history))
