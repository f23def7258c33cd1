"""The in-process driver: all workers and the server in one loop. The reference for every other driver."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from saddlebag.algorithms.averages.robust import rule_of_round
from saddlebag.algorithms.averages.stack import alignments_of, collector
from saddlebag.algorithms.judging import DIVERGED, LIMITS, ForeseesVerdicts, Judge, Spent, Stop, Verdict
from saddlebag.algorithms.participation import Arrears, Selective, catch_up, catch_up_sizes, participants
from saddlebag.algorithms.wrapped import sum_dtype
from saddlebag.compression import SERVER, Draws, Mean
from saddlebag.errors import ConfigError, NotFiniteError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy.typing as npt

    from saddlebag.algorithms.averages.robust import RobustMean
    from saddlebag.algorithms.base import AnyMethod, Message, Problem
    from saddlebag.compression import Vector

__all__ = [
    "DIVERGED",
    "LIMITS",
    "ForeseesVerdicts",
    "Judge",
    "Outcome",
    "Record",
    "Spent",
    "Stop",
    "Verdict",
    "form_means",
    "simulate",
]


class Wire(Protocol):
    """What lies between two halves: a message goes in, the message as received and its size in bytes come out."""

    def carry(self, message: Message, sizes: tuple[int, ...], draws: Draws) -> tuple[Message, int]: ...


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
    """How a run ended; contributions where they were asked for, by worker: see `simulate`.

    Example:
        >>> outcome = Outcome(None, 3, "max_rounds", 96, 48, ())
        >>> outcome.reason, outcome.up_bytes + outcome.down_bytes
        ('max_rounds', 144)
    """

    replica: Any
    rounds: int
    reason: str
    up_bytes: int
    down_bytes: int
    history: tuple[Record, ...]
    contributions: tuple[float, ...] = dataclasses.field(default=(), kw_only=True)


def form_means(
    sizes: tuple[int, ...],
    messages: Iterator[Message],
    count: int,
    dtype: npt.DTypeLike = np.float64,
    *,
    rule: RobustMean | None = None,
    alignment_M: Vector | None = None,
) -> tuple[Mean, ...]:
    """The mean of each part over the messages, summed in the order in which they come: worker order; see `sum_dtype`.

    `rule` takes the place of the mean. To `alignment_M`, where it is given, is added how far each message goes where they go
    together (`Stack`).

    Example:
        >>> from saddlebag.algorithms import Message
        >>> from saddlebag.compression import Dense
        >>> messages = (Message((Dense(np.full(2, value)),)) for value in (1.0, 3.0))
        >>> form_means((2,), messages, 2)[0].dense().tolist()
        [2.0, 2.0]
    """
    sums = [collector(size, count, rule, scored=alignment_M is not None, dtype=dtype) for size in sizes]
    for message in messages:
        for total, payload in zip(sums, message.parts, strict=True):
            total.add(payload)
    if alignment_M is not None:
        alignment_M += alignments_of(sums)
    return tuple(total.mean(count) for total in sums)


class _InProcess:
    """All workers and the server of a run, round by round."""

    def __init__(
        self, problem: Problem, method: AnyMethod, seed: int, wire: Wire, rule: RobustMean | None, scored: bool
    ) -> None:
        self._method, self._seed, self._wire, self._rule = method, seed, wire, rule
        self._operators = [problem.operator(worker) for worker in range(problem.num_workers)]
        self.replica = method.init_replica(problem.start())
        self._workers = [method.init_worker(self.replica) for _ in self._operators]
        self._server = method.init_server(self.replica)
        self._members, self._arrears = tuple(range(len(self._operators))), Arrears(len(self._operators))
        self.up_bytes = self.down_bytes = self.rounds = 0
        self.contribution_W = np.zeros(len(self._operators)) if scored else None

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
        alignment_M = None if self.contribution_W is None else np.zeros(len(active))
        scores = None if self.contribution_W is None else self.contribution_W[list(active)]
        ways: dict[str, Any] = {"rule": rule_of_round(self._rule, scores), "alignment_M": alignment_M}
        means = form_means(sizes, iter(received), len(received), sum_dtype(method), **ways)
        if self.contribution_W is not None and alignment_M is not None:
            self.contribution_W[list(active)] += alignment_M / len(active)
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

    @property
    def contributions(self) -> tuple[float, ...]:
        """By worker; none where they were not asked for."""
        return () if self.contribution_W is None else tuple(self.contribution_W.tolist())

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
    clock: Callable[[], float] | None = None,
    rule: RobustMean | None = None,
    scored: bool = False,
) -> Outcome:
    """Run a method on a problem in this process.

    Every message passes through `wire`, so the trajectory is bit for bit that of processes on a network, and the byte
    counts are lengths of encoded messages. A run whose messages overflow ends as "diverged"; every run has a last record.
    `watch` is that of `Judge`; `clock`, in seconds, is what `stop.max_seconds` looks at; `rule` takes the place of the mean,
    and the method is one that bears it (`averages.means.require_robust`). With `scored` the outcome has every worker's
    contribution: the sum over rounds of the Shapley values of |mean of the uplinks|^2 (`averages/contribution.py`).

    Raises:
        ConfigError: `stop` limits the seconds, and there is no clock.

    Example:
        >>> import saddlebag as sb
        >>> class Float32:
        ...     def carry(self, message, sizes, draws):
        ...         return message, 4 * sum(sizes)
        >>> game = sb.make_problem("bilinear", n=5, workers=2)
        >>> ogda = sb.make_method("ogda", game, step_size=0.1)
        >>> run = simulate(game, ogda, seed=0, stop=Stop(max_rounds=3), wire=Float32())
        >>> run.reason, run.up_bytes  # of two workers, three rounds, ten coordinates
        ('max_rounds', 240)
    """
    if stop.max_seconds is not None and clock is None:
        raise ConfigError(f"stop.max_seconds = {stop.max_seconds:g} needs a clock")
    clock = clock or (lambda: 0.0)
    begin_s = clock()
    judge, run = Judge(problem, stop, watch=watch), _InProcess(problem, method, seed, wire, rule, scored)
    history: list[Record] = []
    reason = None
    while reason is None:
        before = run.replica
        try:
            run.round()
        except NotFiniteError:
            verdict = judge.overflow(run.rounds, run.replica)
        else:
            spent = Spent(run.up_bytes + run.down_bytes, clock() - begin_s)
            verdict = judge(run.rounds, before, run.replica, spent)
            if verdict.reason is not None:
                run.end()
        reason = verdict.reason
        if verdict.merits is not None:
            record = Record(run.rounds, run.replica.iteration, verdict.merits, run.up_bytes, run.down_bytes)
            history += [record] if keep_history else []
            if observe is not None:
                observe(record)
    ended = run.replica, run.rounds, reason, run.up_bytes, run.down_bytes, tuple(history)
    return Outcome(*ended, contributions=run.contributions)
