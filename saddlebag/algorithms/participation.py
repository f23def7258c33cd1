"""Partial participation: who takes part in a round, and how those who did not catch up.

A method whose workers may idle (`Selective`) says who takes part, as a function of (replica, shared draws, members), so that
everybody knows it beforehand and no message says so. The mean of a round is over its participants: a weight of 1/M for b of
M cannot be written down. A method without `select` has everybody take part in every round.

A participant receives the downlink of its round; an idle worker receives nothing. When it is selected again it is brought to
the present first, by the downlinks it missed or by a *catch-up*, whichever has fewer bytes: the fields of the replica that
rounds with idle workers change, exactly, as float64. `Arrears` decides, and all drivers count by it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from saddlebag.algorithms.base import AnyMethod, Message
from saddlebag.algorithms.state import Arrays, pack, unpack
from saddlebag.compression import Dense

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from saddlebag.compression import Draws

__all__ = ["Selective", "participants"]


@runtime_checkable
class Selective(Protocol):
    """What a method adds to the contract when not every worker takes part in every round.

    Example:
        >>> class Everybody:
        ...     drifting = ("z_D",)
        ...
        ...     def select(self, replica, draws, members):
        ...         return members
        >>> isinstance(Everybody(), Selective)
        True
    """

    @property
    def drifting(self) -> tuple[str, ...]:
        """The names that `pack` gives to what rounds with idle workers may change; the rest changes in full rounds only."""

    def select(self, replica: Any, draws: Draws, members: tuple[int, ...]) -> tuple[int, ...]:
        """The members that take part, ascending; all of them in a round that synchronises."""


def participants(method: AnyMethod, replica: Any, draws: Draws, members: tuple[int, ...]) -> tuple[int, ...]:
    """Who takes part in this round.

    Example:
        >>> import saddlebag as sb
        >>> from saddlebag.compression import Draws
        >>> game = sb.make_problem("bilinear", n=2, workers=4)
        >>> method = sb.make_method("masha1", game, participants=2, up="identity", down="identity", step_size=0.1)
        >>> replica = method.init_replica(game.start())
        >>> participants(method, replica, Draws(0, 0), (0, 1, 2, 3))  # the first round synchronises: all of them
        (0, 1, 2, 3)
    """
    return method.select(replica, draws, members) if isinstance(method, Selective) else members


def _split(method: Selective, replica: Any) -> tuple[Arrays, Arrays]:
    """The drifting vectors and the drifting numbers by name."""
    arrays = pack(replica)
    drifting = {name: arrays[name] for name in method.drifting}
    vectors = {name: array for name, array in drifting.items() if array.ndim}
    return vectors, {name: array for name, array in drifting.items() if not array.ndim}


def catch_up_sizes(method: Selective, replica: Any) -> tuple[int, ...]:
    """The dimension of each part of a catch-up."""
    vectors, numbers = _split(method, replica)
    return tuple(map(len, vectors.values())) + (len(numbers),) * bool(numbers)


def catch_up(method: Selective, replica: Any) -> Message:
    """What brings a worker that was idle to this replica: the drifting vectors, then the drifting numbers, all float64."""
    vectors, numbers = _split(method, replica)
    parts = [Dense(vector) for vector in vectors.values()]
    if numbers:
        parts.append(Dense(np.array([float(number) for number in numbers.values()])))
    return Message(tuple(parts))


def caught_up(method: Selective, replica: Any, message: Message) -> Any:
    """The replica of a worker that was idle, brought to the present by a catch-up."""
    vectors, numbers = _split(method, replica)
    values: Arrays = {name: part.dense() for name, part in zip(vectors, message.parts, strict=False)}
    if numbers:
        for (name, number), value in zip(numbers.items(), message.parts[-1].dense(), strict=True):
            values[name] = np.asarray(value, dtype=number.dtype)
    return unpack(replica, pack(replica) | values)


class Arrears:
    """What each worker has yet to receive: the boundary to which it was brought, and the bytes of all downlinks till then."""

    def __init__(self, num_workers: int) -> None:
        self._total = 0  # bytes of one copy of every downlink so far
        self._marks = [(0, 0)] * num_workers

    def boundary(self, worker: int) -> int:
        """The round before which the worker stands."""
        return self._marks[worker][0]

    def costs(self, workers: Iterable[int], round_: int, catch_up_bytes: int) -> dict[int, tuple[int, bool]]:
        """For each of the workers that is behind `round_`: the bytes that bring it there, and whether a catch-up does."""
        behind = {worker: self._total - mark for worker in workers for at, mark in [self._marks[worker]] if at < round_}
        return {worker: (min(owed, catch_up_bytes), catch_up_bytes < owed) for worker, owed in behind.items()}

    def receive(self, workers: Iterable[int], round_: int, downlink_bytes: int) -> None:
        """The downlink before the boundary `round_` goes to these workers."""
        self._total += downlink_bytes
        for worker in workers:
            self._marks[worker] = (round_, self._total)

    def reset(self, round_: int) -> None:
        """Everybody stands at this boundary: the start of an epoch."""
        self._marks = [(round_, self._total)] * len(self._marks)

    def as_dict(self) -> dict[str, Any]:
        return {"total": self._total, "marks": self._marks}

    def restore(self, values: Mapping[str, Any]) -> None:
        """Take what `as_dict` gave; KeyError, TypeError or ValueError when it is none."""
        marks = [(int(round_), int(total)) for round_, total in values["marks"]]
        if len(marks) != len(self._marks):
            raise ValueError("the arrears of the workers do not add up")
        self._total, self._marks = int(values["total"]), marks
