"""Rounds that close without waiting for everybody: what a late worker says counts in a later round, and how much.

An uplink is made once, in a round t, and sent until some round r >= t counts it; r - t is its *age*. Until then its worker
keeps it and makes no other; its replica goes on with everybody's. A round that has counted the uplinks c_m of workers m
replaces the mean by

    sum_m w_m s(r - t_m) c_m / sum_m w_m        s = `late_weight`: 1 at age 0

where w_m is 1 or the samples behind c_m. The discount s is not normalised away: what comes late moves the point less, whoever
came with it (FedBuff: Nguyen, Malik, Zhan, Yousefpour, Rabbat, Malek, Huba 2022).

Who was counted in which round with how many samples is the log of a run: given it, everything else follows, to the last bit
(`replayed`).

Shapes: D = coordinates.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np

from saddlebag.algorithms.participation import Selective
from saddlebag.compression import SERVER, Draws, Mean, Seeded, Sparse
from saddlebag.errors import ConfigError, StateError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from saddlebag.algorithms.base import AnyMethod, Message, Problem
    from saddlebag.algorithms.simulate import Wire
    from saddlebag.compression import Payload, Vector

__all__ = ["Mergeable"]

Weights = Literal["equal", "samples"]
"""What a worker's word weighs: as everybody else's, or the samples behind it."""

WHOLE = 1 << 16
"""A share that is all of the steps."""

Piece = tuple[int, int, "Payload"]
"""A part of an uplink, the first coordinate there, and what comes from it on."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Counted:
    """An uplink that a round has counted.

    Attributes:
        worker: whose.
        age: rounds since it was made.
        samples: behind it, at least 1.
        share: of the steps between exchanges that this worker is to make, in 1/65536: how fast it was beside the fastest.
    """

    worker: int
    age: int = 0
    samples: int = 1
    share: int = WHOLE


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arrivals:
    """What the log of a run says of a round.

    Attributes:
        round: its number.
        counted: by worker, ascending.
        joined: workers that began without a state at its boundary.
    """

    round: int
    counted: tuple[Counted, ...]
    joined: tuple[int, ...] = ()


@runtime_checkable
class Mergeable(Protocol):
    """A method whose rounds may close without some workers, or weigh them: a worker's memory concerns nobody else.

    Example:
        >>> class Merging:
        ...     unmergeable = ""
        ...
        ...     def late_weight(self, age):
        ...         return (1 + age) ** -0.5
        >>> isinstance(Merging(), Mergeable), Merging().late_weight(3)
        (True, 0.5)
    """

    @property
    def unmergeable(self) -> str:
        """Why these parameters do not allow it; empty where they do."""

    def late_weight(self, age: int) -> float:
        """s(age) in (0, 1], 1 at age 0.

        Example:
            >>> late_weight(0), late_weight(3)
            (1.0, 0.5)
        """


def late_weight(age: int) -> float:
    """1 / sqrt(1 + age): FedBuff's discount, for changes and gradients that were made at an older point.

    Example:
        >>> late_weight(0), late_weight(3)
        (1.0, 0.5)
    """
    return float((1 + age) ** -0.5)


def require_mergeable(method: AnyMethod, what: str) -> Mergeable:
    """The method as one whose rounds may close without some workers.

    Args:
        method: of a run.
        what: setting that asks for it, for the message.

    Raises:
        ConfigError: it is none, and why.
    """
    name = type(method).__name__
    if isinstance(method, Selective):
        why = "it draws beforehand who takes part in a round, so that all know"
    elif not isinstance(method, Mergeable):
        why = "its server knows what every worker has sent, and its step is for the plain mean of all of them"
    elif not method.unmergeable:
        return method
    else:
        why = method.unmergeable
    raise ConfigError(f"{what} cannot be kept by {name}: {why}; use a method of local steps, or feedback memories")


def _add(out_D: Vector, payload: Payload, weight: float) -> None:
    if weight == 1.0:
        payload.add_to(out_D)
        return
    match payload:
        case Sparse() | Seeded():
            out_D[payload.index_K] += weight * payload.value.value_D
        case _:
            out_D += weight * payload.dense()


def merged(
    method: Mergeable, sizes: tuple[int, ...], said: Iterable[tuple[Counted, Iterable[Piece]]], weights: Weights
) -> tuple[Mean, ...]:
    """What the server's half takes for the means of a round.

    Args:
        method: of the run.
        sizes: of the parts of an uplink.
        said: what was counted, by worker, ascending; coordinates are added in this order.
        weights: see the module.
    """
    sums, total = [np.zeros(size) for size in sizes], 0
    for entry, pieces in said:
        weight = entry.samples if weights == "samples" else 1
        total += weight
        for part, start, payload in pieces:
            _add(sums[part][start : start + payload.dimension], payload, weight * method.late_weight(entry.age))
    for sum_D in sums:
        np.divide(sum_D, total, out=sum_D)
    return tuple(Mean(len(sum_D), sum_D) for sum_D in sums)


def _pieces(message: Message) -> list[Piece]:
    return [(part, 0, payload) for part, payload in enumerate(message.parts)]


class _Worker:
    """A worker's own half, and where it makes its next uplink."""

    def __init__(self, method: AnyMethod, replica: Any, round_: int) -> None:
        self.own, self.replica, self.round = method.init_worker(replica), replica, round_


def replayed(
    problem: Problem,
    method: AnyMethod,
    log: Sequence[Arrivals],
    *,
    seed: int,
    weights: Weights,
    wire: Wire,
    keeps_uplinks: bool = True,
) -> Any:
    """The replica after a recorded run, to the bits of that run: who came when is taken from the log, all else follows.

    Args:
        problem: of the run; its operators are functions, as those of every problem.
        method: with the numbers of the run.
        log: one entry a round, from round 0.
        seed: of the run.
        weights: of the run.
        wire: that messages pass through.
        keeps_uplinks: whether an uplink that was not counted is sent again later; else its step is undone (docs/secure.md).

    Raises:
        StateError: the log does not add up.
        ConfigError: it is no method whose rounds can be merged.
    """
    mergeable = require_mergeable(method, "a log of arrivals")
    replica = method.init_replica(problem.start())
    server = method.init_server(replica)
    workers = [_Worker(method, replica, 0) for _ in range(problem.num_workers)]
    for number, arrivals in enumerate(log):
        if arrivals.round != number:
            raise StateError(f"the log of arrivals has round {arrivals.round} where {number} is due")
        for rank in arrivals.joined:
            workers[rank] = _Worker(method, replica, number)
        draws, said = Draws(seed, number, SERVER), []
        for entry in arrivals.counted:
            worker = workers[entry.worker]
            if worker.round != number - entry.age:
                made = number - entry.age
                raise StateError(f"round {number} counts worker {entry.worker} of round {made}, not {worker.round}")
            mine = Draws(seed, worker.round, entry.worker)
            operator = problem.operator(entry.worker)
            worker.own, up = method.worker_step(worker.replica, worker.own, operator, mine)
            up, _ = wire.carry(up, method.uplink_sizes(worker.replica, mine.of(SERVER)), mine)
            said.append((entry, _pieces(up)))
        means = merged(mergeable, method.uplink_sizes(replica, draws), said, weights)
        server, down = method.server_step(replica, server, means, draws)
        down, _ = wire.carry(down, method.downlink_sizes(replica, draws), draws)
        replica = method.replay(replica, down, draws)
        if not keeps_uplinks:
            for worker in workers:
                worker.replica, worker.round = replica, number + 1
        for entry in arrivals.counted:
            workers[entry.worker].replica, workers[entry.worker].round = replica, number + 1
    return replica
