"""A worker of several servers, each of which carries a slice of the coordinates: one `WorkerCore` a slice, which meet.

They meet at every boundary, and whenever their steps ask the operator, which is asked once at the whole point. So no slice is
ever more than one round ahead of another. Where they stand at different boundaries, for a server has come back with an older
checkpoint, the later ones go back to the earliest: they join again, and their servers replay what they need from there.

Each core's step runs in a thread of its own, which waits here; the operator is asked in the thread that comes last.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.client.core import WorkerCore
from saddlebag.client.ending import Leaving
from saddlebag.errors import BrokenStream

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from saddlebag.algorithms import AnyMethod, Operator
    from saddlebag.client.keeping import Checkpoints
    from saddlebag.compression import Draws, Vector
    from saddlebag.proto.reader import Buffer

__all__ = ["GoBack", "Meeting", "SliceCore"]


class GoBack(BrokenStream):
    """Another slice of this worker stands at an earlier boundary: this one is to join again from there."""

    def __init__(self, number: int, round_: int, here: int) -> None:
        super().__init__(f"slice {number} stands at round {here}, another one at round {round_}: it goes back")
        self.round = round_


class Meeting:
    """Where the slices of one worker wait for each other.

    Args:
        slices: of the coordinates, in order.
        operator: of the worker, for whole points.
        watch: called at each boundary at which all slices stand, with its round; returns whether the run ends there.
    """

    def __init__(
        self, slices: Sequence[slice], operator: Operator, watch: Callable[[int], bool] = lambda round_: False
    ) -> None:
        self._slices, self._operator, self._watch = slices, operator, watch
        self._changed = threading.Condition()
        self._here: dict[int, tuple[tuple[int, int], Any]] = {}  # slice -> ((round, which meeting of it), what it brings)
        self._answers: dict[int, Any] = {}
        self.over = False

    def end(self) -> None:
        """The run is over for one slice, and so for all: whoever waits here, or comes later, leaves."""
        with self._changed:
            self.over = True
            self._changed.notify_all()

    def earliest(self) -> int | None:
        """The boundary at which the first of those stands that wait at one; None where nobody does."""
        with self._changed:
            return min((round_ for (round_, time), _ in self._here.values() if time == 0), default=None)

    def boundary(self, number: int, round_: int) -> None:
        """Wait until all slices stand at this boundary.

        Raises:
            GoBack: another one stands at an earlier boundary.
            Leaving: the run ends here.
        """
        self._meet(number, (round_, 0), None, lambda _: self._begun(round_))

    def ask(self, number: int, point_E: Vector, draws: Draws, time: int) -> Vector:
        """The slice of the operator's value at the point whose slices all bring; `time` counts from 1 in each step."""
        place = draws.round & (1 << 48) - 1, time  # the upper bits count steps within a round
        value_E: Vector = self._meet(number, place, point_E, lambda points: self._asked(points, draws))
        return value_E

    def _begun(self, round_: int) -> list[Any]:
        if self._watch(round_):
            self.end()
            raise Leaving
        return [None] * len(self._slices)

    def _asked(self, points: list[Vector], draws: Draws) -> list[Vector]:
        value_D = self._operator(np.concatenate(points), draws)
        return [value_D[here] for here in self._slices]

    def _meet(self, number: int, place: tuple[int, int], brings: Any, act: Callable[[list[Any]], list[Any]]) -> Any:
        """Wait for the others; the last one to come acts for all."""
        with self._changed:
            if self.over:
                raise Leaving
            self._here[number] = place, brings
            brought = self._all_here()
        if brought is not None:
            try:
                answers = act(brought)
            except Exception as error:  # it is everybody's
                answers = [error] * len(self._slices)
            with self._changed:
                self._answers.update(enumerate(answers))
                self._changed.notify_all()
        with self._changed:
            self._changed.wait_for(lambda: number in self._answers or self.over)
            if number not in self._answers:
                self._here.pop(number, None)
                raise Leaving
            answer = self._answers.pop(number)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _all_here(self) -> list[Any] | None:
        """What the slices bring, where all have come to one place; those at a later one are told where the first stands."""
        if len(self._here) < len(self._slices):
            return None
        first = min(place for place, _ in self._here.values())
        later = [number for number, (place, _) in self._here.items() if place > first]
        for number in later:
            (here, _), _ = self._here.pop(number)
            self._answers[number] = GoBack(number, first[0], here)
        if later:
            self._changed.notify_all()
            return None
        brought = [self._here[number][1] for number in range(len(self._slices))]
        self._here.clear()
        return brought


class SliceCore(WorkerCore):
    """The half of a worker for one slice; `saddlebag.client.shards`.

    Args:
        method: on the slice.
        meeting: with the worker's other slices.
        number: of the slice.
        start: where the slice begins, as of `WorkerCore`.
        store: its checkpoints, if any: those after the boundary to which it goes back are forgotten.
    """

    def __init__(
        self,
        method: AnyMethod,
        meeting: Meeting,
        number: int,
        start: Callable[[], Vector],
        *,
        worker: int,
        seed: int,
        store: Checkpoints | None = None,
    ) -> None:
        super().__init__(method, self._ask, start, worker=worker, seed=seed)
        self._meeting, self._number, self._store, self._times = meeting, number, store, 0
        self._made: tuple[list[Buffer], int | None] | None = None  # by the step in progress: to make it again takes all slices

    def _ask(self, point_E: Vector, draws: Draws) -> Vector:
        self._times += 1
        return self._meeting.ask(self._number, point_E, draws, self._times)

    def step(self) -> tuple[list[Buffer], int | None]:
        """As of `WorkerCore`, together with the other slices.

        Raises:
            GoBack: this slice is to join again from an earlier boundary, to which it holds the state, if to any.
            Leaving: the run is over.
        """
        if self._next is not None and self._made is not None:  # it has passed this boundary, and sends again
            return self._made
        try:
            self._meeting.boundary(self._number, self.round)
            self._times = 0
            self._made = super().step()
            return self._made
        except GoBack as back:
            self._forget(back)
            raise

    def recalled(self) -> str:
        """Why this slice, which waits for its server, is to join again: another one stands at an earlier boundary; or nothing.

        Its server may wait for another worker, and that worker for the other slice's server.
        """
        first = self._meeting.earliest()
        if first is None or first >= self.round:
            return ""
        self._forget(back := GoBack(self._number, first, self.round))
        return str(back)

    def _forget(self, back: GoBack) -> None:
        """What was after the boundary to go back to; a narrow method may have changed what it had here."""
        self.placed = False
        if self._store is not None:
            self._store.forget_after(back.round)
